"""Keys: a value that does not print itself, and the removal of keys from errors."""

from __future__ import annotations

from dataclasses import dataclass, field

from processor.core.errors import RequestError, StatusError

MASK = "•••"


@dataclass(frozen=True, slots=True)
class Secret:
    """A key that prints as dots, so that it does not get into logs, rows or tracebacks."""

    value: str = field(repr=False)

    def __str__(self) -> str:
        return MASK


def mask_key(error: RequestError, key: str) -> None:
    """Replace the key in an error: some servers repeat the key that they refuse."""
    from processor.core import json_bytes

    error.__context__ = None  # the error of a decoder holds the bytes at which it failed
    error.args = tuple(arg.replace(key, MASK) if isinstance(arg, str) else arg for arg in error.args)
    if isinstance(error, StatusError) and error.body is not None:
        error.body = json_bytes.loads_exactly(json_bytes.dumps(error.body).replace(key.encode(), MASK.encode()))
