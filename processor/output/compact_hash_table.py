"""A map from 9-byte keys to small records of fixed width: 18.3 bytes an entry, while it grows as well as later.

A dict of a million entries takes 85 MB, and moves all of them when it grows. Here the key says which chain of
pages a record is in, and a page, once begun, stays where it is. Each chain has its first page from the start
(8 MB in all), so that 450,000 entries cost nothing more.
"""

from __future__ import annotations

from array import array
from collections.abc import Iterator
from struct import Struct

from processor.core.job_keys import CHECK_BYTES, KEY_BYTES

FIELDS = Struct("<4sHIB")
"""check, attempts, count, flags."""

_CHAIN_BYTES = 2
_CHAINS = 1 << 15
"""15 bits of the key choose a chain, 56 are stored: two of a million are taken for one with a probability of 2e-10."""
_TAIL_BYTES = KEY_BYTES - _CHAIN_BYTES
_WIDTH = _TAIL_BYTES + FIELDS.size
_COUNT_AT, _FLAGS_AT = _TAIL_BYTES + 6, _WIDTH - 1

_PAGE_BITS = 8
_PAGE_BYTES = 1 << _PAGE_BITS
_USED_BYTES = _PAGE_BYTES // _WIDTH * _WIDTH
_STEP_BYTES = 1 << 20
"""It grows by so much at a time."""

_NEW = Struct(f">H{_WIDTH}s4x")
"""Of many records to add: what chooses the chain, the record as it is stored, and 4 bytes that are not."""
_SOUGHT = Struct(f">H{_TAIL_BYTES + CHECK_BYTES}s")

_KIND_BITS = 8

Slot = tuple[bytearray, int]
"""Where a record's fields stand, for FIELDS.unpack_from and pack_into."""


class CompactHashTable:
    def __init__(self) -> None:
        self._pages = _zeros(_CHAINS << _PAGE_BITS)
        self._after = array("I", bytes(4 * _CHAINS))
        """By page: the one of the same chain that was begun when it was full, or 0. A chain begins in the page with
        its own number: what is sought is found sooner in the full pages than in the last one."""
        self._free = array("Q", range(0, _CHAINS << _PAGE_BITS, _PAGE_BYTES))
        """By chain: where its next record goes."""
        self._kinds = bytearray(_CHAINS << _KIND_BITS >> 3)
        """By chain: a bit for each of 256 kinds of keys. Most keys that are new are seen to be so without a search."""

    def __len__(self) -> int:
        full = (len(self._after) - _CHAINS) * (_USED_BYTES // _WIDTH)
        return full + sum(free % _PAGE_BYTES // _WIDTH for free in self._free)

    def find(self, key: bytes) -> Slot | None:
        pages, after, tail = self._pages, self._after, key[_CHAIN_BYTES:]
        page = (key[0] << 8 | key[1]) % _CHAINS
        while True:
            start = page << _PAGE_BITS
            at = pages.find(tail, start, start + _USED_BYTES)
            while at >= 0:
                if (at - start) % _WIDTH == 0:
                    return pages, at + _TAIL_BYTES
                at = pages.find(tail, at + 1, start + _USED_BYTES)
            page = after[page]
            if not page:
                return None

    def add(self, key: bytes, check: bytes, attempts: int, count: int, flags: int) -> Slot | None:
        """Add a record. Where there is one with this key, leaves it as it is and returns its place."""
        new = key + FIELDS.pack(check, attempts, count, flags) + bytes(4)
        return self.find(key) if self.add_all(new) else None

    def add_all(self, new: bytes) -> list[int]:
        """Add many records: of each, its key, its fields, and 4 bytes more. Returns which have a key that was there.

        Those are left as they are.
        """
        pages, free, kinds, chains = self._pages, self._free, self._kinds, _CHAINS
        there = []
        for number, (start, record) in enumerate(_NEW.iter_unpack(new)):
            chain, kind = start % chains, record[0]
            kind_at, kind_bit = chain << _KIND_BITS - 3 | kind >> 3, 1 << (kind & 7)
            if not kinds[kind_at] & kind_bit:
                kinds[kind_at] |= kind_bit
            elif self.find(new[number * _NEW.size :][:KEY_BYTES]):
                there.append(number)
                continue
            at = free[chain]
            if at % _PAGE_BYTES == _USED_BYTES:
                at = self._begin_page(at >> _PAGE_BITS)
            pages[at : at + _WIDTH] = record
            free[chain] = at + _WIDTH
        return there

    def _begin_page(self, full: int) -> int:
        page = len(self._after)
        at = page << _PAGE_BITS
        if at == len(self._pages):
            self._pages += _zeros(_STEP_BYTES)
        self._after.append(0)
        self._after[full] = page
        return at

    def flag_while(self, sought: memoryview, fits: bytes, flag: int) -> tuple[int, int]:
        """Set ``flag`` in the records with these keys and checks, as long as there is one and its flags fit.

        ``sought``: key and check of each; ``fits``: by the value of all its flags, 0 where they do not, else 1 or 2.
        Returns how many were set, and of how many of them ``fits`` is 2. The next one may be there all the same: only
        ``find`` knows.
        """
        pages, after, chains, last = self._pages, self._after, _CHAINS, _FLAGS_AT
        count = twos = 0
        for start, wanted in _SOUGHT.iter_unpack(sought):
            page = start % chains
            while (at := pages.find(wanted, begin := page << _PAGE_BITS, begin + _USED_BYTES)) < 0:
                page = after[page]
                if not page:
                    return count, twos
            flags = pages[at + last]
            kind = fits[flags]
            if not kind or (at - begin) % _WIDTH:
                return count, twos
            pages[at + last] = flags | flag
            count += 1
            if kind == 2:
                twos += 1
        return count, twos

    def flags(self) -> Iterator[bytearray]:
        """The flags of all records, many at a time; those of places not taken yet are 0."""
        for at in range(_FLAGS_AT, _USED_BYTES, _WIDTH):
            yield self._pages[at::_PAGE_BYTES]

    def clear(self, flags: int) -> None:
        """Take these flags from all records, and set all counts to 0."""
        kept = bytes(value & ~flags for value in range(256))
        zeros = bytes(len(self._pages) >> _PAGE_BITS)
        for record in range(0, _USED_BYTES, _WIDTH):
            flags_at = record + _FLAGS_AT
            self._pages[flags_at::_PAGE_BYTES] = self._pages[flags_at::_PAGE_BYTES].translate(kept)
            for at in range(record + _COUNT_AT, flags_at):
                self._pages[at::_PAGE_BYTES] = zeros


def _zeros(size: int) -> bytearray:
    # Multiplied rather than made that long: the memory is then taken at once, not page by page.
    return bytearray(1) * size
