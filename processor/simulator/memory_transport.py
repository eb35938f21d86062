"""The provider behind the seam `Stream`, with a network but no sockets: on the loop's clock, real or virtual."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from math import inf
from random import Random

from processor.core.errors import (
    ConnectError,
    ConnectionLost,
    RequestError,
    StreamStalled,
    StreamTruncated,
    Timeout,
    TransportError,
)
from processor.core.events import Delta, FirstToken, RequestListener, ResponseStarted, Sent
from processor.core.models import JSON, Job, Reply, Target, Timeouts
from processor.protocols import SseDecoder, accumulator_for, error_from_response, payload, request_id, whole_body
from processor.simulator.provider import SimulatedProvider
from processor.simulator.response_script import ScriptedResponse


class MemoryTransport:
    """`latency_s`: the shortest and the longest way between client and server; each way is drawn, by seed.

    Raises what the transport over HTTP raises for the same misbehaviour, as late. `offset_s`: the provider's time
    when the loop's is 0; for a provider that has seen other loops. `echo`: tells Delta, too.
    """

    def __init__(
        self,
        provider: SimulatedProvider,
        *,
        latency_s: tuple[float, float] = (0.010, 0.060),
        seed: int = 0,
        timeouts: Timeouts | None = None,
        offset_s: float = 0.0,
        echo: bool = False,
    ) -> None:
        self._provider = provider
        self._latency_s = latency_s
        self._rng = Random(seed)
        self._timeouts = timeouts or Timeouts()
        self._offset_s = offset_s
        self._echo = echo
        self._idle = 0
        """Connections in the pool."""

    async def __call__(self, job: Job, target: Target, tell: RequestListener) -> Reply:
        loop = asyncio.get_running_loop()
        reused = await self._connect(loop)
        time = _Time(loop, self._timeouts)
        tell(Sent(loop.time()))
        await time.wait(self._latency(), inf, Timeout)
        at = loop.time() + self._offset_s
        answer = self._provider.answer("POST", job.path, _headers(target), payload(job), at)
        await time.wait(answer.start_s + self._latency(), self._timeouts.first_byte_timeout_s, Timeout)
        if answer.status is None:
            raise ConnectionLost("the connection was reset before a response", reused=reused)
        tell(ResponseStarted(answer.status, answer.headers, loop.time()))
        try:
            body = await self._body(answer, answer.status, job, time, tell)
        except RequestError as error:
            error.request_id = error.request_id or request_id(answer.headers)
            raise
        return Reply(status_code=answer.status, request_id=request_id(answer.headers), body=body)

    async def _connect(self, loop: asyncio.AbstractEventLoop) -> bool:
        """Take a connection; whether it comes from the pool. Lets other tasks run, as any network does."""
        if not self._provider.reachable(loop.time() + self._offset_s):
            await asyncio.sleep(self._latency())
            raise ConnectError("the connection was refused")
        await asyncio.sleep(0)
        reused = self._idle > 0
        self._idle -= reused
        return reused

    def _latency(self) -> float:
        shortest, longest = self._latency_s
        return self._rng.uniform(shortest, longest) if longest else 0.0

    async def _body(self, answer: ScriptedResponse, status: int, job: Job, time: _Time, tell: RequestListener) -> JSON:
        if status == 200 and answer.headers["content-type"].startswith("text/event-stream"):
            return await self._streamed(answer, job, time, tell)
        reads: list[bytes] = []
        await self._read(answer, time, reads.append)
        if status != 200:
            raise error_from_response(status, answer.headers, b"".join(reads))
        return whole_body(b"".join(reads))

    async def _streamed(self, answer: ScriptedResponse, job: Job, time: _Time, tell: RequestListener) -> JSON:
        decoder, fold = SseDecoder(), accumulator_for(job.path, job.body)
        started = False

        def take(read: bytes) -> None:
            nonlocal started
            fold.feed(decoder.feed(read))
            if fold.has_content and not started:
                started = True
                tell(FirstToken(time.now()))
            text = fold.pop_text() if self._echo else ""
            if text:
                tell(Delta(text))

        await self._read(answer, time, take)
        fold.feed(decoder.finish())
        return fold.result()

    async def _read(self, answer: ScriptedResponse, time: _Time, take: Callable[[bytes], None]) -> None:
        """Hand on what arrives, when it does, until the response ends in its way."""
        for step in answer.steps:
            await time.wait(step.delay_s, self._timeouts.stall_timeout_s, StreamStalled)
            take(step.data)
        if answer.ending == "reset":
            raise StreamTruncated("the connection was reset in the middle of the reply")
        if answer.ending == "stall":
            await time.wait(inf, self._timeouts.stall_timeout_s, StreamStalled)
        self._idle += 1
        self._provider.delivered(answer)


class _Time:
    """Waits on the loop's clock, and raises where a timeout ends first."""

    __slots__ = ("_ends_at", "now")

    def __init__(self, loop: asyncio.AbstractEventLoop, timeouts: Timeouts) -> None:
        self.now = loop.time
        self._ends_at = loop.time() + timeouts.request_timeout_s

    async def wait(self, delay_s: float, timeout_s: float, late: type[TransportError]) -> None:
        if not delay_s:
            return
        left_s = self._ends_at - self.now()
        if delay_s <= min(timeout_s, left_s):
            await asyncio.sleep(delay_s)
            return
        await asyncio.sleep(min(timeout_s, left_s))
        if timeout_s <= left_s:
            raise late(f"nothing came for {timeout_s:g} s")
        raise Timeout("the reply took too long")


def _headers(target: Target) -> dict[str, str]:
    """Names in lower case, as a server sees them."""
    headers = {name.lower(): value for name, value in target.headers}
    if target.key:
        headers[target.auth_header.lower()] = target.auth_scheme + target.key.value
    return headers
