"""Sessions that share a limiter in memory, on the virtual clock: it can be killed, and so can they."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from processor import Settings
from processor.core.errors import BadRequest
from processor.core.events import RequestListener
from processor.core.models import JSON, Job, Reply, Target
from processor.session.shared_session import SharedSession
from processor.shared_limits.host import LimiterHost
from processor.shared_limits.link import ConnectLimiter, LimiterLink, LimiterLost
from processor.simulator.memory_transport import MemoryTransport
from processor.simulator.provider import SimulatedProvider
from processor.simulator.settings import SimulatorSettings
from tests.support.session_world import FAST_PROVIDER, SETTINGS


class MemoryLimiterLink:
    """A ``LimiterLink`` to a host of this process. Each call takes ``latency_s`` in each direction."""

    def __init__(self, cluster: LimiterCluster, host: LimiterHost, latency_s: float) -> None:
        self._cluster = cluster
        self._host = host
        self._latency_s = latency_s
        self.is_cut = False
        """The session has died: none of its calls arrives any more."""

    async def describe(self) -> bytes:
        answer: bytes = await self._call(self._host.describe)
        return answer

    async def open(self, opening: bytes) -> bytes:
        answer: bytes = await self._call(self._host.open, opening)
        return answer

    async def push(self, session: str, group: bytes) -> None:
        await self._call(self._host.push, session, group)

    async def pull(self, session: str) -> bytes:
        answer: bytes = await self._call(self._host.pull, session)
        return answer

    async def leave(self, session: str) -> None:
        await self._call(self._host.leave, session)

    async def _call(self, method: Callable[..., Any], *args: Any) -> Any:
        self._cluster.calls += 1
        await self._way()
        answer = await method(*args)
        await self._way()
        return answer

    async def _way(self) -> None:
        if self.is_cut:
            await asyncio.get_running_loop().create_future()
        await asyncio.sleep(self._latency_s)
        if self._host is not self._cluster.host:
            raise LimiterLost("it was killed")


class LimiterCluster:
    """Holds the host that all sessions of one key reach."""

    def __init__(self, latency_s: float = 0.002) -> None:
        self.host = LimiterHost(node="memory")
        self.calls = 0
        self.links: list[MemoryLimiterLink] = []
        self.targets: set[Target] = set()
        self._latency_s = latency_s

    def connect(self, target: Target, key_command: tuple[str, ...]) -> ConnectLimiter:
        self.targets.add(target)

        async def link() -> LimiterLink:
            self.links.append(MemoryLimiterLink(self, self.host, self._latency_s))
            return self.links[-1]

        return link

    def kill_host(self) -> None:
        """The next call of each session finds another host, which knows nothing."""
        self.host = LimiterHost(node="memory")


@dataclass(slots=True, kw_only=True)
class SharedWorld:
    """Programs with a session each, at one provider."""

    provider: SimulatedProvider
    cluster: LimiterCluster
    rejected: set[str] = field(default_factory=set)
    """The ids of jobs that the provider rejects."""

    @classmethod
    def create(cls, settings: SimulatorSettings = FAST_PROVIDER, *, latency_s: float = 0.002) -> SharedWorld:
        provider = SimulatedProvider(replace(settings, track_identities=True))
        return cls(provider=provider, cluster=LimiterCluster(latency_s))

    def session(
        self, settings: Settings = SETTINGS, journal: Path | None = None, *, program: str = "one"
    ) -> SharedSession:
        send = MemoryTransport(self.provider, latency_s=(0.01, 0.01))

        async def transport(job: Job, target: Target, on_event: RequestListener) -> Reply:
            reply = await send(job, target, on_event)
            if job.custom_id in self.rejected:
                raise BadRequest("rejected", status=400)
            return reply

        return SharedSession(settings, journal, self.cluster.connect, program=program, transport=transport)

    @property
    def refused(self) -> int:
        return self.provider.billing.statuses[429]


async def rows_of(shared: SharedSession, jobs: list[JSON]) -> list[JSON]:
    """Return the rows of these jobs, and close the session."""
    await shared.open()
    try:
        await shared.read_new_rows()
        return list(await asyncio.gather(*(shared.session.result(job) for job in jobs)))
    finally:
        await shared.close()
