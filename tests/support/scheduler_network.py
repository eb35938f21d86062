"""A network that is down at times, as when a laptop sleeps, a cable is pulled or a tunnel changes its address."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from math import inf

from processor.core.errors import ConnectError, ConnectionLost, StreamTruncated, TransportError
from processor.core.events import RequestEvent, RequestListener, ResponseStarted, Sent, Transport
from processor.core.models import Job, Reply, Target


class UnreliableNetwork:
    """A transport that fails during some intervals: nothing can be reached, and requests in flight are cut."""

    def __init__(self, transport: Transport, down: list[tuple[float, float]]) -> None:
        """``down``: from and to, in seconds since the run began."""
        self._transport = transport
        self._down = down

    async def __call__(self, job: Job, target: Target, on_event: RequestListener) -> Reply:
        now = asyncio.get_running_loop().time()
        if any(begin <= now < end for begin, end in self._down):
            await asyncio.sleep(0.05)
            raise ConnectError("the network is unreachable")
        error: type[TransportError] = ConnectError

        def observe(event: RequestEvent) -> None:
            nonlocal error
            match event:
                case Sent():
                    error = ConnectionLost
                case ResponseStarted():
                    error = StreamTruncated
            on_event(event)

        try:
            async with asyncio.timeout_at(min((begin for begin, _ in self._down if begin > now), default=inf)):
                return await self._transport(job, target, observe)
        except TimeoutError:
            raise error("the network is down") from None


def network_down_during(*intervals: tuple[float, float]) -> Callable[[Transport], Transport]:
    return lambda transport: UnreliableNetwork(transport, list(intervals))
