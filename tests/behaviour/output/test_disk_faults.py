"""The real disk and the one in memory keep the same promises."""

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
    refusal,
)


@pytest.fixture(params=["real", "in memory"])
def place(request, tmp_path) -> tuple[Storage, Path]:
    return (LocalStorage(), tmp_path) if request.param == "real" else (FaultInjectingStorage(DiskState()), Path("/out"))


def test_what_is_appended_is_read_and_cut(place):
    disk, folder = place
    file = disk.open(folder / "f", "append")
    assert [file.write(b"abc"), file.write(b"defg")] == [3, 4]
    file.sync()
    file.truncate(5)
    file.write(b"!")
    assert (file.size(), file.read(0, 100), file.read(2, 2), file.read(9, 2)) == (6, b"abcde!", b"cd", b"")
    file.close()
    again = disk.open(folder / "f", "append")
    again.write(b"?")
    assert again.read(0, 100) == b"abcde!?"
    again.close()


def test_what_is_written_in_place_grows_the_file_where_needed(place):
    disk, folder = place
    file = disk.open(folder / "f", "update")
    file.write_at(4, b"xy")
    file.write_at(1, b"z")
    assert file.read(0, 100) == b"\0z\0\0xy"
    file.close()


def test_a_new_file_is_empty_and_replaces_the_old_one_in_one_step(place):
    disk, folder = place
    for name, text in (("old", b"old"), ("new", b"left over")):
        file = disk.open(folder / name, "append")
        file.write(text)
        file.close()
    old = disk.open(folder / "old", "read")
    fresh = disk.open(folder / "new", "new")
    fresh.write(b"new")
    fresh.close()
    assert not old.is_deleted()
    disk.replace(folder / "new", folder / "old")
    assert old.is_deleted()
    assert old.read(0, 9) == b"old"
    old.close()
    after = disk.open(folder / "old", "read")
    assert after.read(0, 9) == b"new"
    after.close()
    assert not disk.exists(folder / "new")
    disk.remove(folder / "old")
    disk.sync_folder(folder / "old")
    assert not disk.exists(folder / "old")


def test_a_missing_file_cannot_be_read(place):
    disk, folder = place
    with pytest.raises(OSError) as caught:
        disk.open(folder / "none", "read")
    assert caught.value.errno == errno.ENOENT


def test_a_lock_is_held_by_one_until_it_closes(place):
    disk, folder = place
    first, second = disk.open(folder / "s", "update"), disk.open(folder / "s", "update")
    assert first.lock()
    assert not second.lock()
    first.close()
    assert second.lock()
    second.close()


def test_there_is_room(place):
    disk, folder = place
    assert disk.free_bytes(folder / "f") > 1_000_000


def test_a_full_device_is_told_by_the_real_disk():
    fd = os.open("/dev/full", os.O_WRONLY)
    try:
        with pytest.raises(OSError) as caught:
            os.write(fd, b"x")
        assert caught.value.errno == errno.ENOSPC
    finally:
        os.close(fd)
    with pytest.raises(OSError, match="not a regular file"):
        LocalStorage().open(Path("/dev/full"), "append")


def test_a_write_in_place_that_comes_out_short_is_an_error(tmp_path, monkeypatch):
    file = LocalStorage().open(tmp_path / "s", "update")
    monkeypatch.setattr(os, "pwrite", lambda *_: 1)
    with pytest.raises(OSError, match="No space left"):
        file.write_at(0, b"abc")
    file.close()


# ---------------------------------------------------------------- only in memory


def write(disk: FaultInjectingStorage, path: Path, data: bytes, *, sync: bool = False) -> None:
    file = disk.open(path, "append")
    file.write(data)
    if sync:
        file.sync()


def test_a_killed_process_leaves_what_it_wrote_and_touches_nothing_more():
    platter, path = DiskState(), Path("/out/f")
    disk = FaultInjectingStorage(platter, fail_at_step(3, StorageFault(Killed(), 0.5)))
    write(disk, path, b"before")
    with pytest.raises(Killed):
        disk.open(path, "append")
    with pytest.raises(OSError):
        disk.open(path, "append")
    assert platter.contents(path) == b"before"
    file = FaultInjectingStorage(platter).open(path, "update")
    assert file.lock()


def test_a_lock_ends_with_its_process():
    platter, path = DiskState(), Path("/out/s")
    disk = FaultInjectingStorage(platter, fail_at_step(3, StorageFault(Killed())))
    assert disk.open(path, "update").lock()
    other = FaultInjectingStorage(platter).open(path, "update")
    assert not other.lock()
    with pytest.raises(Killed):
        disk.sync_folder(path)
    assert other.lock()


def test_lost_power_keeps_what_was_synced_and_some_of_the_rest():
    kept = set()
    for seed in range(40):
        platter, path = DiskState(), Path("/out/f")
        disk = FaultInjectingStorage(platter)
        write(disk, path, b"safe", sync=True)
        disk.sync_folder(path)
        write(disk, path, b"perhaps")
        platter.lose_power(Random(seed))
        data = platter.contents(path) or b""
        assert data.startswith(b"safe")
        assert b"safeperhaps".startswith(data.rstrip(b"\0"))
        kept.add(data)
    assert len(kept) > 5


def test_lost_power_forgets_names_whose_folder_was_not_synced():
    found = set()
    for seed in range(20):
        platter, path = DiskState(), Path("/out/f")
        write(FaultInjectingStorage(platter), path, b"x", sync=True)
        platter.lose_power(Random(seed))
        found.add(platter.contents(path))
    assert found == {None, b"x"}


def test_a_change_in_the_middle_is_there_or_not():
    found = set()
    for seed in range(20):
        platter, path = DiskState(), Path("/out/s")
        platter.put(path, b"old")
        FaultInjectingStorage(platter).open(path, "update").write_at(0, b"new")
        platter.lose_power(Random(seed))
        found.add(platter.contents(path))
    assert found == {b"old", b"new"}


def test_a_full_disk_takes_what_fits_and_then_nothing():
    platter = DiskState(capacity_bytes=5)
    file = FaultInjectingStorage(platter).open(Path("/out/f"), "append")
    assert file.write(b"abcdefgh") == 5
    with pytest.raises(OSError) as caught:
        file.write(b"fgh")
    assert caught.value.errno == errno.ENOSPC
    assert FaultInjectingStorage(platter).free_bytes(Path("/out/f")) == 0


def test_a_fault_may_do_part_of_a_write_first():
    platter = DiskState()
    disk = FaultInjectingStorage(
        platter, lambda _, operation: StorageFault(refusal(errno.EIO), 0.5) if operation == "write" else None
    )
    with pytest.raises(OSError, match="Input/output"):
        write(disk, Path("/out/f"), b"abcd")
    assert platter.contents(Path("/out/f")) == b"ab"
    state = FaultInjectingStorage(platter, fail_at_step(2, StorageFault(None, 0.5))).open(Path("/out/s"), "update")
    with pytest.raises(OSError, match="No space left"):
        state.write_at(0, b"abcd")
    assert platter.contents(Path("/out/s")) == b"ab"
    assert disk.steps == 2
