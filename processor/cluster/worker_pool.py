"""The workers of a run: starts them, replaces those that are lost, and chooses one for each request."""

from __future__ import annotations

import asyncio

from processor.cluster.link import StartWorker
from processor.cluster.messages import WorkerInfo, WorkerSettings
from processor.cluster.program_version import python_version, sources_digest
from processor.cluster.remote_worker import RemoteWorker
from processor.cluster.target_table import TargetTable
from processor.core.errors import ConfigError, InternalError, ProcessorError
from processor.core.events import Listener, Notice
from processor.core.process_errors import WorkerLost, WorkersUnusable
from processor.core.version import __version__
from processor.core.worker_events import WorkerEnded, WorkerStarted

MAX_LOSSES = 5
"""So many losses one after the other, without a finished request in between, end the run."""

WAIT_FOR_START_S = 30.0
"""How long the run waits for all of its workers before it begins with those that are there."""


class WorkerPool:
    """Use it from one event loop: ``open``, then ``acquire`` for each request, and ``close`` at the end."""

    def __init__(
        self,
        start_worker: StartWorker,
        *,
        workers: int,
        settings: WorkerSettings,
        targets: TargetTable,
        emit: Listener,
        max_wait_s: float,
    ) -> None:
        """``max_wait_s``: how long requests wait for a worker while there is none."""
        self._start_worker = start_worker
        self._wanted = workers
        self._settings = settings
        self._targets = targets
        self._emit = emit
        self._max_wait_s = max_wait_s
        self._loop = asyncio.get_running_loop()
        self._workers: list[RemoteWorker] = []
        self._starting: set[asyncio.Task[None]] = set()
        self._closing: set[asyncio.Task[None]] = set()
        self._is_decided = asyncio.Event()
        """Set while there is a worker, or it is known that there will be none."""
        self._empty_since = self._loop.time()
        self._failure: str | None = None
        self._started = 0
        self._generation = 0
        """Grows with each loss that counts: of several workers that are lost together, only one counts."""
        self._losses_in_a_row = 0
        self._said: set[str] = set()

    @property
    def workers(self) -> list[WorkerInfo]:
        """Those that can be used now."""
        return [worker.info for worker in self._workers]

    @property
    def in_flight(self) -> dict[str, int]:
        """The requests in flight at each of them."""
        return {worker.name: worker.in_flight for worker in self._workers}

    async def open(self) -> None:
        """Start the workers, and wait until all are there, for WAIT_FOR_START_S at most. Raises nothing: where none
        can be used, ``acquire`` says so."""
        for _ in range(self._wanted):
            self._start_one()
        await asyncio.wait(self._starting, timeout=WAIT_FOR_START_S)

    async def close(self) -> None:
        for task in self._starting:
            task.cancel()
        for worker in self._workers:
            self._emit_ended(worker, None)
            self._close_later(worker)
        self._workers.clear()
        await asyncio.gather(*self._starting, *self._closing, return_exceptions=True)

    async def acquire(self) -> RemoteWorker:
        """Return the worker with the fewest requests, once there is one. Raises WorkersUnusable."""
        while True:
            if self._failure is not None:
                raise WorkersUnusable(self._failure)
            if self._workers:
                return min(self._workers, key=lambda worker: worker.in_flight)
            try:
                async with asyncio.timeout_at(self._empty_since + self._max_wait_s):
                    await self._is_decided.wait()
            except TimeoutError:
                self._fail(f"no worker has come for {self._max_wait_s / 3600:.3g} h")

    # ------------------------------------------------------------ starting

    def _start_one(self) -> None:
        self._started += 1
        task = asyncio.create_task(self._start(f"worker {self._started}", self._generation))
        self._starting.add(task)
        task.add_done_callback(self._starting.discard)

    async def _start(self, name: str, generation: int) -> None:
        worker: RemoteWorker | None = None
        try:
            worker = RemoteWorker(
                name,
                await self._start_worker(name),
                on_ended=self._on_request_ended,
                on_lost=lambda lost, error: self._on_lost(lost, error, generation),
                on_notice=self._notice_once,
            )
            if (problem := version_problem(await worker.describe())) is not None:
                raise ConfigError(problem)
            await worker.start(self._settings, self._targets)
        except (ConfigError, WorkerLost) as error:
            if worker is not None:
                self._close_later(worker)
            if isinstance(error, WorkerLost):
                self._count_loss(error, generation)
            else:
                self._on_unusable(name, error)
            return
        self._workers.append(worker)
        self._emit(WorkerStarted(at=self._loop.time(), worker=name, node=worker.info.node))
        self._is_decided.set()

    def _on_unusable(self, name: str, error: ConfigError) -> None:
        """It is not replaced: the next one there would be no better."""
        is_last = not self._workers and len(self._starting) <= 1  # this one
        if is_last:
            self._fail(f"no worker can be used: {error}")
        else:
            self._notice_once(f"{name} is not used: {error}")

    # ------------------------------------------------------------ losing

    def _on_request_ended(self) -> None:
        self._losses_in_a_row = 0

    def _on_lost(self, worker: RemoteWorker, error: ProcessorError, generation: int) -> None:
        self._workers.remove(worker)
        if not self._workers:
            self._is_decided.clear()
            self._empty_since = self._loop.time()
        self._close_later(worker)
        self._emit_ended(worker, str(error))
        if isinstance(error, InternalError):
            self._fail(str(error))
        else:
            self._count_loss(error, generation)

    def _count_loss(self, error: ProcessorError, generation: int) -> None:
        if generation == self._generation:
            self._generation += 1
            self._losses_in_a_row += 1
        if self._losses_in_a_row >= MAX_LOSSES:
            self._fail(f"{MAX_LOSSES} workers were lost, one after the other, without a reply in between: {error}")
        else:
            self._start_one()

    def _close_later(self, worker: RemoteWorker) -> None:
        task = self._loop.create_task(worker.close())
        self._closing.add(task)
        task.add_done_callback(self._closing.discard)

    def _fail(self, reason: str) -> None:
        self._failure = self._failure or reason
        self._is_decided.set()

    # ------------------------------------------------------------ telling

    def _emit_ended(self, worker: RemoteWorker, reason: str | None) -> None:
        event = WorkerEnded(
            at=self._loop.time(),
            worker=worker.name,
            node=worker.info.node,
            requests=worker.ended,
            lost_requests=worker.lost_requests,
            reason=reason,
        )
        self._emit(event)
        if reason is not None:
            lost = f"with {worker.lost_requests} requests in flight"
            text = f"{worker.name} on {worker.info.node} was lost, {lost}: {reason}"
            self._emit(Notice(at=event.at, text=text))

    def _notice_once(self, text: str) -> None:
        if text not in self._said:
            self._said.add(text)
            self._emit(Notice(at=self._loop.time(), text=text))


def version_problem(info: WorkerInfo) -> str | None:
    """Return why the worker does not understand the messages of this process; None where it does."""
    if info.sources != sources_digest():
        return (
            f"{info.node} has another version of processor ({info.version}, here {__version__}): "
            "install the same one on all nodes"
        )
    if info.python != python_version():
        return f"{info.node} has Python {info.python}, and here it is {python_version()}: use the same one on all nodes"
    return None
