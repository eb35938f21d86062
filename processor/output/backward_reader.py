"""Reads the lines of a file from its end to its beginning: of the rows of a job the last one counts."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

CHUNK_BYTES = 1 << 20


def lines_backward(path: Path) -> Iterator[bytes]:
    """Yield the lines without their line feeds, the last one first, and no empty ones. Raises OSError.

    What is appended meanwhile is not read. Memory does not depend on the size of the file, but for its longest line.
    """
    with open(path, "rb") as file:
        at = file.seek(0, os.SEEK_END)
        pieces: list[bytes] = []  # of a line whose beginning is not read yet, the last one first
        while at:
            start = max(at - CHUNK_BYTES, 0)
            file.seek(start)
            first, line_feed, others = file.read(at - start).partition(b"\n")
            at = start
            if not line_feed:
                pieces.append(first)
                continue
            lines = others.split(b"\n")
            pieces.append(lines.pop())
            yield from filter(None, (b"".join(reversed(pieces)), *reversed(lines)))
            pieces = [first]
        yield from filter(None, (b"".join(reversed(pieces)),))
