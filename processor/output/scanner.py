"""From the rows on disk to the index."""

from __future__ import annotations

from collections.abc import Generator
from contextlib import closing
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

from processor.core.errors import ConfigError
from processor.output.block_reader import MAX_NAMED, Block, blocks, read_span, spans
from processor.output.index_entry import FLAGS_AT, PACKED, SIMULATED
from processor.output.job_index import JobIndex
from processor.output.storage import Storage, StorageFile

MIN_WORKER_BYTES = 64 << 20


@dataclass(slots=True)
class ScanReport:
    """What reading one file through has shown."""

    size: int = 0
    """Bytes of whole lines. Behind them stands the torn one, if there is one."""
    rows: int = 0
    damaged: int = 0
    damaged_lines: list[int] = field(default_factory=list)
    """Line numbers, the first MAX_NAMED of them."""
    torn: bool = False
    """The last line is broken off."""
    unended: bool = False
    """The last row is whole, only its line feed is missing."""


def scan(disk: Storage, path: Path, index: JobIndex, *, replies: bool, simulated: bool) -> ScanReport:
    """Enter the rows of a file into the index. Changes nothing on disk. Raises OSError.

    Raises ConfigError where the file is of another kind: rehearsed rows among real ones, or no results at all.
    """
    found = ScanReport()
    if not disk.exists(path):
        return found
    lines = foreign = 0
    with closing(disk.open(path, "read")) as file, closing(_blocks(disk, path, file, replies=replies)) as found_blocks:
        found.size = file.size()
        for block in found_blocks:
            _enter(index, block, path, simulated=simulated)
            _sum_up(found, block, lines)
            lines += block.lines
            foreign += block.foreign
    if foreign and not found.rows:
        raise ConfigError(f"{path} holds something else than results: give another --out, or move it away")
    return found


def _blocks(disk: Storage, path: Path, file: StorageFile, *, replies: bool) -> Generator[Block, None, None]:
    if disk.shared and file.size() >= MIN_WORKER_BYTES:
        from processor.core.worker_process import map_with_worker  # its import takes longer than a small file

        return map_with_worker(partial(read_span, path, replies), spans(file.size()))
    return blocks(file, replies=replies)


def _enter(index: JobIndex, block: Block, path: Path, *, simulated: bool) -> None:
    if any(bool(flags & SIMULATED) is not simulated for flags in set(block.entries[FLAGS_AT :: PACKED.size])):
        raise ConfigError(_mixed(path, simulated))
    index.load_rows(block.entries)


def _sum_up(found: ScanReport, block: Block, lines: int) -> None:
    found.rows += len(block.entries) // PACKED.size
    found.damaged += block.damaged
    room = MAX_NAMED - len(found.damaged_lines)
    found.damaged_lines += [lines + number for number in block.damaged_lines[:room]]
    found.size -= block.torn_bytes
    found.torn |= bool(block.torn_bytes)
    found.unended |= block.unended


def _mixed(path: Path, simulated: bool) -> str:
    there, here = ("real", "simulated") if simulated else ("simulated", "real")
    return f"{path} holds {there} rows, and this run's would be {here}: give another --out, or move it away"
