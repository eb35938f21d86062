"""Lets the tests of this folder import ``results_samples``."""

import sys
from pathlib import Path

sys.path.append(str(Path(__file__).parent))
