"""A second process for large files: parsing a million lines keeps two cores busy for as long as it would one twice.

Nothing depends on it: where it cannot be started, or dies, what it was asked for is done here.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from contextlib import suppress
from multiprocessing.connection import Connection, Pipe
from pathlib import Path
from typing import Generic, TypeVar

Task = TypeVar("Task")
Answer = TypeVar("Answer")

MAX_PENDING = 8
"""Tasks the helper is asked for before it has answered."""
MAX_BUFFERED = 32
"""Answers that may wait here for earlier ones: of the time in which a helper starts, or is kept from its core."""

# Not multiprocessing's own processes: they would import the user's main module a second time.
_CODE = (
    "import sys; sys.path.insert(0, sys.argv[1]); "
    "from processor.core.worker_process import main; main(int(sys.argv[2]))"
)
_ROOT = str(Path(__file__).parents[2])


def map_with_worker(
    work: Callable[[Task], Answer], tasks: Iterable[Task], *, handles: Sequence[int] = ()
) -> Generator[Answer, None, None]:
    """``map(work, tasks)``, half of it in a second process. Takes tasks, and holds answers, only a few ahead.

    ``work``, tasks and answers are pickled: none may be large but the answers. The open files that ``work`` reads
    from are to be named by their ``handles``.
    """
    helper = _helper(work, handles)
    if helper is None:
        yield from map(work, tasks)
        return
    try:
        yield from _shared(work, enumerate(tasks), helper)
    finally:
        helper.dismiss()


def _shared(
    work: Callable[[Task], Answer], todo: Iterator[tuple[int, Task]], helper: WorkerProcess[Task, Answer]
) -> Generator[Answer, None, None]:
    """While the helper is busy, does what it has not been asked for."""
    wanted = 0
    done: dict[int, Answer] = {}
    while True:
        helper.ask(todo)
        if wanted in done:
            yield done.pop(wanted)
            wanted += 1
        elif helper.has_answer() or len(done) >= MAX_BUFFERED:
            done |= helper.answer()
        elif mine := next(todo, None):
            done[mine[0]] = work(mine[1])
        elif helper.is_asked:
            done |= helper.answer()
        else:
            return


def _helper(work: Callable[[Task], Answer], handles: Sequence[int]) -> WorkerProcess[Task, Answer] | None:
    if _processors() < 2:
        return None
    try:
        return WorkerProcess(work, handles)
    except OSError:
        return None


def _processors() -> int:
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


class WorkerProcess(Generic[Task, Answer]):
    """Does what it is asked for, and answers in the order of asking."""

    def __init__(self, work: Callable[[Task], Answer], handles: Sequence[int] = ()) -> None:
        """Raises OSError where it cannot be started."""
        self._work = work
        self._asked: deque[tuple[int, Task]] = deque()
        self._gone = False
        self._ours, theirs = Pipe()
        with theirs:
            self._process = subprocess.Popen(  # noqa: S603
                [sys.executable, "-c", _CODE, _ROOT, str(theirs.fileno())],
                pass_fds=[theirs.fileno(), *handles],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                start_new_session=True,  # Ctrl-C is for us
            )
        self._send(work)

    @property
    def is_asked(self) -> bool:
        return bool(self._asked)

    def ask(self, todo: Iterator[tuple[int, Task]]) -> None:
        """Take as much from ``todo`` as keeps it busy."""
        while len(self._asked) < MAX_PENDING and not self._gone and (numbered := next(todo, None)):
            self._asked.append(numbered)
            self._send(numbered[1])

    def has_answer(self) -> bool:
        return bool(self._asked) and self._ours.poll()

    def answer(self) -> dict[int, Answer]:
        """Wait for the next one. Where the helper is gone, all that it was asked for is done here."""
        try:
            answer: Answer = self._ours.recv()
        except (EOFError, OSError):
            self._gone = True
            answers = {number: self._work(task) for number, task in self._asked}
            self._asked.clear()
            return answers
        return {self._asked.popleft()[0]: answer}

    def dismiss(self) -> None:
        self._ours.close()
        self._process.kill()
        self._process.wait()

    def _send(self, message: object) -> None:
        with suppress(OSError):  # is noticed when no answer comes
            self._ours.send(message)


def main(handle: int) -> None:
    """The helper's side."""
    serve(Connection(handle))


def serve(theirs: Connection) -> None:
    with theirs, suppress(EOFError, OSError):
        work = theirs.recv()
        while True:
            theirs.send(work(theirs.recv()))
