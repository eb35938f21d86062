"""A map from 9-byte keys to small records of fixed width: 18.3 bytes a record, also while it grows.

A dict of a million entries takes 85 MB, and moves all of them when it grows. Here a key selects a chain of pages, and
the pages of a chain are linked. Up to 450,000 records most chains have one page, 8 MB in all.
"""

from __future__ import annotations

from array import array
from collections.abc import Iterator
from struct import Struct

from processor.core.job_keys import CHECK_BYTES, KEY_BYTES

FIELDS = Struct("<4sHIB")
"""The fields of a record: check, attempts, count, flags."""

_CHAIN_BYTES = 2
_CHAINS = 1 << 15
"""15 bits of a key select the chain and 56 are stored: among a million keys two are confused with a probability of
2e-10."""
_TAIL_BYTES = KEY_BYTES - _CHAIN_BYTES
_RECORD_BYTES = _TAIL_BYTES + FIELDS.size
_COUNT_OFFSET, _FLAGS_OFFSET = _TAIL_BYTES + 6, _RECORD_BYTES - 1

_PAGE_BITS = 8
_PAGE_BYTES = 1 << _PAGE_BITS
_USED_BYTES = _PAGE_BYTES // _RECORD_BYTES * _RECORD_BYTES
_GROWTH_BYTES = 1 << 20
"""Memory is added in steps of this size; once the first is full, a page for each chain is added at once. Moving many
megabytes often would leave holes between other values."""

_NEW_RECORD = Struct(f">H{_RECORD_BYTES}s4x")
"""A record to add: the bytes that select its chain, the record as stored, and 4 bytes that are ignored."""
_IDENTITY = Struct(f">H{_TAIL_BYTES + CHECK_BYTES}sB")

_BLOOM_BITS = 8

Slot = tuple[bytearray, int]
"""The position of a record's fields, as arguments of FIELDS.unpack_from and FIELDS.pack_into."""


class CompactHashTable:
    def __init__(self) -> None:
        self._pages = bytearray()
        """The pages in the order in which they were added. The numbers of pages begin after those of the chains."""
        self._next_page = array("I", bytes(4 * _CHAINS))
        """By chain: its first page. By page: the next page of its chain. 0: there is none. Lookups go through the full
        pages first, where most records are."""
        self._next_offset = array("Q", bytes(8 * _CHAINS))
        """By chain: where its next record goes; 0 where the chain has no page yet."""
        self._bloom = bytearray(_CHAINS << _BLOOM_BITS >> 3)
        """By chain: one bit for each of 256 classes of keys. Most new keys are known to be new without a lookup."""
        self._size = 0

    def __len__(self) -> int:
        return self._size

    def find(self, key: bytes) -> Slot | None:
        """Return the slot of the record with this key, or None."""
        pages, next_page, tail = self._pages, self._next_page, key[_CHAIN_BYTES:]
        page = next_page[(key[0] << 8 | key[1]) % _CHAINS]
        while page:
            start = page - _CHAINS << _PAGE_BITS
            at = pages.find(tail, start, start + _USED_BYTES)
            while at >= 0:
                if (at - start) % _RECORD_BYTES == 0:
                    return pages, at + _TAIL_BYTES
                at = pages.find(tail, at + 1, start + _USED_BYTES)
            page = next_page[page]
        return None

    def add(self, key: bytes, check: bytes, attempts: int, count: int, flags: int) -> Slot | None:
        """Add a record and return None. If the key has a record, leave it unchanged and return its slot."""
        new = key + FIELDS.pack(check, attempts, count, flags) + bytes(4)
        return self.find(key) if self.add_all(new) else None

    def add_all(self, new: bytes) -> list[int]:
        """Add many records. Return the numbers of those whose key has a record already; these change nothing.

        ``new`` holds for each record its key, its packed fields, and 4 bytes that are ignored.
        """
        pages, next_offset, bloom, chains = self._pages, self._next_offset, self._bloom, _CHAINS
        duplicates: list[int] = []
        for number, (start, record) in enumerate(_NEW_RECORD.iter_unpack(new)):
            chain, key_class = start % chains, record[0]
            bloom_at, bloom_bit = chain << _BLOOM_BITS - 3 | key_class >> 3, 1 << (key_class & 7)
            if not bloom[bloom_at] & bloom_bit:
                bloom[bloom_at] |= bloom_bit
            elif self.find(new[number * _NEW_RECORD.size :][:KEY_BYTES]):
                duplicates.append(number)
                continue
            at = next_offset[chain]
            if not at:
                at = self._add_page(chain)
            elif at % _PAGE_BYTES == _USED_BYTES:
                at = self._add_page(chains + (at >> _PAGE_BITS))
            pages[at : at + _RECORD_BYTES] = record
            next_offset[chain] = at + _RECORD_BYTES
        self._size += len(new) // _NEW_RECORD.size - len(duplicates)
        return duplicates

    def _add_page(self, before: int) -> int:
        """Append a page to a full page, or to a chain without pages. Return its offset."""
        page = len(self._next_page)
        at = page - _CHAINS << _PAGE_BITS
        if at == len(self._pages):
            self._pages += bytes(max(_GROWTH_BYTES, (_CHAINS << _PAGE_BITS) - at) if at else _GROWTH_BYTES)
        self._next_page.append(0)
        self._next_page[before] = page
        return at

    def mark_while(self, identities: memoryview, matches: tuple[bytes, bytes], flag: int) -> tuple[int, int]:
        """Set ``flag`` in the records with these keys and checks, up to the first that is not found or not matching.

        ``identities`` holds the key and check of each, and the number of its table in ``matches``. That says by the
        value of a record's flags whether it matches: 0 for no, 1 or 2 for yes. Returns how many were marked, and for
        how many of them ``matches`` is 2. The record after those may match all the same: only ``find`` is exact.
        """
        pages, next_page, chains, flags_offset = self._pages, self._next_page, _CHAINS, _FLAGS_OFFSET
        count = twos = 0
        for start, wanted, table in _IDENTITY.iter_unpack(identities):
            page = start % chains
            at = -1
            while at < 0:
                page = next_page[page]
                if not page:
                    return count, twos
                at = pages.find(wanted, begin := page - chains << _PAGE_BITS, begin + _USED_BYTES)
            flags = pages[at + flags_offset]
            match = matches[table][flags]
            if not match or (at - begin) % _RECORD_BYTES:
                return count, twos
            pages[at + flags_offset] = flags | flag
            count += 1
            if match == 2:
                twos += 1
        return count, twos

    def flags(self) -> Iterator[bytearray]:
        """Yield the flags of all records, many at a time. Unused places have flags of 0.

        Reading the places of an empty table would take milliseconds: nothing is yielded.
        """
        if not self._size:
            return
        for at in range(_FLAGS_OFFSET, _USED_BYTES, _RECORD_BYTES):
            yield self._pages[at::_PAGE_BYTES]

    def clear(self, flags: int) -> None:
        """Remove these flags from all records, and set all counts to 0."""
        if not self._size:
            return
        kept = bytes(value & ~flags for value in range(256))
        zeros = bytes(len(self._pages) >> _PAGE_BITS)
        for record in range(0, _USED_BYTES, _RECORD_BYTES):
            flags_at = record + _FLAGS_OFFSET
            self._pages[flags_at::_PAGE_BYTES] = self._pages[flags_at::_PAGE_BYTES].translate(kept)
            for at in range(record + _COUNT_OFFSET, flags_at):
                self._pages[at::_PAGE_BYTES] = zeros
