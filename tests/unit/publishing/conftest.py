"""Spares the tests of this folder what takes long and is tested elsewhere."""

import pytest

from processor.core import platform


@pytest.fixture(autouse=True)
def no_fsync(monkeypatch: pytest.MonkeyPatch) -> None:
    """Do not wait for the disk: these tests kill processes, and lose no power."""
    monkeypatch.setattr(platform, "sync_file", lambda file_descriptor: None)
    monkeypatch.setattr(platform, "sync_folder", lambda folder: None)
