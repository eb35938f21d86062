"""Shrinks the hash tables so that the tests of this folder are quick."""

import pytest

from processor.output import compact_hash_table


@pytest.fixture(autouse=True)
def small_tables(monkeypatch):
    """These tests make thousands of tables, and each takes 8 MB from the start."""
    monkeypatch.setattr(compact_hash_table, "_CHAINS", 1 << 12)
