"""Bytes that belong to no request never become the reply to one, wherever on a connection they come."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from functools import partial
from itertools import product
from typing import Any

import orjson
import pytest
from aiohttp import TCPConnector

from processor.core.errors import RequestError
from processor.core.events import RequestEvent
from processor.core.models import Target
from processor.core.platform import has_unread_bytes
from processor.http import request_payload
from processor.http.client import HttpTransport
from processor.http.fast_connector import create_session
from tests.support.http_exchange import (
    DONE,
    LAST_CHUNK,
    STREAM_HEAD,
    Record,
    ServerConnection,
    http_chunk,
    make_job,
    response,
    text_event,
)

pytestmark = pytest.mark.sampled

JOBS = ["one", "two", "three"]
EARLY_HINTS = b"HTTP/1.1 103 Early Hints\r\n\r\n"


def events(text: str) -> bytes:
    return text_event(text) + text_event(finish_reason="stop") + DONE


STRAY = {
    "response": response(events("stray")),
    "stream": STREAM_HEAD + http_chunk(events("stray")) + LAST_CHUNK,
    "part of a head": response(events("stray"))[:30],
    "no HTTP": b"\x00\x01\x02 stray",
    "empty line": b"\r\n",
}


SAME_SEGMENT = ["behind the response", "behind the last chunk", "behind an informational response"]
POINTS = [
    "before the first request",
    "between head and body",
    "while idle",
    "a second response at once",
    "just before the next request",
    *SAME_SEGMENT,
]
ANSWERS = [("between head and body", "response"), ("between head and body", "stream")]


class StrayServer:
    """Answers each request with the name of its job, and sends bytes that were not asked for at one point."""

    def __init__(self, point: str, stray: bytes) -> None:
        self.point = point
        self.stray = stray
        self.record = Record()
        self.jobs: list[str] = []
        """The jobs of the requests that came, in order."""
        self.last: asyncio.StreamWriter | None = None
        self._left = 1
        """How many more times the bytes are sent."""

    async def handle(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.record.connections += 1
        self.last = writer
        connection = ServerConnection(reader, writer)
        self.send_at("before the first request", writer)
        try:
            while await self._answer(connection):
                pass
        except ConnectionError:
            pass
        finally:
            writer.close()

    def send_at(self, point: str, writer: asyncio.StreamWriter) -> None:
        if self.point == point and self._left:
            self._left -= 1
            writer.write(self.stray)

    async def _answer(self, connection: ServerConnection) -> bool:
        if self.point == "between head and body":
            await connection.reader.readuntil(b"Content-Length")
            self.send_at(self.point, connection.writer)
            connection.reader._buffer[:0] = b"Content-Length"  # type: ignore[attr-defined]
        if not await connection.read_request():
            return False
        job = orjson.loads(connection.body)["name"]
        self.jobs.append(job)
        data = response(events(job))
        if self.point == "behind the last chunk":
            data = STREAM_HEAD + http_chunk(events(job)) + LAST_CHUNK
        if self.point == "behind an informational response":
            data = EARLY_HINTS + data + EARLY_HINTS
        if self._left and self.point in SAME_SEGMENT:
            self._left -= 1
            data += self.stray
        await connection.send(data)
        if self.point == "a second response at once":
            await connection.send(data)
        if self.point == "while idle":
            await asyncio.sleep(0.01)
        self.send_at("while idle", connection.writer)
        return True


async def replies(server: StrayServer) -> dict[str, str]:
    """The text of the reply to each job. A job whose request failed is sent again."""
    listener = await asyncio.start_server(server.handle, "127.0.0.1", 0)
    texts: dict[str, str] = {}
    seen: list[RequestEvent] = []
    async with listener, HttpTransport() as transport:
        target = Target(base_url=f"http://127.0.0.1:{listener.sockets[0].getsockname()[1]}")
        for name in JOBS:
            for _ in range(3):
                try:
                    reply = await transport(make_job(name=name), target, seen.append)
                except RequestError:
                    continue
                texts[name] = reply.body["choices"][0]["message"]["content"]
                break
            await asyncio.sleep(0.01)
    return texts


@pytest.fixture(params=["fast connections", "aiohttp's connections"])
def is_fast(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> bool:
    if request.param != "fast connections":
        monkeypatch.setattr(
            "processor.http.client.create_session", lambda **options: create_session(**{**options, "fast": False})
        )
    return bool(request.param == "fast connections")


@pytest.fixture
def slow_to_send(monkeypatch: pytest.MonkeyPatch) -> None:
    """Waits between connecting and the first request, so that bytes of the server can arrive."""
    create: Callable[..., Any] = TCPConnector._create_connection

    async def create_slowly(self: TCPConnector, *args: Any) -> Any:
        protocol = await create(self, *args)
        await asyncio.sleep(0.02)
        return protocol

    monkeypatch.setattr(TCPConnector, "_create_connection", create_slowly)


def send_before_each_look(server: StrayServer, socket_fd: int) -> bool:
    """Let the bytes come in the moment before the connection is looked at for the last time."""
    if server.jobs and server.last is not None:
        server.send_at("just before the next request", server.last)
    return has_unread_bytes(socket_fd)


@pytest.mark.usefixtures("slow_to_send")
@pytest.mark.parametrize(
    ("point", "stray"),
    # A response after the head of a request is the response to it.
    [(point, stray) for point, stray in product(POINTS, STRAY) if (point, stray) not in ANSWERS],
)
def test_no_job_gets_bytes_that_belong_to_no_request(
    point: str, stray: str, is_fast: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    server = StrayServer(point, STRAY[stray])
    monkeypatch.setattr(request_payload, "has_unread_bytes", partial(send_before_each_look, server))
    assert asyncio.run(asyncio.wait_for(replies(server), 10)) == {name: name for name in JOBS}
    if is_fast and point != "between head and body" and not (stray == "empty line" and "behind" in point):
        # It was noticed before anything was sent.
        assert server.jobs == JOBS
        assert server.record.connections > 1
