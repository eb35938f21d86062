"""New files are readable by their owner only: rows, logs and summaries hold what people have sent and received."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from processor.core import platform

NEW_FILE_MODE = 0o600
"""A file that exists keeps its mode."""


def private_opener(path: str, flags: int) -> int:
    """Open a file for ``open(path, opener=private_opener)``."""
    return os.open(path, flags, NEW_FILE_MODE)


def pipe_opener(path: str, flags: int) -> int:
    """As ``private_opener``, but a named pipe is opened without waiting for its reader. Raises OSError (ENXIO) where it
    has none. What a full pipe does not take is dropped."""
    return private_opener(path, flags | os.O_NONBLOCK if Path(path).is_fifo() else flags)


def sync(file: BinaryIO) -> None:
    """Return when all that was written survives a loss of power. Raises OSError."""
    file.flush()
    platform.sync_file(file.fileno())


@contextmanager
def replaced_file(path: Path, temp_suffix: str) -> Iterator[BinaryIO]:
    """Open a file beside ``path``, which takes its place, synced, when the body is left without an error.

    Raises OSError.
    """
    temp = path.with_name(path.name + temp_suffix)
    with open(temp, "wb", opener=private_opener) as file:
        yield file
        sync(file)
    platform.replace_file(temp, path)
