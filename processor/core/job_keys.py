"""Identifies jobs in a few bytes: a key of the job's id and a check of its request. Pure."""

from __future__ import annotations

from functools import lru_cache
from hashlib import blake2b
from struct import Struct

KEY_BYTES = 9
"""Among a million random keys two are equal with a probability of 1e-10."""

CHECK_BYTES = 4

PACKED_IDENTITY = Struct(f"<{KEY_BYTES}s{CHECK_BYTES}s?")
"""Key and check of one job, and whether it names its model."""

_KEY_HASH = blake2b(digest_size=KEY_BYTES)


@lru_cache(maxsize=1024)  # called at each step of a job
def job_key(custom_id: str) -> bytes:
    """Return the KEY_BYTES that stand for a job's id."""
    key = _KEY_HASH.copy()  # takes two thirds of the time of a new hash object
    key.update(custom_id.encode("utf-8", "surrogatepass"))
    return key.digest()


@lru_cache(maxsize=1024)  # called when a job is read and when its row is written
def request_check(fingerprint: str) -> bytes:
    """Return the CHECK_BYTES that differ, almost always, between two different requests of one job."""
    try:
        return bytes.fromhex(fingerprint)[:CHECK_BYTES].ljust(CHECK_BYTES, b"\0")
    except ValueError:
        return blake2b(fingerprint.encode("utf-8", "surrogatepass"), digest_size=CHECK_BYTES).digest()


def failure_check(fingerprint: str, streamed: object) -> bytes:
    """Return the check of a request that failed for good: also how it was asked for matters then, if that is known."""
    check = request_check(fingerprint)
    return check if type(streamed) is not bool else bytes((check[0] ^ (0xAA if streamed else 0x55), *check[1:]))
