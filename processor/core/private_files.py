"""New files are readable by their owner only: rows, logs and summaries hold what people have sent and received."""

from __future__ import annotations

import os
from pathlib import Path

NEW_FILE_MODE = 0o600
"""A file that exists keeps its mode."""


def private_opener(path: str, flags: int) -> int:
    """Open a file for ``open(path, opener=private_opener)``."""
    return os.open(path, flags, NEW_FILE_MODE)


def pipe_opener(path: str, flags: int) -> int:
    """As ``private_opener``, but a named pipe is opened without waiting for its reader. Raises OSError (ENXIO) where it
    has none. What a full pipe does not take is dropped."""
    return private_opener(path, flags | os.O_NONBLOCK if Path(path).is_fifo() else flags)
