"""Shrinks the hash tables so that the tests of this folder are quick."""

import pytest

from processor.output import compact_hash_table


@pytest.fixture(autouse=True)
def small_tables(monkeypatch: pytest.MonkeyPatch) -> None:
    """Make small hash tables: these tests create thousands of them, and each takes 8 MB from the start."""
    monkeypatch.setattr(compact_hash_table, "_CHAINS", 1 << 12)
