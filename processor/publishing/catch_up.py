"""Adds the parts of other machines to the local files, and finds the own ones that the record does not know yet.

On a machine without local files this rebuilds them from all parts. Nothing is published here.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import BinaryIO

from processor.core.errors import ConfigError
from processor.core.fast_dataclass import dataclass
from processor.core.private_files import private_opener, replaced_file, sync
from processor.core.text import setting_name
from processor.output.paths import OutputPaths
from processor.publishing.part_names import FolderContents, Kind, contents_of, part_name
from processor.publishing.record import Published, Record
from processor.publishing.rows import file_size, read_bytes
from processor.remote.object_folder import ObjectFolder

_TEMP_SUFFIX = ".catching-up"


@dataclass(frozen=True, slots=True, kw_only=True)
class _NewParts:
    """Parts that the record does not know."""

    generation: int
    numbers: Sequence[int]
    replaces_earlier: bool
    """They are of a newer generation: the rows of the one before count no more."""


def caught_up(folder: ObjectFolder, paths: OutputPaths, record: Record) -> Record:
    """Bring the local files up to date with the parts, and return the record that belongs to them.

    The caller holds the lock of the work folder, and saves the record. After a crash in between, the parts that were
    added are found in the local files and not added again. Raises ConfigError where parts are gone that this machine
    knows, and OSError.
    """
    contents = contents_of(folder.list())
    files: dict[Kind, Published] = {}
    local: dict[Kind, Path] = {"replies": paths.replies, "errors": paths.failures}
    for kind, path in local.items():
        known = _checked(record.files[kind], path)
        new = _new_parts(folder, contents, kind, known)
        files[kind] = _add_parts(folder, kind, path, known, new) if new.numbers else known
    return replace(record, files=files)


def _checked(published: Published, path: Path) -> Published:
    """Return the record of a file. Where the file has lost rows, all of them stand in parts: it is removed, and all
    parts are new."""
    if published.offset <= file_size(path):
        return published
    path.unlink(missing_ok=True)
    return Published()


def _new_parts(folder: ObjectFolder, contents: FolderContents, kind: Kind, known: Published) -> _NewParts:
    """Return the parts that are to be added. Raises ConfigError where known ones are gone."""
    generation = contents.counting_generation(kind)
    numbers = contents.numbers(kind, generation)
    if generation > known.generation and known.number:
        return _NewParts(generation=generation, numbers=numbers, replaces_earlier=True)
    if known.number and (generation < known.generation or numbers[-1] < known.number):
        raise ConfigError(
            f"files are gone from {folder.name}, at least {part_name(kind, known.generation, known.number)}: restore "
            f"them. To start over, give another {setting_name('out')}, or delete the work folder of this output "
            "(the first lines of a "
            "run show it after `journal`) and what is left at the address"
        )
    later = [number for number in numbers if number > known.number or generation > known.generation]
    return _NewParts(generation=generation, numbers=later, replaces_earlier=False)


def _add_parts(folder: ObjectFolder, kind: Kind, path: Path, known: Published, new: _NewParts) -> Published:
    """Add parts to a local file behind the rows that were published, and before those that were not."""
    names = [part_name(kind, new.generation, number) for number in new.numbers]
    offset, data = known.offset, b""
    for at, name in enumerate(names):
        data = folder.read(name)
        if read_bytes(path, offset, len(data)) != data:
            offset = _insert(path, offset, _from(data, folder, names[at + 1 :]), drop_before=new.replaces_earlier)
            break
        offset += len(data)
    is_rewritten = known.is_rewritten and not new.replaces_earlier
    return Published(generation=new.generation, number=new.numbers[-1], offset=offset, is_rewritten=is_rewritten)


def _from(data: bytes, folder: ObjectFolder, names: Sequence[str]) -> Iterator[bytes]:
    """Yield the content of a part that was read, and those of further ones."""
    yield data
    for name in names:
        yield folder.read(name)


def _insert(path: Path, at: int, parts: Iterator[bytes], *, drop_before: bool) -> int:
    """Insert rows into a file, and return the position behind them. ``drop_before``: in the place of those before."""
    if not drop_before and file_size(path) == at:
        with open(path, "ab", opener=private_opener) as file:
            behind = _write(file, parts)
            sync(file)
        return behind
    with replaced_file(path, _TEMP_SUFFIX) as new:
        if not drop_before:
            _copy(path, new, 0, at)
        behind = _write(new, parts)
        _copy(path, new, at, file_size(path))
    return behind


def _write(file: BinaryIO, parts: Iterator[bytes]) -> int:
    """Append the parts, and return the position behind them."""
    for data in parts:
        file.write(data)
    return file.tell()


def _copy(path: Path, target: BinaryIO, start: int, end: int) -> None:
    """Append a range of a file to another one."""
    if start >= end:
        return
    with open(path, "rb") as source:
        source.seek(start)
        if end >= file_size(path):
            shutil.copyfileobj(source, target)
            return
        left = end - start
        while left and (data := source.read(min(left, 1 << 20))):
            target.write(data)
            left -= len(data)
