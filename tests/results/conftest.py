"""Lets the tests of this folder import ``results_samples``, and makes them quick."""

import sys
from pathlib import Path

import pytest

from processor.results import table

sys.path.append(str(Path(__file__).parent))


@pytest.fixture(autouse=True)
def small_tables(monkeypatch):
    """These tests make thousands of tables, and each takes 8 MB from the start."""
    monkeypatch.setattr(table, "_CHAINS", 1 << 12)
