"""Where the rows of jobs stand in their files: about 10 bytes for each row of a million, in memory.

A part of a job's key selects a chain, and 16 further bits are stored with each position. With a million rows, one
search in 2,000 also returns a row of another job, so the caller must compare the ids of the rows.
"""

from __future__ import annotations

from collections.abc import Iterator
from struct import Struct
from typing import NamedTuple

_CHAINS = 1 << 15
_TAG_SHIFT, _FAILURE_BIT = 48, 1 << 47
_RECORD = Struct("<Q")
"""From the highest bit: 16 bits of the key, whether the row is a failure, and 47 bits of its position."""


class RowPosition(NamedTuple):
    """Where a row begins."""

    is_failure: bool
    """Whether it stands in the errors file, not in the results file."""
    offset: int
    """In bytes."""


class RowPositions:
    """Remembers where the rows of each job begin."""

    def __init__(self) -> None:
        self._chains = [bytearray() for _ in range(_CHAINS)]

    def add(self, key: bytes, position: RowPosition) -> None:
        """Add a row of the job with this key, which is later than those before."""
        record = _tag_of(key) << _TAG_SHIFT | position.is_failure * _FAILURE_BIT | position.offset
        self._chains[_chain_of(key)] += _RECORD.pack(record)

    def find(self, key: bytes) -> Iterator[RowPosition]:
        """Yield the positions of the job's rows, and perhaps of others, from the latest to the earliest."""
        tag = _tag_of(key)
        records = [record for (record,) in _RECORD.iter_unpack(self._chains[_chain_of(key)])]
        for record in reversed(records):
            if record >> _TAG_SHIFT == tag:
                yield RowPosition(bool(record & _FAILURE_BIT), record & (_FAILURE_BIT - 1))


def _chain_of(key: bytes) -> int:
    return int.from_bytes(key[:2], "little") % _CHAINS


def _tag_of(key: bytes) -> int:
    return int.from_bytes(key[2:4], "little")
