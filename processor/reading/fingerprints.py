"""What makes two requests the same request."""

from __future__ import annotations

from hashlib import blake2b
from typing import Any

import orjson

from processor.models import JSON

_STREAM_KEYS = ("stream", "stream_options")


def fingerprint(path: str, body: JSON, *more: Any) -> str:
    """32 hex digits: BLAKE2b-128 over the sorted-key JSON of [path, body without its stream flags, *more]."""
    if "stream" in body or "stream_options" in body:
        body = {key: value for key, value in body.items() if key not in _STREAM_KEYS}
    return digest(orjson.dumps((path, body, *more), option=orjson.OPT_SORT_KEYS))


def digest(data: bytes) -> str:
    """32 hex digits that stand for these bytes."""
    return blake2b(data, digest_size=16).hexdigest()
