"""The local disk and the disk in memory behave the same."""

from __future__ import annotations

import errno
import os
from pathlib import Path
from random import Random

import pytest

from processor.output.storage import LocalStorage, Storage
from processor.simulator.fault_injecting_storage import (
    DiskState,
    FaultInjectingStorage,
    Killed,
    StorageFault,
    fail_at_step,
    os_error,
)


@pytest.fixture(params=["local", "in memory"])
def place(request: pytest.FixtureRequest, tmp_path: Path) -> tuple[Storage, Path]:
    """A storage, and a folder in it."""
    if request.param == "local":
        return LocalStorage(), tmp_path
    return FaultInjectingStorage(DiskState()), Path("/out")


def test_appended_data_is_read_and_truncated(place: tuple[Storage, Path]) -> None:
    storage, folder = place
    file = storage.open(folder / "f", "append")
    assert [file.write(b"abc"), file.write(b"defg")] == [3, 4]
    file.sync()
    file.truncate(5)
    file.write(b"!")
    assert (file.size(), file.read(0, 100), file.read(2, 2), file.read(9, 2)) == (6, b"abcde!", b"cd", b"")
    file.close()
    again = storage.open(folder / "f", "append")
    again.write(b"?")
    assert again.read(0, 100) == b"abcde!?"
    again.close()


def test_write_at_extends_the_file(place: tuple[Storage, Path]) -> None:
    storage, folder = place
    file = storage.open(folder / "f", "update")
    file.write_at(4, b"xy")
    file.write_at(1, b"z")
    assert file.read(0, 100) == b"\0z\0\0xy"
    file.close()


def test_new_file_is_empty_and_replaces_the_old_one(place: tuple[Storage, Path]) -> None:
    storage, folder = place
    for name, text in (("old", b"old"), ("new", b"left over")):
        file = storage.open(folder / name, "append")
        file.write(text)
        file.close()
    old = storage.open(folder / "old", "read")
    fresh = storage.open(folder / "new", "new")
    fresh.write(b"new")
    fresh.close()
    assert old.links() == 1 and storage.leads_to(folder / "old", old)
    storage.replace(folder / "new", folder / "old")
    assert old.links() == 0 and not storage.leads_to(folder / "old", old)
    assert old.read(0, 9) == b"old"
    old.close()
    after = storage.open(folder / "old", "read")
    assert after.read(0, 9) == b"new"
    after.close()
    assert not storage.exists(folder / "new")
    storage.remove(folder / "old")
    storage.sync_folder(folder / "old")
    assert not storage.exists(folder / "old")


def test_reading_a_missing_file_raises_enoent(place: tuple[Storage, Path]) -> None:
    storage, folder = place
    with pytest.raises(OSError) as caught:
        storage.open(folder / "none", "read")
    assert caught.value.errno == errno.ENOENT


def test_lock_is_exclusive_until_the_file_is_closed(place: tuple[Storage, Path]) -> None:
    storage, folder = place
    first, second = storage.open(folder / "s", "update"), storage.open(folder / "s", "update")
    assert first.lock()
    assert not second.lock()
    first.close()
    assert second.lock()
    second.close()


def test_free_bytes_are_reported(place: tuple[Storage, Path]) -> None:
    storage, folder = place
    assert storage.free_bytes(folder / "f") > 1_000_000


def test_device_is_not_opened_as_a_file() -> None:
    fd = os.open("/dev/full", os.O_WRONLY)
    try:
        with pytest.raises(OSError) as caught:
            os.write(fd, b"x")
        assert caught.value.errno == errno.ENOSPC
    finally:
        os.close(fd)
    with pytest.raises(OSError, match="not a regular file"):
        LocalStorage().open(Path("/dev/full"), "append")


def test_short_write_at_raises_enospc(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = LocalStorage().open(tmp_path / "s", "update")
    monkeypatch.setattr(os, "pwrite", lambda *_: 1)
    with pytest.raises(OSError, match="No space left"):
        file.write_at(0, b"abc")
    file.close()


# ---------------------------------------------------------------- only in memory


def write(storage: FaultInjectingStorage, path: Path, data: bytes, *, sync: bool = False) -> None:
    file = storage.open(path, "append")
    file.write(data)
    if sync:
        file.sync()


def test_killed_process_keeps_its_writes_and_changes_nothing_more() -> None:
    disk_state, path = DiskState(), Path("/out/f")
    storage = FaultInjectingStorage(disk_state, fail_at_step(3, StorageFault(Killed(), 0.5)))
    write(storage, path, b"before")
    with pytest.raises(Killed):
        storage.open(path, "append")
    with pytest.raises(OSError):
        storage.open(path, "append")
    assert disk_state.contents(path) == b"before"
    file = FaultInjectingStorage(disk_state).open(path, "update")
    assert file.lock()


def test_lock_ends_with_its_process() -> None:
    disk_state, path = DiskState(), Path("/out/s")
    storage = FaultInjectingStorage(disk_state, fail_at_step(3, StorageFault(Killed())))
    assert storage.open(path, "update").lock()
    other = FaultInjectingStorage(disk_state).open(path, "update")
    assert not other.lock()
    with pytest.raises(Killed):
        storage.sync_folder(path)
    assert other.lock()


def test_power_loss_keeps_synced_data_and_a_part_of_the_rest() -> None:
    kept = set()
    for seed in range(40):
        disk_state, path = DiskState(), Path("/out/f")
        storage = FaultInjectingStorage(disk_state)
        write(storage, path, b"safe", sync=True)
        storage.sync_folder(path)
        write(storage, path, b"perhaps")
        disk_state.lose_power(Random(seed))
        data = disk_state.contents(path) or b""
        assert data.startswith(b"safe")
        assert b"safeperhaps".startswith(data.rstrip(b"\0"))
        kept.add(data)
    assert len(kept) > 5


def test_power_loss_may_drop_names_in_an_unsynced_folder() -> None:
    found = set()
    for seed in range(20):
        disk_state, path = DiskState(), Path("/out/f")
        write(FaultInjectingStorage(disk_state), path, b"x", sync=True)
        disk_state.lose_power(Random(seed))
        found.add(disk_state.contents(path))
    assert found == {None, b"x"}


def test_power_loss_keeps_an_overwrite_whole_or_not_at_all() -> None:
    found = set()
    for seed in range(20):
        disk_state, path = DiskState(), Path("/out/s")
        disk_state.put(path, b"old")
        FaultInjectingStorage(disk_state).open(path, "update").write_at(0, b"new")
        disk_state.lose_power(Random(seed))
        found.add(disk_state.contents(path))
    assert found == {b"old", b"new"}


def test_full_disk_accepts_what_fits_and_then_raises_enospc() -> None:
    disk_state = DiskState(capacity_bytes=5)
    file = FaultInjectingStorage(disk_state).open(Path("/out/f"), "append")
    assert file.write(b"abcdefgh") == 5
    with pytest.raises(OSError) as caught:
        file.write(b"fgh")
    assert caught.value.errno == errno.ENOSPC
    assert FaultInjectingStorage(disk_state).free_bytes(Path("/out/f")) == 0


def test_fault_may_write_a_part_before_it_raises() -> None:
    disk_state = DiskState()
    storage = FaultInjectingStorage(
        disk_state, lambda _, operation: StorageFault(os_error(errno.EIO), 0.5) if operation == "write" else None
    )
    with pytest.raises(OSError, match="Input/output"):
        write(storage, Path("/out/f"), b"abcd")
    assert disk_state.contents(Path("/out/f")) == b"ab"
    state = FaultInjectingStorage(disk_state, fail_at_step(2, StorageFault(None, 0.5))).open(Path("/out/s"), "update")
    with pytest.raises(OSError, match="No space left"):
        state.write_at(0, b"abcd")
    assert disk_state.contents(Path("/out/s")) == b"ab"
    assert storage.steps == 2
