"""A second process for large files: parsing a million rows keeps two cores busy for as long as it would one twice.

Nothing depends on it: where it cannot be started, or dies, the blocks it was asked for are read here.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections import deque
from collections.abc import Generator
from contextlib import suppress
from multiprocessing.connection import Connection, Pipe
from pathlib import Path

from processor.results.blocks import Block, Span, read_block, spans
from processor.results.disk import File, RealDisk

AHEAD = 3
"""Blocks the helper is asked for before it has answered."""

# Not multiprocessing's own processes: they would import the user's main module a second time.
_CODE = "import sys; sys.path.insert(0, sys.argv[1]); from processor.results.helper import main; main(sys.argv[2:])"
_ROOT = str(Path(__file__).parents[2])


class Helper:
    """Reads blocks of one file when asked to, and answers in the order of asking."""

    def __init__(self, path: Path, *, replies: bool) -> None:
        """Raises OSError where it cannot be started."""
        self._asked: deque[Span] = deque()
        self._gone = False
        self._ours, theirs = Pipe()
        with theirs:
            handle = theirs.fileno()
            self._process = subprocess.Popen(  # noqa: S603
                [sys.executable, "-c", _CODE, _ROOT, str(handle), str(path), str(int(replies))],
                pass_fds=[handle],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                start_new_session=True,  # Ctrl-C is for us
            )

    def ask(self, todo: deque[Span]) -> None:
        """Take as much from ``todo`` as keeps it busy."""
        while todo and len(self._asked) < AHEAD and not self._gone:
            self._asked.append(todo.popleft())
            with suppress(OSError):  # is noticed when no answer comes
                self._ours.send(self._asked[-1])

    def has_answer(self) -> bool:
        return bool(self._asked) and self._ours.poll()

    def answer(self, todo: deque[Span]) -> dict[Span, Block]:
        """Wait for the next one. Where the helper is gone, what it was asked for is ``todo`` again."""
        try:
            block: Block = self._ours.recv()
        except (EOFError, OSError):
            self._gone = True
            todo.extendleft(reversed(self._asked))
            self._asked.clear()
            return {}
        return {self._asked.popleft(): block}

    def dismiss(self) -> None:
        self._ours.close()
        self._process.kill()
        self._process.wait()


def main(arguments: list[str]) -> None:
    """The helper's side."""
    handle, path, replies = arguments
    file = RealDisk().open(Path(path), "read")
    serve(Connection(int(handle)), file, replies=replies == "1")


def serve(theirs: Connection, file: File, *, replies: bool) -> None:
    with theirs:
        while True:
            try:
                theirs.send(read_block(file, *theirs.recv(), replies=replies))
            except (EOFError, OSError):
                return


def blocks_with_help(path: Path, file: File, *, replies: bool) -> Generator[Block, None, None]:
    """Like ``blocks``."""
    helper = _helper(path, replies=replies)
    try:
        yield from _shared(file, helper, replies=replies)
    finally:
        if helper:
            helper.dismiss()


def _helper(path: Path, *, replies: bool) -> Helper | None:
    if _processors() < 2:
        return None
    try:
        return Helper(path, replies=replies)
    except OSError:
        return None


def _processors() -> int:
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def _shared(file: File, helper: Helper | None, *, replies: bool) -> Generator[Block, None, None]:
    """While the helper is busy, reads what it has not been asked for."""
    todo = deque(spans(file.size()))
    done: dict[Span, Block] = {}
    for wanted in tuple(todo):
        while wanted not in done:
            if helper:
                helper.ask(todo)
            if helper and (helper.has_answer() or not todo):
                done |= helper.answer(todo)
            else:
                span = todo.popleft()
                done[span] = read_block(file, *span, replies=replies)
        yield done.pop(wanted)
