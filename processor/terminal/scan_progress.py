"""A bar on the terminal while large files are read."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from processor.terminal import console

MIN_BYTES = 8 << 20
"""Smaller files are read before a bar could be seen."""


@contextmanager
def scan_progress(paths: Sequence[Path]) -> Iterator[Callable[[int, int], None]]:
    """Yield what is to be called with the bytes and lines read so far. Off a terminal it does nothing."""
    stream = console.stderr(None)
    size = sum(path.stat().st_size for path in paths if path.is_file())
    if size < MIN_BYTES or not console.is_terminal(stream):
        yield lambda end, lines: None
        return
    from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeRemainingColumn

    columns = (BarColumn(), TaskProgressColumn(), TextColumn("{task.fields[lines]:,} lines"), TimeRemainingColumn())
    with Progress(*columns, console=console.rich_console(stream), transient=True) as bar:
        task = bar.add_task("", total=size, lines=0)
        yield lambda end, lines: bar.update(task, completed=end, lines=lines)
