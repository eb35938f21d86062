"""Rewriting a file of the journal: the rows that stay, in their order, and nothing in between is ever visible."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import closing
from pathlib import Path

from processor.output.block_reader import entry_in, lines
from processor.output.index_entry import IndexEntry
from processor.output.storage import Mode, Storage, StorageFile

Keeps = Callable[[IndexEntry], bool]


def compact(disk: Storage, path: Path, *, replies: bool, keeps: Keeps) -> int:
    """Write the rows that stay to a new file and put it in the place of the old one. Returns how many they are."""

    def stays(raw: bytes) -> bool:
        entry = entry_in(raw, replies=replies)
        return entry is not None and keeps(entry)

    count = _copy(disk, path, temp_path(path), "new", stays)
    disk.replace(temp_path(path), path)
    return count


def quarantine(disk: Storage, path: Path, damaged: Path, *, replies: bool) -> None:
    """Append the lines that are no rows to another file, so that ``compact`` loses none."""

    def broken(raw: bytes) -> bool:
        return raw.endswith(b"\n") and bool(raw.strip()) and entry_in(raw, replies=replies) is None

    _copy(disk, path, damaged, "append", broken)
    disk.sync_folder(damaged)


def temp_path(path: Path) -> Path:
    """The temporary file. What a crash left there is of no use."""
    # Beside the file itself, where the path is a link: a rename does not reach another disk.
    path = path.resolve()
    return path.with_name(path.name + ".compacting")


def write_all(file: StorageFile, data: bytes) -> None:
    """Complete short writes. Raises OSError."""
    rest = memoryview(data)
    while rest:
        rest = rest[file.write(rest) :]


def _copy(disk: Storage, source: Path, target: Path, mode: Mode, wanted: Callable[[bytes], bool]) -> int:
    with closing(disk.open(source, "read")) as old, closing(disk.open(target, mode)) as new:
        count = 0
        if (size := new.size()) and new.read(size - 1, 1) != b"\n":
            write_all(new, b"\n")
        for raws in lines(old, 0, old.size()):
            chosen = [raw if raw.endswith(b"\n") else raw + b"\n" for raw in raws if wanted(raw)]
            count += len(chosen)
            write_all(new, b"".join(chosen))
        new.sync()
        return count
