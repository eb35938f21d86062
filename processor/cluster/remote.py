"""The transport of a run whose requests are sent by workers."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from types import TracebackType
from typing import Self

from processor.cluster.grouping import group_interval_s
from processor.cluster.link import StartWorker
from processor.cluster.messages import SendRequest, WorkerInfo, WorkerSettings
from processor.cluster.remote_worker import NotSent
from processor.cluster.target_table import TargetTable
from processor.cluster.worker_pool import WorkerPool
from processor.core.events import Listener, RequestListener
from processor.core.models import Job, Reply, Target
from processor.core.text import surface
from processor.http.settings import TransportSettings


class RemoteTransport:
    """A ``Transport`` (see `processor.core.events`), for use as an async context manager.

    ``start_worker`` starts one of the ``workers``. ``variables`` names the environment variable of the key of each
    target that has one. ``emit`` takes WorkerStarted, WorkerEnded and Notice. ``max_wait_s``: how long requests wait
    while there is no worker.
    """

    def __init__(
        self,
        start_worker: StartWorker,
        settings: TransportSettings,
        *,
        workers: int,
        emit: Listener,
        variables: Mapping[Target, str] | None = None,
        max_wait_s: float = 6 * 3600.0,
    ) -> None:
        self._targets = TargetTable(variables or {})
        self._pool = WorkerPool(
            start_worker,
            workers=workers,
            settings=WorkerSettings(transport=settings, interval_s=group_interval_s(workers), surface=surface()),
            targets=self._targets,
            emit=emit,
            max_wait_s=max_wait_s,
        )
        self._last_number = 0

    @property
    def workers(self) -> list[WorkerInfo]:
        """The workers that can be used now."""
        return self._pool.workers

    def in_flight(self) -> dict[str, int]:
        """Return the requests in flight at each of them, by its name."""
        return self._pool.in_flight

    async def __aenter__(self) -> Self:
        await self._pool.open()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self._pool.close()

    async def __call__(self, job: Job, target: Target, on_event: RequestListener) -> Reply:
        """Raises what the transport of a worker raises; WorkerLost; and WorkersUnusable where there is none."""
        number_of_target = self._targets.number_of(target)
        sent = replace(job, metadata=None, has_metadata=False) if job.has_metadata else job
        while True:
            worker = await self._pool.acquire()
            self._last_number += 1
            try:
                return await worker.send(SendRequest(self._last_number, number_of_target, sent), on_event)
            except NotSent:
                continue

    def replace_key(self, before: Target, after: Target) -> None:
        """Later requests are sent with the key of ``after``."""
        self._targets.replace_key(before, after)
