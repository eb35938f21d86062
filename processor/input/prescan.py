"""Reads the identities of the jobs of a large file, a few bytes each: enough to know which jobs are done.

The file is scanned in parts that end at the end of a line, so that any process can scan any part.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from io import BytesIO
from typing import NamedTuple

from processor.core import platform
from processor.core.errors import InvalidJob
from processor.core.job_keys import CHECK_BYTES, PACKED_IDENTITY, job_key
from processor.core.models import ByteRange
from processor.input.job_formats import JobDefaults, job_identity

PART_BYTES = 128 * 1024
"""With twice as much, the allocator returns the memory to the system after each part, and gets it zeroed again."""
MAX_SCAN_BYTES = 4 * PART_BYTES
"""A part that a long line makes larger than this is not scanned."""
STEP_BYTES = 4096
"""Read at a time to find the end of a line."""

UNKNOWN = bytes(PACKED_IDENTITY.size)
"""The identity of a line that is not a job."""


class ScannedPart(NamedTuple):
    part: ByteRange
    lines: int
    identities: bytes | None
    """Packed identities of all lines that are not blank, in order; None where the part was not scanned."""


def split_file(file_descriptor: int) -> Iterator[ByteRange]:
    """Yield the parts of an open file, up to its present size."""
    size = os.fstat(file_descriptor).st_size
    start = 0
    while start < size:
        end = _end_of_line(file_descriptor, start + PART_BYTES - 1, size)
        yield start, end
        start = end


def _end_of_line(file_descriptor: int, at: int, size: int) -> int:
    while at < size and (step := platform.read_at(file_descriptor, STEP_BYTES, at)):
        if b"\n" in step:
            return at + step.index(b"\n") + 1
        at += len(step)
    return size


def scan_part(file_descriptor: int, defaults: JobDefaults, max_line_bytes: int, part: ByteRange) -> ScannedPart:
    """Return the identities of the jobs in one part. Raises OSError."""
    start, end = part
    if start == 0 or end - start > MAX_SCAN_BYTES:  # the first part may start with a byte order mark
        return ScannedPart(part, 0, None)
    data = platform.read_at(file_descriptor, end - start, start)
    if len(data) < end - start:  # it was cut; the skipper reads it again and says so
        return ScannedPart(part, 0, None)
    lines = BytesIO(data).readlines()  # four times as fast as split()
    identities = [_packed_identity(line, defaults, max_line_bytes) for line in lines if not line.isspace()]
    return ScannedPart(part, len(lines), b"".join(identities))


def _packed_identity(line: bytes, defaults: JobDefaults, max_line_bytes: int) -> bytes:
    if len(line) > max_line_bytes:
        return UNKNOWN
    try:
        custom_id, fingerprint, names_model = job_identity(line, defaults)
    except InvalidJob:
        return UNKNOWN
    # A job without an id gets the key of the first such job. A second identical one is therefore not found as done,
    # because the first is marked as seen by then: it is read in full, and gets its own id.
    key = job_key(fingerprint.hex() if custom_id is None else custom_id)
    return PACKED_IDENTITY.pack(key, fingerprint[:CHECK_BYTES], names_model)
