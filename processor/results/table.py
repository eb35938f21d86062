"""A map from 9-byte keys to small fixed-width records that spends about 22 bytes an entry, growth included.

A dict of a million entries costs 85 MB, and doubles while it grows. Here many small bytearrays grow each on its
own, by an eighth at a time.
"""

from __future__ import annotations

from collections.abc import Iterator
from hashlib import blake2b
from struct import Struct

KEY_BYTES = 9
_BUCKET_BYTES = 2
_BUCKETS = 1 << 14
_TAIL = KEY_BYTES - _BUCKET_BYTES
FIELDS = Struct("<4sHIB")
"""check, attempts, count, flags."""
_WIDTH = _TAIL + FIELDS.size
_COUNT_AT = _TAIL + 6
_FLAGS_AT = _WIDTH - 1

Place = tuple[bytearray, int]
"""Where a record's fields stand: for ``FIELDS.unpack_from`` and ``FIELDS.pack_into``."""


def key_of(data: bytes, kind: bytes = b"") -> bytes:
    """70 bits of it tell entries apart: two of a million are the same with a probability of 4e-10."""
    return blake2b(data, digest_size=KEY_BYTES, person=kind).digest()


class Table:
    def __init__(self) -> None:
        self._buckets = [bytearray() for _ in range(_BUCKETS)]

    def __len__(self) -> int:
        return sum(len(bucket) for bucket in self._buckets) // _WIDTH

    def find(self, key: bytes) -> Place | None:
        bucket = self._bucket(key)
        tail = key[_BUCKET_BYTES:]
        at = bucket.find(tail)
        while at % _WIDTH and at >= 0:
            at = bucket.find(tail, at + 1)
        return (bucket, at + _TAIL) if at >= 0 else None

    def add(self, key: bytes, check: bytes, attempts: int, count: int, flags: int) -> None:
        """Add what ``find`` has not found."""
        bucket = self._bucket(key)
        bucket += key[_BUCKET_BYTES:] + FIELDS.pack(check, attempts, count, flags)

    def _bucket(self, key: bytes) -> bytearray:
        return self._buckets[(key[0] << 8 | key[1]) % _BUCKETS]

    def flags(self) -> Iterator[bytearray]:
        """The flags of all records, a bucket at a time."""
        return (bucket[_FLAGS_AT::_WIDTH] for bucket in self._buckets)

    def clear(self, flags: int) -> None:
        """Take these flags from all records, and set all counts to 0."""
        kept = bytes(value & ~flags for value in range(256))
        for bucket in self._buckets:
            zeros = bytes(len(bucket) // _WIDTH)
            for at in range(_COUNT_AT, _FLAGS_AT):
                bucket[at::_WIDTH] = zeros
            bucket[_FLAGS_AT::_WIDTH] = bucket[_FLAGS_AT::_WIDTH].translate(kept)
