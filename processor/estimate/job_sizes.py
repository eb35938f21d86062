"""Reads the jobs of a part of a file with their sizes. Any process can read any part."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Generator
from dataclasses import replace
from functools import lru_cache, partial
from typing import NamedTuple

from processor.core import platform
from processor.core.fast_dataclass import dataclass
from processor.core.models import ByteRange, RequestSize
from processor.input.job_file import InvalidLine, JobFile, parse_line
from processor.input.job_formats import JobDefaults, ParsedJob
from processor.input.line_splitter import Line, LineSplitter
from processor.input.prescan import split_file
from processor.protocols import protocol_for
from processor.protocols.token_bounds import TokenRatios, with_bounds
from processor.scheduler.job_order import size_in_order
from processor.tokens.counter import TokenCounter

MIN_WORKER_BYTES = 8 << 20
"""Smaller files are read in one process: starting a second one takes longer."""
NO_RATIOS = TokenRatios()
"""No reply is known."""
_STUB_FIELDS = ("model", "stream")
"""The fields of a body by which it is decided whether a job is sent."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ScanOptions:
    defaults: JobDefaults
    max_line_bytes: int
    encoding: str | None
    """For models that tiktoken does not know."""
    is_ordered: bool = False
    """Whether the jobs are sent by their size."""


class SizedJob(NamedTuple):
    job: ParsedJob
    """Without the contents of its body."""
    size: RequestSize
    size_in_order: int = 0
    """The tokens by which it has its place, where jobs are sent by their size."""


class SizedPart(NamedTuple):
    end: int
    """Bytes of the file, as it stands on disk, up to the end of this part."""
    lines: int
    items: list[SizedJob | InvalidLine]
    """Their lines count from the beginning of the part."""


def read_parts(file: JobFile, options: ScanOptions) -> Generator[SizedPart, None, None]:
    """Yield the parts of an open file in order; two processes read those of a large one. Raises OSError."""
    if file.is_converted:
        yield from _read_converted(file, options)
        return
    file_descriptor = file.file_descriptor
    work = partial(size_part, file_descriptor, options)
    parts = split_file(file_descriptor)
    if os.fstat(file_descriptor).st_size < MIN_WORKER_BYTES:
        yield from map(work, parts)
        return
    from processor.core.worker_process import map_with_worker

    yield from map_with_worker(work, parts, file_descriptors=[file_descriptor])


def _read_converted(file: JobFile, options: ScanOptions) -> Generator[SizedPart, None, None]:
    """Yield the parts of a compressed file or a table, which can only be read in its order."""
    splitter = LineSplitter(options.max_line_bytes)
    before = 0
    for chunk in file.chunks():
        lines = splitter.feed(chunk)
        found = [_sized(line._replace(number=line.number - before), options) for line in lines]
        yield SizedPart(file.position, splitter.number - before, found)
        before = splitter.number
    if last := splitter.finish():
        yield SizedPart(file.position, 1, [_sized(last._replace(number=last.number - before), options)])


def size_part(file_descriptor: int, options: ScanOptions, part: ByteRange) -> SizedPart:
    start, end = part
    data = b""
    while len(data) < end - start and (read := platform.read_at(file_descriptor, end - start - len(data), start)):
        data += read
        start += len(read)
    splitter = LineSplitter(options.max_line_bytes)
    before = 0
    if part[0] > 0:  # only the first line of a file may begin with a byte order mark
        before = 1
        splitter.skip(before)
    lines = splitter.feed(data)
    if last := splitter.finish():
        lines.append(last)
    found = [_sized(line._replace(number=line.number - before), options) for line in lines]
    return SizedPart(end, splitter.number - before, found)


def _sized(line: Line, options: ScanOptions) -> SizedJob | InvalidLine:
    parsed = parse_line(line, options.defaults, options.max_line_bytes)
    if isinstance(parsed, InvalidLine):
        return parsed
    counter = _counter(options.encoding)
    counter.load_now(parsed.model)
    job = parsed.with_id("")
    protocol, model_counter = protocol_for(job.path), counter.for_model(job.model)
    size = with_bounds(protocol.request_size(job, model_counter), job, protocol, model_counter, NO_RATIOS)
    body = {name: parsed.body[name] for name in _STUB_FIELDS if name in parsed.body}
    place = size_in_order(job, _counter_by_characters(options.encoding)) if options.is_ordered else 0
    return SizedJob(replace(parsed, body=body, metadata=None, raw=b""), size, place)


@lru_cache(maxsize=1)
def _counter(encoding: str | None) -> TokenCounter:
    return TokenCounter(encoding, asyncio.to_thread)


@lru_cache(maxsize=1)
def _counter_by_characters(encoding: str | None) -> TokenCounter:
    """A counter without encodings, as a run has that puts jobs in order."""
    return TokenCounter(encoding, asyncio.to_thread)
