"""A network that goes away: a laptop sleeps, a cable is pulled, a tunnel changes its address."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from math import inf

from processor.core.errors import ConnectError, ConnectionLost, StreamTruncated, TransportError
from processor.core.events import RequestEvent, RequestListener, ResponseStarted, Sent, Transport
from processor.core.models import Job, Reply, Target


class Network:
    """From each of some times on, for a while, nothing can be reached; whatever is on the wire then is cut."""

    def __init__(self, stream: Transport, gone: list[tuple[float, float]]) -> None:
        """``gone``: from and to, seconds since the run began."""
        self._stream = stream
        self._gone = gone

    async def __call__(self, job: Job, target: Target, tell: RequestListener) -> Reply:
        now = asyncio.get_running_loop().time()
        if any(begin <= now < end for begin, end in self._gone):
            await asyncio.sleep(0.05)
            raise ConnectError("the network is unreachable")
        error: type[TransportError] = ConnectError

        def hear(signal: RequestEvent) -> None:
            nonlocal error
            match signal:
                case Sent():
                    error = ConnectionLost
                case ResponseStarted():
                    error = StreamTruncated
            tell(signal)

        try:
            async with asyncio.timeout_at(min((begin for begin, _ in self._gone if begin > now), default=inf)):
                return await self._stream(job, target, hear)
        except TimeoutError:
            raise error("the network is down") from None


def gone(*times: tuple[float, float]) -> Callable[[Transport], Transport]:
    return lambda stream: Network(stream, list(times))
