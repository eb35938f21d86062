"""New files are readable by their owner only: rows, logs and summaries hold what people have sent and received."""

from __future__ import annotations

import os

NEW_FILE_MODE = 0o600
"""A file that exists keeps its mode."""


def private_opener(path: str, flags: int) -> int:
    """Open a file for ``open(path, opener=private_opener)``."""
    return os.open(path, flags, NEW_FILE_MODE)
