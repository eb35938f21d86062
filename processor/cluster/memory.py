"""Workers in this process, on the event loop's clock: for tests, with faults by a seed.

The bytes pass through the same calls as between two machines. Calls are delayed, responses of different workers arrive
in any order, a worker may die at any call, and a partitioned worker keeps sending requests although the driver cannot
reach it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from contextlib import suppress
from random import Random
from types import TracebackType
from typing import Any, Self

from processor.cluster.host import WorkerHost
from processor.cluster.link import WorkerLink
from processor.core.events import RequestListener, Transport
from processor.core.fast_dataclass import dataclass
from processor.core.models import Job, Reply, Target
from processor.core.process_errors import WorkerLost


@dataclass(frozen=True, slots=True, kw_only=True)
class ClusterFaults:
    """What happens to the workers of a run. Calls are numbered from 1, in the order in which they are made."""

    latency_s: tuple[float, float] = (0.0005, 0.003)
    """Bounds of the time that a call takes in each direction."""
    kill_at_calls: frozenset[int] = frozenset()
    """The worker is killed at this call: before it has it, or once it has done it and before the answer arrives."""
    partitions: tuple[tuple[float, float], ...] = ()
    """From when, and for how long, the workers that exist then cannot be reached."""
    detected_after_s: float = 10.0
    """A worker that cannot be reached for so long is reported as lost. It does not know that, and works on."""
    failing_starts: int = 0
    """How many workers cannot be started, from the first one on."""


class MemoryCluster:
    """``start`` is what ``RemoteTransport`` starts its workers with. All of them send through one transport."""

    def __init__(
        self,
        transport: Transport,
        *,
        faults: ClusterFaults | None = None,
        seed: int = 0,
        environ: Mapping[str, str] | None = None,
        changed_info: Callable[[bytes], bytes] = lambda info: info,
    ) -> None:
        """``changed_info`` may change what a worker tells of itself, as if it were of another version."""
        self.faults = faults or ClusterFaults()
        self.rng = Random(f"cluster {seed}")
        self.calls = 0
        self.links: list[MemoryLink] = []
        self._transport = transport
        self._environ = environ or {}
        self._changed_info = changed_info
        self._timers: list[asyncio.TimerHandle] | None = None

    async def start(self, name: str) -> WorkerLink:
        """Raises WorkerLost."""
        self._schedule_partitions()
        await asyncio.sleep(self.latency_s())
        if len(self.links) < self.faults.failing_starts:
            self.links.append(MemoryLink(self, self._new_host(), name, self._changed_info))
            raise WorkerLost("it could not be started")
        link = MemoryLink(self, self._new_host(), name, self._changed_info)
        self.links.append(link)
        return link

    def latency_s(self) -> float:
        return self.rng.uniform(*self.faults.latency_s)

    def partition(self, duration_s: float) -> None:
        """Let nothing pass between the driver and the workers that exist now."""
        for link in self.links:
            link.partition(duration_s, self.faults.detected_after_s)

    async def close(self) -> None:
        """End all workers, also those that cannot be reached."""
        for timer in self._timers or ():
            timer.cancel()
        for link in self.links:
            await link.end()

    def _new_host(self) -> WorkerHost:
        return WorkerHost(
            lambda settings, on_notice: PlainSender(self._transport),
            node="memory",
            max_connections=10_000,
            environ=self._environ,
        )

    def _schedule_partitions(self) -> None:
        if self._timers is None:
            loop = asyncio.get_running_loop()
            self._timers = [
                loop.call_at(from_s, self.partition, duration_s) for from_s, duration_s in self.faults.partitions
            ]


class MemoryLink:
    """A ``WorkerLink`` to a host in this process."""

    def __init__(
        self, cluster: MemoryCluster, host: WorkerHost, name: str, changed_info: Callable[[bytes], bytes]
    ) -> None:
        self.name = name
        self._cluster = cluster
        self._host = host
        self._changed_info = changed_info
        loop = asyncio.get_running_loop()
        self._lost: asyncio.Future[None] = loop.create_future()
        """Done once the driver knows that the worker is lost."""
        self._is_reachable = asyncio.Event()
        self._is_reachable.set()
        self._is_dead = False
        self._work: set[asyncio.Task[Any]] = set()
        """Calls that the host is doing, also those whose answer is not awaited any more."""
        self._timers: list[asyncio.TimerHandle] = []
        self.passed: list[tuple[str, bytes]] = []
        """The name of each call, and what it passes to the worker."""

    async def describe(self) -> bytes:
        return self._changed_info(await self._call(self._host.describe))

    async def open(self, settings: bytes) -> None:
        await self._call(self._host.open, settings)

    async def set_targets(self, targets: bytes) -> bytes:
        answer: bytes = await self._call(self._host.set_targets, targets)
        return answer

    async def push(self, group: bytes) -> None:
        await self._call(self._host.push, group)

    async def pull(self) -> bytes:
        answer: bytes = await self._call(self._host.pull)
        return answer

    async def close(self) -> None:
        if self._is_reachable.is_set():
            await self.end()

    async def end(self) -> None:
        """End the worker, also where it cannot be reached."""
        for timer in self._timers:
            timer.cancel()
        self._is_reachable.set()
        self.kill("it was closed")
        await asyncio.gather(*self._work, return_exceptions=True)

    def kill(self, reason: str = "it was killed") -> None:
        """End the worker at once: what it has in flight is aborted, and the driver hears of it."""
        if not self._is_dead:
            self._is_dead = True
            for task in self._work:
                task.cancel()
            self._start(self._host.close)
            self._report_lost(reason)

    def partition(self, duration_s: float, detected_after_s: float) -> None:
        loop = asyncio.get_running_loop()
        self._is_reachable.clear()
        self._timers += [
            loop.call_later(duration_s, self._is_reachable.set),
            loop.call_later(detected_after_s, self._detect),
        ]

    def _detect(self) -> None:
        if not self._is_reachable.is_set():
            self._report_lost("it could not be reached")

    def _report_lost(self, reason: str) -> None:
        if not self._lost.done():
            self._lost.set_exception(WorkerLost(reason))
            self._lost.exception()  # read, so that asyncio does not log it

    def _start(self, work: Callable[..., Any], *args: bytes) -> asyncio.Task[Any]:
        task: asyncio.Task[Any] = asyncio.ensure_future(work(*args))
        self._work.add(task)
        task.add_done_callback(self._work.discard)
        return task

    async def _call(self, work: Callable[..., Any], *args: bytes) -> Any:
        """Raises WorkerLost."""
        cluster = self._cluster
        cluster.calls += 1
        self.passed.append((work.__name__, b"".join(args)))
        dies = cluster.calls in cluster.faults.kill_at_calls
        dies_before = dies and cluster.rng.random() < 0.5
        call = asyncio.ensure_future(self._delivered(work, args, dies_before=dies_before, dies_after=dies))
        try:
            await asyncio.wait({call, self._lost}, return_when=asyncio.FIRST_COMPLETED)
            if self._lost.done():
                self._lost.result()
            return call.result()
        finally:
            call.cancel()
            with suppress(asyncio.CancelledError, WorkerLost):
                await call

    async def _delivered(
        self, work: Callable[..., Any], args: tuple[bytes, ...], *, dies_before: bool, dies_after: bool
    ) -> Any:
        await self._travel()
        if dies_before:
            self.kill()
        if self._is_dead:
            raise WorkerLost("it is not there any more")
        answer = await asyncio.shield(self._start(work, *args))
        if dies_after:
            self.kill()
        await self._travel()
        return answer

    async def _travel(self) -> None:
        await asyncio.sleep(self._cluster.latency_s())
        await self._is_reachable.wait()


class PlainSender:
    """A transport as a worker uses it, without connections or keys."""

    def __init__(self, transport: Transport) -> None:
        self._transport = transport

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        pass

    async def __call__(self, job: Job, target: Target, on_event: RequestListener) -> Reply:
        return await self._transport(job, target, on_event)

    def replace_key(self, before: Target, after: Target) -> None:
        pass
