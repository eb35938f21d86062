"""Bounds the memory of decoded JSON, before it is decoded: `[[],[],` takes thirty times its bytes.

The sizes are those of CPython's objects on a 64-bit machine.
"""

from __future__ import annotations

from processor.core.errors import ReplyTooLarge

MAX_RATIO = 8
"""Decoded values may take so many times the memory of their bytes, those included."""
FREE_BYTES = 64 * 2**20
"""A reply that takes less memory is read however dense it is."""
_WORST_RATIO = 25
"""No JSON takes more."""

_DICT, _LIST, _SLOT, _STRING, _NUMBER = 184, 72, 8, 56, 32
_EMPTY_DICT, _EMPTY_LIST = 64, 56
_KEYS_OF_DICT = 5
"""So many find room in a small dict."""
_MORE_KEYS = 92
"""For each further one: its entry, and the key, as not all are shared."""
_KEY_BYTES = 6
"""Of the text of a key: those that repeat are shared."""
_NOT_KEPT = 3 * _DICT + _LIST
"""Of an event: the chunk, its choice and the delta."""
_SLICE_BYTES = 64 * 1024
_NUMBERS_ONLY = bytes(byte if chr(byte) in "0123456789+-.eE" else ord(" ") for byte in range(256))
_NOT_STORED = frozenset({*(b"%d" % number for number in range(257)), b"e"})
"""Python shares the integers up to 256. The letter is what is left of `true` and `false`."""


class MemoryBound:
    """Adds up the memory of the values of one reply."""

    __slots__ = ("_bytes", "_memory")

    def __init__(self) -> None:
        self._bytes = 0
        self._memory = 0

    def add(self, data: bytes) -> None:
        """Count the values of this JSON, one of several that make up the reply. Raises ReplyTooLarge."""
        self._bytes += len(data)
        self._memory += len(data) + max(0, _values_size(data) - _NOT_KEPT)
        if self._memory > FREE_BYTES and self._memory > MAX_RATIO * self._bytes:
            raise ReplyTooLarge(
                f"the reply would take {self._memory / 2**20:.0f} MiB of memory, more than {MAX_RATIO} times its size"
            )


def may_be_dense(data: bytes) -> bool:
    """Whether JSON of this size can exceed the bound by itself."""
    return len(data) * _WORST_RATIO > FREE_BYTES


def _values_size(data: bytes) -> int:
    """About what the values take: a quick estimate where that is within the bound, else a closer one."""
    dicts, lists, commas = data.count(b"{"), data.count(b"["), data.count(b",")
    strings = data.count(b'"') // 2
    quick = len(data) + _DICT * dicts + _LIST * lists + (_SLOT + _NUMBER) * commas + _STRING * strings
    return quick if quick <= (MAX_RATIO - 1) * len(data) else _closer_size(data)


def _closer_size(data: bytes) -> int:
    """Looks at the numbers, which takes longest, only where they decide."""
    structure = Structure(data)
    size, bound = structure.values_size(), (MAX_RATIO - 1) * len(data)
    most_numbers = structure.commas + structure.lists + structure.colons
    if size > bound or size + _NUMBER * most_numbers <= bound:
        return size
    return Structure(data, with_numbers=True).values_size()


class Structure:
    """Counts what JSON consists of, outside of its strings; numbers that are stored only if asked to."""

    __slots__ = (
        "_numbers",
        "_text_bytes",
        "_with_numbers",
        "colons",
        "commas",
        "dicts",
        "empty_dicts",
        "empty_lists",
        "lists",
        "quotes",
    )

    def __init__(self, data: bytes, *, with_numbers: bool = False) -> None:
        self._with_numbers = with_numbers
        data = data.replace(b"\\\\", b"").replace(b'\\"', b"") if b"\\" in data else data
        self.dicts = self.empty_dicts = self.lists = self.empty_lists = self.commas = self.colons = self.quotes = 0
        self._numbers = 0
        outside_bytes = 0
        for start in range(0, len(data), _SLICE_BYTES):
            outside_bytes += self._count(data[start : start + _SLICE_BYTES])
        self._text_bytes = len(data) - outside_bytes

    def _count(self, piece: bytes) -> int:
        parts = piece.split(b'"')
        outside = b'"'.join(parts[self.quotes % 2 :: 2])  # a number does not run on behind a string
        self.quotes += len(parts) - 1
        self.dicts += outside.count(b"{")
        self.empty_dicts += outside.count(b"{}")
        self.lists += outside.count(b"[")
        self.empty_lists += outside.count(b"[]")
        self.commas += outside.count(b",")
        self.colons += outside.count(b":")
        if self._with_numbers:
            numbers = outside.translate(_NUMBERS_ONLY).split()
            self._numbers += len(numbers) - sum(map(_NOT_STORED.__contains__, numbers))
        return len(outside)

    def values_size(self) -> int:
        dicts, lists = self.dicts - self.empty_dicts, self.lists - self.empty_lists
        return (
            max(0, self._text_bytes - _KEY_BYTES * self.colons)
            + _DICT * dicts
            + _EMPTY_DICT * self.empty_dicts
            + _LIST * lists
            + _EMPTY_LIST * self.empty_lists
            + _SLOT * self.commas
            + _STRING * max(0, self.quotes // 2 - self.colons)
            + _MORE_KEYS * max(0, self.colons - _KEYS_OF_DICT * dicts)
            + _NUMBER * self._numbers
        )
