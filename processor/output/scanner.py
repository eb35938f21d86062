"""Reads the rows of a file into the job index."""

from __future__ import annotations

from collections.abc import Generator
from contextlib import closing
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

from processor.core.errors import ConfigError
from processor.core.money import RowCosts
from processor.core.text import setting_name
from processor.output.block_reader import (
    MAX_LISTED_LINES,
    ScannedBlock,
    block_ranges,
    read_block_of_path,
    read_blocks,
)
from processor.output.index_entry import ANY_TARGET, FLAGS_OFFSET, PACKED_ENTRY, SIMULATED, RunTarget
from processor.output.job_index import JobIndex
from processor.output.storage import Storage, StorageFile

MIN_WORKER_BYTES = 64 << 20
"""Smaller files are read in one process: starting a second one takes longer."""


@dataclass(slots=True, kw_only=True)
class ScanReport:
    """What was found in one file."""

    size: int = 0
    """Bytes of complete lines, without a torn last line."""
    rows: int = 0
    damaged: int = 0
    """Complete lines that are not rows."""
    damaged_lines: list[int] = field(default_factory=list)
    """The line numbers of the first MAX_LISTED_LINES of them."""
    is_torn: bool = False
    """The last line is incomplete."""
    missing_newline: bool = False
    """The last line is a row without its line feed."""
    costs: RowCosts = field(default_factory=RowCosts)
    """Of all rows, also of those that later ones supersede."""


def scan_file(
    storage: Storage,
    path: Path,
    index: JobIndex,
    *,
    replies: bool,
    simulated: bool,
    target: RunTarget = ANY_TARGET,
) -> ScanReport:
    """Load the rows of a file into the index. Changes nothing on disk. Raises OSError.

    Raises ConfigError where the file has no rows but other text, or rows of the other kind (simulated or real).
    """
    report = ScanReport()
    if not storage.exists(path):
        return report
    lines = not_a_row = 0
    with (
        closing(storage.open(path, "read")) as file,
        closing(_read_blocks(storage, path, file, replies=replies, target=target)) as blocks,
    ):
        report.size = file.size()
        for block in blocks:
            _load_block(index, block, path, simulated=simulated)
            _add_block(report, block, lines)
            lines += block.lines
            not_a_row += block.not_a_row
    if not_a_row and not report.rows:
        raise ConfigError(f"{path} is not a results file: give another {setting_name('out')}, or move it away")
    return report


def _read_blocks(
    storage: Storage, path: Path, file: StorageFile, *, replies: bool, target: RunTarget
) -> Generator[ScannedBlock, None, None]:
    if storage.is_shared and file.size() >= MIN_WORKER_BYTES:
        from processor.core.worker_process import map_with_worker  # importing it takes longer than a small file

        return map_with_worker(partial(read_block_of_path, path, replies, target), block_ranges(file.size()))
    return read_blocks(file, replies=replies, target=target)


def _load_block(index: JobIndex, block: ScannedBlock, path: Path, *, simulated: bool) -> None:
    if any(bool(flags & SIMULATED) is not simulated for flags in set(block.entries[FLAGS_OFFSET :: PACKED_ENTRY.size])):
        found, new = ("real", "simulated") if simulated else ("simulated", "real")
        raise ConfigError(
            f"{path} holds {found} rows, and this run would add {new} ones: give another {setting_name('out')}, "
            "or move it away"
        )
    index.load_rows(block.entries)


def _add_block(report: ScanReport, block: ScannedBlock, lines_before: int) -> None:
    report.rows += len(block.entries) // PACKED_ENTRY.size
    report.damaged += block.damaged
    free = MAX_LISTED_LINES - len(report.damaged_lines)
    report.damaged_lines += [lines_before + number for number in block.damaged_lines[:free]]
    report.size -= block.torn_bytes
    report.is_torn |= bool(block.torn_bytes)
    report.missing_newline |= block.missing_newline
    report.costs.add_all(block.costs)
