"""Maps a function over items in this process and in a second one, to parse large files in half the time.

The second process is optional: where it cannot be started, or dies, its items are processed here.
"""

from __future__ import annotations

import subprocess
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from contextlib import suppress
from multiprocessing.connection import Connection, Pipe
from typing import Generic, TypeVar

from processor.core import platform
from processor.core.import_path import module_command

ItemT = TypeVar("ItemT")
ResultT = TypeVar("ResultT")

MAX_PENDING = 8
"""Items that are submitted to the worker and have no result yet."""
MAX_BUFFERED = 32
"""Results that may wait here for an earlier one, while the worker starts or gets no CPU time."""


def map_with_worker(
    work: Callable[[ItemT], ResultT], items: Iterable[ItemT], *, file_descriptors: Sequence[int] = ()
) -> Generator[ResultT, None, None]:
    """Yield ``work(item)`` for each item, in order. A second process computes about half of the results.

    Takes at most MAX_PENDING + MAX_BUFFERED items ahead of the result that it yields. ``work``, items and results are
    pickled: only results may be large. ``file_descriptors`` are the open files that ``work`` reads. An exception of
    ``work`` is raised here.
    """
    worker = _start_worker(work, file_descriptors)
    if worker is None:
        yield from map(work, items)
        return
    try:
        yield from _map_in_both(work, enumerate(items), worker)
    finally:
        worker.stop()


def _map_in_both(
    work: Callable[[ItemT], ResultT], numbered: Iterator[tuple[int, ItemT]], worker: WorkerProcess[ItemT, ResultT]
) -> Generator[ResultT, None, None]:
    """Keep the worker busy, and process items here while it has no result ready."""
    next_number = 0
    done: dict[int, ResultT] = {}
    while True:
        worker.submit(numbered)
        if next_number in done:
            yield done.pop(next_number)
            next_number += 1
        elif worker.has_result() or len(done) >= MAX_BUFFERED:
            done |= worker.next_result()
        elif own := next(numbered, None):
            done[own[0]] = work(own[1])
        elif worker.has_pending:
            done |= worker.next_result()
        else:
            return


def _start_worker(
    work: Callable[[ItemT], ResultT], file_descriptors: Sequence[int]
) -> WorkerProcess[ItemT, ResultT] | None:
    if not platform.can_inherit_files() or platform.available_cpus() < 2:
        return None
    try:
        return WorkerProcess(work, file_descriptors)
    except OSError:
        return None


class WorkerProcess(Generic[ItemT, ResultT]):
    """A second process that applies ``work`` to the items submitted to it, in their order."""

    def __init__(self, work: Callable[[ItemT], ResultT], file_descriptors: Sequence[int] = ()) -> None:
        """Start the process. Raises OSError where that is not possible."""
        self._work = work
        self._pending: deque[tuple[int, ItemT]] = deque()
        self._is_lost = False
        self._connection, remote = Pipe()
        with remote:
            self._process = subprocess.Popen(  # noqa: S603
                # multiprocessing's own processes would import the user's main module a second time.
                module_command(__name__, str(remote.fileno())),
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                start_new_session=True,  # Ctrl-C is handled by the main process alone
                **platform.inherit_files([remote.fileno(), *file_descriptors]),
            )
        self._send(work)

    @property
    def has_pending(self) -> bool:
        """Whether submitted items have no result yet."""
        return bool(self._pending)

    def submit(self, numbered: Iterator[tuple[int, ItemT]]) -> None:
        """Take (number, item) pairs from ``numbered`` until MAX_PENDING are pending."""
        while len(self._pending) < MAX_PENDING and not self._is_lost and (pair := next(numbered, None)):
            self._pending.append(pair)
            self._send(pair[1])

    def has_result(self) -> bool:
        """Whether ``next_result`` returns without waiting."""
        return bool(self._pending) and self._connection.poll()

    def next_result(self) -> dict[int, ResultT]:
        """Wait for the next result, by its number. If the process is gone, compute all pending results here."""
        try:
            result: ResultT = self._connection.recv()
        except (EOFError, OSError):
            self._is_lost = True
            results = {number: self._work(item) for number, item in self._pending}
            self._pending.clear()
            return results
        return {self._pending.popleft()[0]: result}

    def stop(self) -> None:
        """End the process and wait until it has ended."""
        self._connection.close()
        self._process.kill()
        self._process.wait()

    def _send(self, message: object) -> None:
        with suppress(OSError):  # next_result() notices that the process is gone
            self._connection.send(message)


def main(file_descriptor: str) -> None:
    """Run the second process. It talks to the first one through ``file_descriptor``."""
    serve(Connection(int(file_descriptor)))


def serve(connection: Connection) -> None:
    """Receive the function, then items, and send a result for each, until the connection is closed."""
    with connection, suppress(EOFError, OSError):
        work = connection.recv()
        while True:
            connection.send(work(connection.recv()))
