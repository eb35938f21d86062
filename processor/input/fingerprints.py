"""Fingerprints of requests: two jobs with the same one ask for the same."""

from __future__ import annotations

from hashlib import blake2b
from typing import Any

import orjson

from processor.core.models import JSON
from processor.protocols.base import STREAM_FIELDS

_STREAM, _STREAM_OPTIONS = STREAM_FIELDS
_REQUEST_HASH = blake2b(digest_size=16)


def fingerprint(path: str, body: JSON, *more: Any) -> str:
    """Return 32 hex digits: BLAKE2b-128 over the sorted-key JSON of [path, body without its stream keys, *more]."""
    return fingerprint_bytes(path, body, *more).hex()


def fingerprint_bytes(path: str, body: JSON, *more: Any) -> bytes:
    """Return the fingerprint as 16 bytes. Raises TypeError where the body is nested too deeply."""
    if _STREAM in body or _STREAM_OPTIONS in body:
        body = {key: value for key, value in body.items() if key not in STREAM_FIELDS}
    request = _REQUEST_HASH.copy()  # faster than a new hash object
    request.update(orjson.dumps((path, body, *more), option=orjson.OPT_SORT_KEYS))
    return request.digest()


def raw_fingerprint(data: bytes) -> str:
    """Return the fingerprint of a line that is not a job: 32 hex digits over its bytes."""
    return blake2b(data, digest_size=16).hexdigest()
