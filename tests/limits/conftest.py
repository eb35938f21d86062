"""Lets the tests of this folder import ``limits_world``."""

import sys
from pathlib import Path

sys.path.append(str(Path(__file__).parent))
