"""Looks in the rows of earlier runs for a reply of one endpoint and model."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import orjson

from processor.output.storage import Storage

_CHUNK_BYTES = 1 << 20


def has_reply_of(storage: Storage, path: Path, size: int, endpoint: str, model: str) -> bool:
    """Whether one of the rows in the first ``size`` bytes has a reply of this endpoint and model. Raises OSError."""
    with closing(storage.open(path, "read")) as file:
        return any(_is_reply_of(line, endpoint, model) for line in _lines(file.read, size))


def _lines(read: Any, size: int) -> Iterator[bytes]:
    rest = b""
    for at in range(0, size, _CHUNK_BYTES):
        *lines, rest = (rest + read(at, min(_CHUNK_BYTES, size - at))).split(b"\n")
        yield from lines
    yield rest


def _is_reply_of(line: bytes, endpoint: str, model: str) -> bool:
    try:
        row = orjson.loads(line)
        if row["error"] is not None:
            return False
        if "asked_model" in row:
            return bool(row["asked_model"] == model and row.get("endpoint", endpoint) == endpoint)
        # A row of version 0.2.0 or before names only the model that the reply names, which may have a date behind it.
        return bool(row["response"]["body"]["model"].startswith(model))
    except (ValueError, KeyError, TypeError, AttributeError):
        return False
