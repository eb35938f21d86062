"""Shrinks the hash tables so that the tests of this folder are quick."""

import pytest

from processor.core import platform
from processor.output import compact_hash_table


@pytest.fixture(autouse=True)
def small_tables(monkeypatch: pytest.MonkeyPatch) -> None:
    """Make small hash tables: these tests create thousands of them, and each takes 8 MB from the start."""
    monkeypatch.setattr(compact_hash_table, "_CHAINS", 1 << 12)


@pytest.fixture(autouse=True)
def no_fsync(monkeypatch: pytest.MonkeyPatch) -> None:
    """Do not wait for the disk: these tests kill processes, and lose no power."""
    monkeypatch.setattr(platform, "sync_file", lambda file_descriptor: None)
    monkeypatch.setattr(platform, "sync_folder", lambda folder: None)
