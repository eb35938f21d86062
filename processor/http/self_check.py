"""Compares our connections with aiohttp's own, on canned responses and without a network.

Our connections use private parts of aiohttp, which any release may change. Where the two differ in anything, a run uses
aiohttp's own.
"""

from __future__ import annotations

import asyncio
import zlib
from collections.abc import Coroutine, Iterable, Iterator
from typing import Any

from aiohttp import ClientSession

from processor.core.errors import InternalError, RequestError
from processor.core.models import Job, Reply, Target
from processor.core.text import one_line
from processor.http.connection_state import Route
from processor.http.event_stream import FLUSH_BYTES
from processor.http.fast_connector import create_session, use_transports
from processor.http.request import HttpRequest
from processor.http.settings import TransportSettings
from processor.http.transport_context import TransportContext
from processor.protocols.chat import SAMPLE_EVENTS
from processor.protocols.registry import DEFAULT_PATH

_MAX_S, _MAX_TURNS = 2.0, 1000
"""A comparison that takes longer than both, in time and in turns of the event loop, hangs. One that needs more time but
few turns runs on a busy machine."""

_HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n"
_CHUNKED = b"Transfer-Encoding: chunked\r\n\r\n"
_LAST_CHUNK = b"0\r\n\r\n"


_GZIP = 31
"""The gzip format, for ``zlib``: importing ``gzip`` takes longer."""


def _chunk(data: bytes) -> bytes:
    return b"%x\r\n%b\r\n" % (len(data), data)


def _responses() -> Iterator[list[bytes]]:
    """The segments of each response. All come on one connection."""
    whole = b"".join(SAMPLE_EVENTS)
    compressed = zlib.compress(whole, level=1, wbits=_GZIP)
    # Streamed, in one chunk an event; then whole.
    yield [_HEAD + _CHUNKED + _chunk(SAMPLE_EVENTS[0]), *map(_chunk, SAMPLE_EVENTS[1:]), _LAST_CHUNK]
    yield [_HEAD + b"Content-Length: %d\r\n\r\n%b" % (len(whole), whole)]
    # Compressed, with its head in two segments.
    yield [_HEAD + b"Content-Encoding: gzip\r\n", _CHUNKED + _chunk(compressed), _LAST_CHUNK]
    # With an informational response before it, and its head in two segments.
    yield [b"HTTP/1.1 103 Early Hints\r\n\r\n", _HEAD[:20], _HEAD[20:] + _CHUNKED + _chunk(whole) + _LAST_CHUNK]
    # Broken off; then an error after which the server closes; each further request needs a new connection. The error is
    # a redirect because its status alone tells what it is: for others, patterns would be compiled at every start.
    yield [_HEAD + _CHUNKED + _chunk(whole[:100]), b""]
    yield [b"HTTP/1.1 308 Elsewhere\r\nConnection: close\r\nContent-Length: 0\r\n\r\n"]
    yield [_HEAD + b"Content-Length: %d\r\n\r\n" % len(whole), whole]


class _CannedTransport(asyncio.Transport):
    """Answers each request with the next response. An empty segment is the end of the connection."""

    def __init__(self, protocol: asyncio.Protocol, responses: Iterator[list[bytes]]) -> None:
        super().__init__()
        self.protocol = protocol
        self._responses = responses
        self._is_closing = False

    def write(self, data: bytes | bytearray | memoryview) -> None:
        self._answer(bytes(data))

    def writelines(self, list_of_data: Iterable[bytes | bytearray | memoryview]) -> None:
        self._answer(b"".join(list_of_data))

    def _answer(self, request: bytes) -> None:
        call_soon = asyncio.get_running_loop().call_soon
        for segment in next(self._responses) if request.endswith(b"}") else []:
            if segment:
                call_soon(self.protocol.data_received, segment)
            else:
                call_soon(self.close)

    def get_write_buffer_size(self) -> int:
        return 0

    def is_closing(self) -> bool:
        return self._is_closing

    def close(self) -> None:
        if not self._is_closing:
            self._is_closing = True
            asyncio.get_running_loop().call_soon(self.protocol.connection_lost, None)

    def abort(self) -> None:
        self.close()

    def pause_reading(self) -> None:
        """Nothing is read."""

    def resume_reading(self) -> None:
        """Nothing is read."""


_Exchange = tuple[Reply | RequestError, list[str], int]
"""What came of one request: reply or error, the names of its events, and how many connections had been made by then."""

_result: list[str | None] = []
"""Of the check in this process, once it was made."""


async def difference() -> str | None:
    """What our connections do differently from aiohttp's own, in one line; None if nothing. Checked once a process."""
    if not _result:
        _result.append(await _find_difference())
    return _result[0]


async def _find_difference() -> str | None:
    try:
        ours = await _within_turns(_exchanges(fast=True))
        theirs = await _within_turns(_exchanges(fast=False))
    except Exception as error:  # noqa: BLE001
        return one_line(f"{type(error).__name__}: {error}")
    for number, (our, their) in enumerate(zip(ours, theirs, strict=True), 1):
        if our != their:
            return f"canned response {number} is read differently"
    return None


async def _within_turns(exchanges: Coroutine[Any, Any, list[_Exchange]]) -> list[_Exchange]:
    """The result of a coroutine that waits for nothing outside this process. Raises TimeoutError where it hangs."""
    task = asyncio.ensure_future(exchanges)
    loop = asyncio.get_running_loop()
    started_at, turns = loop.time(), 0
    try:
        while not task.done():
            if turns > _MAX_TURNS and loop.time() - started_at > _MAX_S:
                raise TimeoutError("a canned response is not read to its end")
            turns += 1
            await asyncio.sleep(0)
        return task.result()
    finally:
        task.cancel()


async def _exchanges(*, fast: bool) -> list[_Exchange]:
    """Send one request for each canned response. Raises any exception where our connections have failed."""
    responses = list(_responses())
    left = iter(responses)
    transports: list[_CannedTransport] = []
    failures: list[Exception] = []
    route = Route(Target(base_url="http://127.0.0.1:9"), DEFAULT_PATH, trust_env=False)

    def open_transport(protocol: asyncio.Protocol) -> asyncio.Transport:
        transports.append(_CannedTransport(protocol, left))
        return transports[-1]

    done: list[_Exchange] = []
    async with create_session(
        ssl_context=True, connect_timeout_s=_MAX_S, force_close=False, fast=fast, on_failure=failures.append
    ) as session:
        use_transports(session, open_transport)
        for _ in responses:
            outcome, events = await _exchange(session, route)
            done.append((outcome, events, len(transports)))
        if fast:
            transports[-1].protocol.data_received(_HEAD)
            if not transports[-1].is_closing():
                raise InternalError("an idle connection stays open when bytes come")
    if failures:
        raise failures[0]
    return done


async def _exchange(session: ClientSession, route: Route) -> tuple[Reply | RequestError, list[str]]:
    """Send one request. Returns its outcome and the names of its events."""
    context = TransportContext(TransportSettings(), lambda: 0.0)
    events: list[str] = []
    request = HttpRequest(
        Job(line=1, custom_id="a", fingerprint="", path=DEFAULT_PATH, model="m", body={"model": "m"}),
        route,
        lambda event: events.append(type(event).__name__),
        context,
        flush_threshold=FLUSH_BYTES,
    )
    try:
        return await request.reply(session), events
    except RequestError as error:
        return error, events
    finally:
        context.close()
