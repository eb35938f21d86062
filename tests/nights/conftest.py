"""Lets the tests of this folder import one another, and ``pipeline_world``."""

import sys
from pathlib import Path

HERE = Path(__file__).parent
sys.path += [str(HERE), str(HERE.parent / "pipeline")]
