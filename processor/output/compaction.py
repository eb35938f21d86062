"""Rewrites a file of rows: the rows that stay, in their order. A crash leaves the old file or the new one."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import closing
from pathlib import Path

from processor.output.block_reader import read_lines, row_entry
from processor.output.index_entry import IndexEntry
from processor.output.storage import OpenMode, Storage, write_all


def compact(storage: Storage, path: Path, *, replies: bool, should_keep: Callable[[IndexEntry], bool]) -> int:
    """Replace a file by one with only the rows to keep. Return their number. Raises OSError.

    ``should_keep`` is called once for each row, in the order of the file.
    """

    def is_kept(raw: bytes) -> bool:
        entry = row_entry(raw, replies=replies)
        return entry is not None and should_keep(entry)

    count = _copy(storage, path, temp_path(path), "new", is_kept)
    storage.replace(temp_path(path), path)
    return count


def quarantine(storage: Storage, path: Path, damaged: Path, *, replies: bool) -> None:
    """Append the lines that are not rows to the file ``damaged``, before ``compact`` drops them. Raises OSError."""

    def is_damaged(raw: bytes) -> bool:
        return raw.endswith(b"\n") and bool(raw.strip()) and row_entry(raw, replies=replies) is None

    _copy(storage, path, damaged, "append", is_damaged)
    storage.sync_folder(damaged)


def temp_path(path: Path) -> Path:
    """Return the path of the temporary file. One that a crash left can be deleted."""
    # Where the path is a link, the temporary file stands beside its target: a rename cannot cross file systems.
    path = path.resolve()
    return path.with_name(path.name + ".compacting")


def _copy(storage: Storage, source: Path, target: Path, mode: OpenMode, is_wanted: Callable[[bytes], bool]) -> int:
    with closing(storage.open(source, "read")) as old, closing(storage.open(target, mode)) as new:
        count = 0
        if (size := new.size()) and new.read(size - 1, 1) != b"\n":
            write_all(new.write, b"\n")
        for raws in read_lines(old, 0, old.size()):
            wanted = [raw if raw.endswith(b"\n") else raw + b"\n" for raw in raws if is_wanted(raw)]
            count += len(wanted)
            write_all(new.write, b"".join(wanted))
        new.sync()
        return count
