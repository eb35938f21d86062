"""A bar on the terminal while large files are read, and while a run is rehearsed."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TextIO

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
    with _bar(stream, size, "lines") as update:
        yield update


@contextmanager
def rehearsal_progress() -> Iterator[Callable[[int, int], None]]:
    """Yield what is to be called with how many jobs have been played, of how many. Off a terminal it does nothing."""
    stream = console.stderr(None)
    if not console.is_terminal(stream):
        yield lambda done, jobs: None
        return
    with _bar(stream, None, "jobs") as update:
        yield lambda done, jobs: update(done, done, jobs)


@contextmanager
def _bar(stream: TextIO, total: int | None, what: str) -> Iterator[Callable[..., None]]:
    from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeRemainingColumn

    columns = (BarColumn(), TaskProgressColumn(), TextColumn(f"{{task.fields[count]:,}} {what}"), TimeRemainingColumn())
    with Progress(*columns, console=console.rich_console(stream), transient=True) as bar:
        task = bar.add_task("", total=total, count=0)
        yield lambda at, count, total=total: bar.update(task, completed=at, count=count, total=total)
