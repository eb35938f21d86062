"""The operating system's errors, as a person should read them."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from processor.core.errors import OutputError


def cannot_write(path: Path, error: OSError) -> str:
    return f"cannot write {error.filename or path}: {error.strerror}"


@contextmanager
def as_output_error(path: Path) -> Iterator[None]:
    """``path`` is what is written inside: most of the system's errors do not say."""
    try:
        yield
    except OSError as error:
        raise OutputError(cannot_write(path, error)) from error
