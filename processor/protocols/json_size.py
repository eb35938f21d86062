"""Bounds the memory of decoded JSON, before it is decoded: `[[],[],` takes thirty times its bytes.

The sizes are those of CPython's objects on a 64-bit machine.
"""

from __future__ import annotations

import re

from processor.core.errors import ReplyTooLarge

MAX_RATIO = 8
"""Decoded values may take so many times the memory of their bytes, those included."""
FREE_BYTES = 64 * 2**20
"""A reply that takes less memory is read however dense it is."""
_MIN_RATIO = 24
"""No JSON takes more."""

_DICT, _LIST, _SLOT, _STRING, _NUMBER = 184, 72, 8, 56, 32
_EMPTY_DICT = 64
_KEYS_OF_DICT = 5
"""So many find room in a small dict."""
_MORE_KEYS = 92
"""For each further one: its entry, and the key, as not all are shared."""
_SLICE_BYTES = 1024 * 1024
_STORED_NUMBER = re.compile(rb"-|\d*[.eE][\d.eE+-]*|\d{4,}|[3-9]\d\d|2[6-9]\d|25[7-9]")
"""Python shares the integers up to 256."""


class MemoryBound:
    """Adds up the memory of the values of one reply."""

    __slots__ = ("_bytes", "_memory")

    def __init__(self) -> None:
        self._bytes = 0
        self._memory = 0

    def add(self, data: bytes) -> None:
        """Count the values of this JSON. Raises ReplyTooLarge."""
        self._bytes += len(data)
        self._memory += len(data) + _most(data)
        if self._memory > FREE_BYTES and self._memory > MAX_RATIO * self._bytes:
            raise ReplyTooLarge(
                f"the reply would take {self._memory / 2**20:.0f} MiB of memory, more than {MAX_RATIO} times its size"
            )


def may_be_dense(data: bytes) -> bool:
    """Whether JSON of this size can exceed the bound by itself."""
    return len(data) * _MIN_RATIO > FREE_BYTES


def _most(data: bytes) -> int:
    """What the values take: a quick estimate where that is within the bound, else a closer one."""
    quick = len(data) + _DICT * data.count(b"{") + _LIST * data.count(b"[")
    quick += (_SLOT + _NUMBER) * data.count(b",") + (_STRING + _MORE_KEYS) // 2 * (data.count(b'"') // 2)
    return quick if quick <= (MAX_RATIO - 1) * len(data) else values_size(data)


def values_size(data: bytes) -> int:
    """About the memory of the values of this JSON. What looks like structure inside strings is told apart."""
    data = data.replace(b"\\\\", b"").replace(b'\\"', b"") if b"\\" in data else data
    dicts = empty_dicts = lists = commas = colons = quotes = numbers = outside_bytes = 0
    for start in range(0, len(data), _SLICE_BYTES):
        piece = data[start : start + _SLICE_BYTES]
        parts = piece.split(b'"')
        outside = b'"'.join(parts[quotes % 2 :: 2])  # a number does not run on behind a string
        quotes += len(parts) - 1
        dicts += outside.count(b"{")
        empty_dicts += outside.count(b"{}")
        lists += outside.count(b"[")
        commas += outside.count(b",")
        colons += outside.count(b":")
        numbers += len(_STORED_NUMBER.findall(outside))
        outside_bytes += len(outside)
    return (
        max(0, len(data) - outside_bytes)
        + _DICT * (dicts - empty_dicts)
        + _EMPTY_DICT * empty_dicts
        + _LIST * lists
        + _SLOT * commas
        + _STRING * max(0, quotes // 2 - colons)
        + _MORE_KEYS * max(0, colons - _KEYS_OF_DICT * (dicts - empty_dicts))
        + _NUMBER * numbers
    )
