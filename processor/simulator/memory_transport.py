"""A transport that calls the simulated provider in memory, with latency but without sockets, on the loop's clock."""

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
from processor.protocols import RequestOptions, SseDecoder, error_from_response, protocol_for, request_id
from processor.simulator.provider import SimulatedProvider
from processor.simulator.response_script import ScriptedResponse


class MemoryTransport:
    """Raises what the HTTP transport raises for the same fault, after the same time.

    `latency_s`: bounds of the one-way latency between client and server, drawn by `seed`. `clock_offset_s`: the
    provider's time when the loop's time is 0, for a provider that is used on several loops. `emit_deltas`: also emits
    Delta events. `options`: how requests are made; by default as streams.
    """

    def __init__(
        self,
        provider: SimulatedProvider,
        *,
        latency_s: tuple[float, float] = (0.010, 0.060),
        seed: int = 0,
        timeouts: Timeouts | None = None,
        clock_offset_s: float = 0.0,
        emit_deltas: bool = False,
        options: RequestOptions | None = None,
    ) -> None:
        self._provider = provider
        self._latency_s = latency_s
        self._rng = Random(seed)
        self._timeouts = timeouts or Timeouts()
        self._clock_offset_s = clock_offset_s
        self._emit_deltas = emit_deltas
        self._options = options or RequestOptions()
        self._idle_connections = 0
        """Connections in the keep-alive pool."""

    async def __call__(self, job: Job, target: Target, on_event: RequestListener) -> Reply:
        loop = asyncio.get_running_loop()
        reused = await self._connect(loop)
        deadline = _Deadline(loop, self._timeouts)
        on_event(Sent(loop.time(), streamed=protocol_for(job.path).is_streamed(job, self._options)))
        await deadline.wait(self._latency(), inf, Timeout)
        at = loop.time() + self._clock_offset_s
        request = protocol_for(job.path).encode(job, self._options)
        script = self._provider.handle("POST", job.path, _headers(target), request, at)
        await deadline.wait(script.start_delay_s + self._latency(), self._timeouts.first_byte_timeout_s, Timeout)
        if script.status is None:
            raise ConnectionLost("the connection was reset before a response", reused=reused)
        on_event(ResponseStarted(script.status, script.headers, loop.time()))
        try:
            body = await self._body(script, script.status, job, deadline, on_event)
        except RequestError as error:
            error.request_id = error.request_id or request_id(script.headers)
            raise
        return Reply(status_code=script.status, request_id=request_id(script.headers), body=body)

    async def _connect(self, loop: asyncio.AbstractEventLoop) -> bool:
        """Take a connection; returns whether it is a reused one. Yields to the loop, as a network does."""
        if not self._provider.is_reachable(loop.time() + self._clock_offset_s):
            await asyncio.sleep(self._latency())
            raise ConnectError("the connection was refused")
        await asyncio.sleep(0)
        reused = self._idle_connections > 0
        self._idle_connections -= reused
        return reused

    def _latency(self) -> float:
        shortest, longest = self._latency_s
        return self._rng.uniform(shortest, longest) if longest else 0.0

    async def _body(
        self, script: ScriptedResponse, status: int, job: Job, deadline: _Deadline, on_event: RequestListener
    ) -> JSON:
        if status == 200 and script.headers["content-type"].startswith("text/event-stream"):
            return await self._streamed(script, job, deadline, on_event)
        reads: list[bytes] = []
        await self._read(script, deadline, reads.append)
        if status != 200:
            raise error_from_response(status, script.headers, b"".join(reads))
        return protocol_for(job.path).parse_reply(b"".join(reads), job)

    async def _streamed(
        self, script: ScriptedResponse, job: Job, deadline: _Deadline, on_event: RequestListener
    ) -> JSON:
        decoder, accumulator = SseDecoder(), protocol_for(job.path).accumulator(job)
        started = False

        def feed(data: bytes) -> None:
            nonlocal started
            accumulator.feed(decoder.feed(data))
            if accumulator.has_content and not started:
                started = True
                on_event(FirstToken(deadline.now()))
            text = accumulator.pop_text() if self._emit_deltas else ""
            if text:
                on_event(Delta(text))

        await self._read(script, deadline, feed)
        accumulator.feed(decoder.finish())
        return accumulator.result()

    async def _read(self, script: ScriptedResponse, deadline: _Deadline, on_data: Callable[[bytes], None]) -> None:
        """Pass each write to `on_data` when it arrives, until the response ends as its script says."""
        for step in script.steps:
            await deadline.wait(step.delay_s, self._timeouts.stall_timeout_s, StreamStalled)
            on_data(step.data)
        if script.ending == "reset":
            raise StreamTruncated("the connection was reset in the middle of the reply")
        if script.ending == "stall":
            await deadline.wait(inf, self._timeouts.stall_timeout_s, StreamStalled)
        self._idle_connections += 1
        self._provider.record_delivered(script)


class _Deadline:
    """Waits on the loop's clock, and raises if a timeout ends first."""

    __slots__ = ("_ends_at", "now")

    def __init__(self, loop: asyncio.AbstractEventLoop, timeouts: Timeouts) -> None:
        self.now = loop.time
        self._ends_at = loop.time() + timeouts.request_timeout_s

    async def wait(self, delay_s: float, timeout_s: float, error: type[TransportError]) -> None:
        if not delay_s:
            return
        remaining_s = self._ends_at - self.now()
        if delay_s <= min(timeout_s, remaining_s):
            await asyncio.sleep(delay_s)
            return
        await asyncio.sleep(min(timeout_s, remaining_s))
        if timeout_s <= remaining_s:
            raise error(f"nothing came for {timeout_s:g} s")
        raise Timeout("the reply took too long")


def _headers(target: Target) -> dict[str, str]:
    """The request's headers, names in lower case."""
    headers = {name.lower(): value for name, value in target.headers}
    if target.key:
        headers[target.auth_header.lower()] = target.auth_scheme + target.key.value
    return headers
