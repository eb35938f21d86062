"""Reads values of JSON that may not be what its API says."""

from __future__ import annotations

from typing import Any

from processor.core.models import JSON


def objects_of(values: Any) -> list[JSON]:
    """The objects in a list; none where a server sent something else in its place."""
    return [value for value in values if isinstance(value, dict)] if isinstance(values, list) else []
