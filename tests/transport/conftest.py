"""Lets the tests of this folder import ``transport_server``."""

import sys
from pathlib import Path

sys.path.append(str(Path(__file__).parent))
