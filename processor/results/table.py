"""A map from 9-byte keys to small records of fixed width: 18.3 bytes an entry, while it grows as well as later.

A dict of a million entries takes 85 MB, and moves all of them when it grows. Here the key says which chain of
pages a record is in, and a page, once begun, stays where it is. Each chain has its first page from the start
(8 MB in all), so that 450,000 entries cost nothing more.
"""

from __future__ import annotations

from array import array
from collections.abc import Iterator
from struct import Struct

from processor.identity import KEY_BYTES

FIELDS = Struct("<4sHIB")
"""check, attempts, count, flags."""
CHECK_BYTES, FLAGS_AT = 4, FIELDS.size - 1
"""Where two of them are, behind a record's place: for a million questions one after the other."""

_CHAIN_BYTES = 2
_CHAINS = 1 << 15
"""15 bits of the key choose a chain, 56 are stored: two of a million are taken for one with a probability of 2e-10."""
_TAIL_BYTES = KEY_BYTES - _CHAIN_BYTES
_WIDTH = _TAIL_BYTES + FIELDS.size
_COUNT_AT = _TAIL_BYTES + 6

_PAGE_BITS = 8
_RECORDS = (1 << _PAGE_BITS) // _WIDTH
_USED_BYTES = _RECORDS * _WIDTH
_SLAB_BITS = 12
_SLAB_PAGES = 1 << _SLAB_BITS

Place = tuple[bytearray, int]
"""Where a record's fields stand, for FIELDS.unpack_from and pack_into."""


class Table:
    def __init__(self) -> None:
        self._slabs = [_slab() for _ in range(_CHAINS // _SLAB_PAGES)]
        self._newest = array("I", range(_CHAINS))
        """By chain: the page that is being filled."""
        self._before = array("I", bytes(4 * _CHAINS))
        """By page: the one of the same chain that was filled before it."""
        self._sizes = array("I", bytes(4 * _CHAINS))
        """By chain: how many records it holds."""
        self._kinds = array("Q", bytes(8 * _CHAINS))
        """By chain: a bit for each of 64 kinds of keys. Most keys that are new are seen to be so without a search."""

    def __len__(self) -> int:
        return sum(self._sizes)

    def find(self, key: bytes) -> Place | None:
        tail = key[_CHAIN_BYTES:]
        page = self._newest[(key[0] << 8 | key[1]) % _CHAINS]
        while True:
            slab = self._slabs[page >> _SLAB_BITS]
            start = page % _SLAB_PAGES << _PAGE_BITS
            at = slab.find(tail, start, start + _USED_BYTES)
            while at >= 0:
                if (at - start) % _WIDTH == 0:
                    return slab, at + _TAIL_BYTES
                at = slab.find(tail, at + 1, start + _USED_BYTES)
            if page < _CHAINS:
                return None
            page = self._before[page]

    def add(self, key: bytes, check: bytes, attempts: int, count: int, flags: int) -> Place | None:
        """Add a record. Where there is one with this key, leaves it as it is and returns its place."""
        chain = (key[0] << 8 | key[1]) % _CHAINS
        kind = 1 << key[_CHAIN_BYTES] % 64
        if not self._kinds[chain] & kind:
            self._kinds[chain] |= kind
        elif place := self.find(key):
            return place
        size = self._sizes[chain]
        slot = size % _RECORDS
        page = self._newest[chain] if slot or not size else self._begin_page(chain)
        self._sizes[chain] = size + 1
        slab = self._slabs[page >> _SLAB_BITS]
        at = (page % _SLAB_PAGES << _PAGE_BITS) + slot * _WIDTH
        slab[at : at + _TAIL_BYTES] = key[_CHAIN_BYTES:]
        FIELDS.pack_into(slab, at + _TAIL_BYTES, check, attempts, count, flags)
        return None

    def _begin_page(self, chain: int) -> int:
        page = len(self._before)
        if page % _SLAB_PAGES == 0:
            self._slabs.append(_slab())
        self._before.append(self._newest[chain])
        self._newest[chain] = page
        return page

    def flags(self) -> Iterator[bytearray]:
        """The flags of all records, many at a time; those of places not taken yet are 0."""
        for slab in self._slabs:
            for at in range(_TAIL_BYTES + FLAGS_AT, _USED_BYTES, _WIDTH):
                yield slab[at :: 1 << _PAGE_BITS]

    def clear(self, flags: int) -> None:
        """Take these flags from all records, and set all counts to 0."""
        kept = bytes(value & ~flags for value in range(256))
        zeros = bytes(_SLAB_PAGES)
        page = 1 << _PAGE_BITS
        for slab in self._slabs:
            for record in range(0, _USED_BYTES, _WIDTH):
                flags_at = record + _TAIL_BYTES + FLAGS_AT
                slab[flags_at::page] = slab[flags_at::page].translate(kept)
                for at in range(record + _COUNT_AT, flags_at):
                    slab[at::page] = zeros


def _slab() -> bytearray:
    # Multiplied rather than made that long: the memory is then taken at once, not page by page.
    return bytearray(1) * (_SLAB_PAGES << _PAGE_BITS)
