"""Reads JSON that may be damaged, and values that may be of any type. Nothing here raises."""

from __future__ import annotations

from datetime import datetime
from functools import lru_cache
from typing import Any

import orjson

from processor.core.json_bytes import loads_exactly, may_have_long_integer
from processor.core.models import JSON

MAX_NUMBER = 1e15
"""No larger number makes sense where ``number_of`` is used."""


def parsed(data: bytes) -> Any:
    """Return the value; None where the bytes are no JSON."""
    try:
        return orjson.loads(data)
    except orjson.JSONDecodeError:
        return None


def fields_of(value: Any) -> JSON:
    """Return the object itself; an empty one where the value is no object."""
    return value if isinstance(value, dict) else {}


def exact_fields(data: bytes) -> JSON:
    """Return the object with integers of any size as they stand there; an empty one where the bytes are none."""
    if not may_have_long_integer(data):
        return fields_of(parsed(data))
    try:
        return fields_of(loads_exactly(data))
    except ValueError:
        return {}


def number_of(value: Any) -> float | None:
    """Return a number from 0 to MAX_NUMBER; None for anything else."""
    return value if type(value) in (int, float) and 0 <= value < MAX_NUMBER else None


def unix_time_of(value: Any) -> float | None:
    """Return the Unix seconds of an instant in ISO 8601; None for anything else."""
    return _parse_time(value) if isinstance(value, str) else None


@lru_cache(maxsize=256)  # rows beside each other started in the same second
def _parse_time(text: str) -> float | None:
    try:
        return datetime.fromisoformat(text).timestamp()
    except (ValueError, OverflowError, OSError):
        return None
