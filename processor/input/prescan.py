"""What the lines of a large job file ask for, in a few bytes each: enough to know which jobs are done.

The file is skimmed in parts that end where a line ends, so that this can be done in any process, and in any order.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from io import BytesIO
from typing import NamedTuple

from processor.core.errors import InvalidJob
from processor.core.job_keys import CHECK_BYTES, IDENTITY, job_key
from processor.input.job_formats import JobDefaults, job_identity

PART_BYTES = 128 * 1024
"""The memory of twice as much would be given back after each part, and be zeroed anew for the next."""
MAX_SCAN_BYTES = 4 * PART_BYTES
"""A part that a long line makes larger than this is not skimmed."""
STEP_BYTES = 4096
"""Read at a time to find the end of a line."""

UNKNOWN = bytes(IDENTITY.size)

ByteRange = tuple[int, int]
"""``start <= at < end``"""


class ScannedPart(NamedTuple):
    part: ByteRange
    lines: int
    identities: bytes | None
    """Packed, of every line that is not blank, in their order; None where the part was not skimmed."""


def split_file(handle: int) -> Iterator[ByteRange]:
    """All of an open file, as long as it is now."""
    size = os.fstat(handle).st_size
    start = 0
    while start < size:
        end = _end_of_line(handle, start + PART_BYTES - 1, size)
        yield start, end
        start = end


def _end_of_line(handle: int, at: int, size: int) -> int:
    while at < size and (step := os.pread(handle, STEP_BYTES, at)):
        if b"\n" in step:
            return at + step.index(b"\n") + 1
        at += len(step)
    return size


def scan_part(handle: int, defaults: JobDefaults, max_line_bytes: int, part: ByteRange) -> ScannedPart:
    """Raises OSError."""
    start, end = part
    if start == 0 or end - start > MAX_SCAN_BYTES:  # the first part may begin with a byte order mark
        return ScannedPart(part, 0, None)
    lines = BytesIO(os.pread(handle, end - start, start)).readlines()  # split() takes four times as long
    identities = [_identity(line, defaults, max_line_bytes) for line in lines if not line.isspace()]
    return ScannedPart(part, len(lines), b"".join(identities))


def _identity(line: bytes, defaults: JobDefaults, max_line_bytes: int) -> bytes:
    if len(line) > max_line_bytes:
        return UNKNOWN
    try:
        name, mark = job_identity(line, defaults)
    except InvalidJob:
        return UNKNOWN
    # A second one without a name is not known as done by the name of the first: it is looked at, and named, then.
    return job_key(mark.hex() if name is None else name) + mark[:CHECK_BYTES]
