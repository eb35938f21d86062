"""Counts the rows of one output in one pass. Memory does not grow with the rows, but for 20 bytes a job."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterable
from contextlib import closing
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from processor.core.job_keys import CHECK_BYTES, job_key
from processor.core.json_reading import parsed
from processor.core.models import ByteRange
from processor.output.compact_hash_table import FIELDS, CompactHashTable
from processor.report.row_counts import SAMPLE_SIZE, RowCounts
from processor.report.row_facts import facts_of

BLOCK_BYTES = 8 << 20
MIN_WORKER_BYTES = 32 << 20
"""Smaller files are read in one process: starting a second one takes longer."""

_RECORD_END = FIELDS.pack(bytes(CHECK_BYTES), 0, 0, 1) + bytes(4)


@dataclass(slots=True, kw_only=True)
class CountedBlock:
    """The counts of the lines that start in one part of a file."""

    counts: RowCounts
    keys: bytes
    """A record for each of its jobs, in the form in which ``CompactHashTable.add_all`` takes them."""


def count_rows(paths: Iterable[Path]) -> RowCounts:
    """Count the rows of these files, of which the first that has a row of a job decides. Raises OSError.

    Files are read from their ends: of the rows of one job the last one counts.
    """
    counts, seen = RowCounts(), CompactHashTable()
    for path in paths:
        if path.exists():
            _count_file(counts, seen, path, path.stat().st_size)
    return counts


def _count_file(counts: RowCounts, seen: CompactHashTable, path: Path, size: int) -> None:
    starts = range((size - 1) // BLOCK_BYTES * BLOCK_BYTES, -1, -BLOCK_BYTES)
    ranges = [(start, min(start + BLOCK_BYTES, size)) for start in starts]
    # Many more rows than a block's part of the sample are kept of it, so that it is as if it were drawn from the file.
    sample_size = min(50 + 4 * SAMPLE_SIZE * BLOCK_BYTES // max(size, 1), SAMPLE_SIZE)
    count = partial(count_block, path, sample_size)
    with closing(_map(count, ranges, size)) as blocks:
        for byte_range, block in zip(ranges, blocks, strict=True):
            # Rows that a newer one replaces are rare: only then is a block counted again, without them.
            if superseded := seen.add_all(block.keys):
                block = count(byte_range, frozenset(superseded))  # noqa: PLW2901
            counts.merge(block.counts)


def _map(
    work: Callable[[ByteRange], CountedBlock], ranges: list[ByteRange], size: int
) -> Generator[CountedBlock, None, None]:
    if size < MIN_WORKER_BYTES:
        return (work(byte_range) for byte_range in ranges)
    from processor.core.worker_process import map_with_worker  # importing it takes longer than a small file

    return map_with_worker(work, ranges)


def count_block(
    path: Path, sample_size: int, byte_range: ByteRange, superseded: frozenset[int] = frozenset()
) -> CountedBlock:
    """Count the lines that start in a part of a file, but for those jobs whose numbers, from its end, are given."""
    counts = RowCounts(sample_size)
    keys: dict[bytes, None] = {}
    for line in reversed(_lines(path, byte_range)):
        row = facts_of(parsed(line))
        if row is None:
            counts.damaged += 1
            continue
        key = job_key(row.key)
        is_superseded = key in keys or len(keys) in superseded
        keys[key] = None
        if is_superseded:
            counts.superseded += 1
        else:
            counts.add(row)
    return CountedBlock(counts=counts, keys=b"".join([key + _RECORD_END for key in keys]))


def _lines(path: Path, byte_range: ByteRange) -> list[bytes]:
    """The lines that start in the range. An incomplete one at the end of the file is being written: it is left out."""
    start, end = byte_range
    with open(path, "rb") as file:
        if start:
            file.seek(start - 1)
            if file.read(1) != b"\n":
                file.readline(end - start)
        begin = file.tell()
        data = file.read(end - begin) if begin < end else b""
        if data and not data.endswith(b"\n"):
            data += file.readline()
    complete, line_feed, torn = data.rpartition(b"\n")
    lines = complete.split(b"\n") if line_feed else []
    if facts_of(parsed(torn)) is not None:
        lines.append(torn)  # whole, but for its line feed
    return [line for line in lines if line.strip()]
