"""Rewrites a file of rows: the rows that stay, in their order. A crash leaves the old file or the new one.

The new file is written beside the old one, locked and synced, and then takes its name. Where the file system refuses
that, the new file is renamed to ``<name>.compacted``, which says that it is whole, and copied over the old one; after a
crash the next run copies it again.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import closing
from pathlib import Path

from processor.core.money import RowCosts
from processor.output.block_reader import packed_entry, read_lines, row_entry
from processor.output.index_entry import IndexEntry, unpack_entry
from processor.output.storage import CANNOT_REPLACE, IN_PLACE, Storage, StorageFile, write_all

COPY_BYTES = 1 << 20


def compact(
    storage: Storage,
    path: Path,
    should_keep: Callable[[IndexEntry], bool],
    record_dropped: Callable[[int], None],
    *,
    replies: bool,
) -> tuple[int, StorageFile | None]:
    """Replace a file by one with only the rows to keep. Return their number, and the new file. Raises OSError.

    The new file is open and locked: a run that opens it by its name finds it locked from the first moment on. None
    where the old file was overwritten instead. ``should_keep`` is called once for each row, in the order of the file.
    ``record_dropped`` is called with what the rows have cost that are dropped (in 1e-12 USD), before they are gone.
    """
    dropped = RowCosts()

    def is_kept(raw: bytes) -> bool:
        costs = RowCosts()
        packed = packed_entry(raw, replies=replies, costs=costs)
        if packed is None:
            return False
        if should_keep(unpack_entry(packed)):
            return True
        dropped.add_all(costs)
        return False

    temp = temp_path(path)
    new = storage.open(temp, "new")
    try:
        new.lock()
        count = _copy_lines(storage, path, new, is_kept)
        if dropped.pico:
            record_dropped(dropped.pico)
        if not storage.can_replace_open_files:
            new.close()
        storage.replace(temp, path)
    except OSError as error:
        new.close()
        if error.errno not in CANNOT_REPLACE or not storage.exists(temp):
            raise
        storage.note_weakness(IN_PLACE)
        storage.replace(temp, compacted_path(path))
        overwrite_from_compacted(storage, path)
        return count, None
    return count, new if storage.can_replace_open_files else None


def overwrite_from_compacted(storage: Storage, path: Path) -> None:
    """Copy ``<name>.compacted``, which is whole, over the file, and remove it. Raises OSError.

    The new content is not longer than the old one, so that a full disk does not matter.
    """
    source = compacted_path(path)
    with closing(storage.open(source, "read")) as new, closing(storage.open(path, "update")) as old:
        size = new.size()
        for at in range(0, size, COPY_BYTES):
            old.write_at(at, new.read(at, min(COPY_BYTES, size - at)))
        old.truncate(size)
        old.sync()
    storage.remove(source)
    storage.sync_folder(source)


def quarantine(storage: Storage, path: Path, damaged: Path, *, replies: bool) -> None:
    """Append the lines that are not rows to the file ``damaged``, before ``compact`` drops them. Raises OSError."""

    def is_damaged(raw: bytes) -> bool:
        return raw.endswith(b"\n") and bool(raw.strip()) and row_entry(raw, replies=replies) is None

    with closing(storage.open(damaged, "append")) as target:
        _copy_lines(storage, path, target, is_damaged)
    storage.sync_folder(damaged)


def temp_path(path: Path) -> Path:
    """Return the path of the temporary file. One that a crash left can be deleted."""
    # Where the path is a link, the temporary file stands beside its target: a rename cannot cross file systems.
    path = path.resolve()
    return path.with_name(path.name + ".compacting")


def compacted_path(path: Path) -> Path:
    """Return the path of a new file that is whole, and waits to be copied over the old one."""
    path = path.resolve()
    return path.with_name(path.name + ".compacted")


def _copy_lines(storage: Storage, source: Path, target: StorageFile, is_wanted: Callable[[bytes], bool]) -> int:
    """Append the wanted lines of a file to another one, and sync it. Return their number."""
    with closing(storage.open(source, "read")) as old:
        count = 0
        if (size := target.size()) and target.read(size - 1, 1) != b"\n":
            write_all(target.write, b"\n")
        for raws in read_lines(old, 0, old.size()):
            wanted = [raw if raw.endswith(b"\n") else raw + b"\n" for raw in raws if is_wanted(raw)]
            count += len(wanted)
            write_all(target.write, b"".join(wanted))
        target.sync()
        return count
