"""Fingerprints of requests: two jobs with the same one ask for the same."""

from __future__ import annotations

from hashlib import blake2b
from typing import Any

import orjson

from processor.core import json_bytes
from processor.core.json_bytes import NotExact, has_large_float
from processor.core.models import JSON
from processor.protocols.base import STREAM_FIELDS

_STREAM, _STREAM_OPTIONS = STREAM_FIELDS
_REQUEST_HASH = blake2b(digest_size=16)


def fingerprint(path: str, body: JSON, *more: Any) -> str:
    """Return 32 hex digits: BLAKE2b-128 over the sorted-key JSON of [path, body without its stream keys, *more]."""
    return exact_fingerprint(path, body, *more).hex()


def fast_fingerprint(path: str, body: JSON, *more: Any) -> bytes:
    """Return the fingerprint of what orjson has read, as 16 bytes. Raises NotExact."""
    if _STREAM in body or _STREAM_OPTIONS in body:
        body = _without_stream_fields(body)
    try:
        request = orjson.dumps((path, body, *more), option=orjson.OPT_SORT_KEYS)
    except TypeError:  # orjson reads deeper nesting than it writes
        raise NotExact from None
    if 0x2B in request and has_large_float(request):
        raise NotExact
    digest = _REQUEST_HASH.copy()  # faster than a new hash object
    digest.update(request)
    return digest.digest()


def exact_fingerprint(path: str, body: JSON, *more: Any) -> bytes:
    """Return the same fingerprint, also where the values have integers of any size or are nested deeply."""
    request = json_bytes.dumps((path, _without_stream_fields(body), *more), orjson.OPT_SORT_KEYS)
    return blake2b(request, digest_size=16).digest()


def _without_stream_fields(body: JSON) -> JSON:
    return {key: value for key, value in body.items() if key not in STREAM_FIELDS}


def raw_fingerprint(data: bytes) -> str:
    """Return the fingerprint of a line that is not a job: 32 hex digits over its bytes."""
    return blake2b(data, digest_size=16).hexdigest()
