"""Sends requests through ``HttpTransport`` to a server on loopback that a test scripts byte by byte."""

from __future__ import annotations

import asyncio
import re
import socket
import ssl
import struct
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import orjson

from processor.core.errors import ProcessorError
from processor.core.events import RequestEvent
from processor.core.models import Job, Reply, Target, Timeouts
from processor.core.secrets import Secret
from processor.http.client import HttpTransport
from processor.http.fast_connection import Connection
from processor.http.fast_connector import FastConnector
from processor.http.settings import TransportSettings

KEY = "not-a-key-of-anyone"
STREAM_HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n"
LAST_CHUNK = b"0\r\n\r\n"
TLS_HANDSHAKE = b"\x16"
"""The first byte of a client that wants TLS."""


def http_chunk(data: bytes) -> bytes:
    return b"%x\r\n%b\r\n" % (len(data), data)


def event(value: Any) -> bytes:
    """A server-sent event with this JSON value, or these bytes."""
    return b"data: " + (value if isinstance(value, bytes) else orjson.dumps(value)) + b"\n\n"


def text_event(text: str | None = None, finish_reason: str | None = None) -> bytes:
    delta = {} if text is None else {"content": text}
    return event({"id": "x", "model": "m", "choices": [{"index": 0, "delta": delta, "finish_reason": finish_reason}]})


DONE = event(b"[DONE]")
HELLO_WORLD = text_event("Hello ") + text_event("world") + text_event(finish_reason="stop") + DONE
"""The events of a whole reply."""


def response(body: bytes, status: str = "200 OK", content_type: str = "text/event-stream", *headers: str) -> bytes:
    lines = [f"HTTP/1.1 {status}", f"Content-Type: {content_type}", f"Content-Length: {len(body)}", *headers]
    return "\r\n".join(lines).encode() + b"\r\n\r\n" + body


class ServerConnection:
    """The server's side of one connection, with the request that came last."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer
        self.requests = 0
        self.head = b""
        self.body = b""

    async def read_request(self) -> bool:
        """Whether a whole request has come. A TLS handshake is none."""
        try:
            start = await self.reader.readexactly(1)
            if start == TLS_HANDSHAKE:
                return False
            self.head = start + await self.reader.readuntil(b"\r\n\r\n")
            size = re.search(rb"(?i)content-length: *(\d+)", self.head)
            self.body = await self.reader.readexactly(int(size.group(1)) if size else 0)
        except (asyncio.IncompleteReadError, ConnectionError):
            return False
        self.requests += 1
        return True

    async def send(self, data: bytes) -> None:
        self.writer.write(data)
        await self.writer.drain()

    async def wait_for_close(self) -> None:
        await self.reader.read()

    def reset(self) -> None:
        """Close so that the client gets a reset, not an end of file."""
        self.writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.writer.transport.abort()

    def close(self) -> None:
        self.writer.close()


ServerScript = Callable[[ServerConnection], Awaitable[None]]
"""Answers one request."""


@dataclass
class Record:
    """What the client and the server saw."""

    replies: list[Reply] = field(default_factory=list)
    errors: list[ProcessorError] = field(default_factory=list)
    events: list[RequestEvent] = field(default_factory=list)
    request_heads: list[bytes] = field(default_factory=list)
    request_bodies: list[bytes] = field(default_factory=list)
    connections: int = 0
    duration_s: float = 0.0
    """Of the last request."""

    @property
    def error(self) -> ProcessorError:
        assert not self.replies
        return self.errors[-1]

    @property
    def text(self) -> str:
        return self.texts[-1]

    @property
    def texts(self) -> list[str]:
        return [reply.body["choices"][0]["message"]["content"] for reply in self.replies]

    def event_names(self) -> list[str]:
        return [type(event).__name__ for event in self.events]


def make_job(**body: Any) -> Job:
    return Job(
        line=1, custom_id="a", fingerprint="0" * 32, path="/v1/chat/completions", model="m", body={"model": "m", **body}
    )


def transport_settings(**settings: Any) -> TransportSettings:
    """Timeouts and other settings, by name."""
    timeouts = {name: settings.pop(name) for name in [*settings] if name.endswith("_timeout_s")}
    return TransportSettings(timeouts=Timeouts(**timeouts), **settings)


@asynccontextmanager
async def serve(script: ServerScript, record: Record, tls: ssl.SSLContext | None = None) -> AsyncIterator[int]:
    """Answer every request with this script. Yields the port; scripts that still run at the end are cancelled."""
    tasks: set[asyncio.Task[Any]] = set()

    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        tasks.add(task)
        record.connections += 1
        server = ServerConnection(reader, writer)
        try:
            while not writer.is_closing() and await server.read_request():
                record.request_heads.append(server.head)
                record.request_bodies.append(server.body)
                await script(server)
        except (ConnectionError, asyncio.CancelledError):
            writer.transport.abort()
        finally:
            writer.close()

    listener = await asyncio.start_server(handle, "127.0.0.1", 0, ssl=tls, backlog=200)
    try:
        yield listener.sockets[0].getsockname()[1]
    finally:
        listener.close()
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await asyncio.sleep(0)


async def _exchange(
    script: ServerScript,
    *,
    times: int = 1,
    tls: ssl.SSLContext | None = None,
    job: Job | None = None,
    base: str = "http://127.0.0.1:{port}/v1",
    target: dict[str, Any] | None = None,
    **settings: Any,
) -> Record:
    record = Record()
    loop = asyncio.get_running_loop()
    async with (
        serve(script, record, tls) as port,
        HttpTransport(transport_settings(**settings), wall_clock=lambda: 0.0) as transport,
    ):
        where = Target(base_url=base.format(port=port), key=Secret(KEY), **(target or {}))
        for _ in range(times):
            began = loop.time()
            try:
                record.replies.append(await transport(job or make_job(), where, record.events.append))
            except ProcessorError as error:
                record.errors.append(error)
            record.duration_s = loop.time() - began
    return record


def always(data: bytes) -> ServerScript:
    """Answers every request with these bytes."""

    async def script(server: ServerConnection) -> None:
        await server.send(data)

    return script


def exchange(answer: bytes | ServerScript, **options: Any) -> Record:
    """Send a request to a server that answers with these bytes, or as this script does.

    ``options``: ``times`` (so many requests through one transport, one after the other), ``tls`` (of the server),
    ``job``, ``base`` (URL with ``{port}``), ``target`` (its other fields), and transport settings by name.
    """
    script = always(answer) if isinstance(answer, bytes) else answer
    return asyncio.run(asyncio.wait_for(_exchange(script, **options), 10))


def pooled_connection(transport: HttpTransport) -> Connection:
    """The one connection that the transport keeps for later requests."""
    connector = transport._keepalive_session.connector
    assert isinstance(connector, FastConnector)
    ((connection,),) = (idle._idle for idle in connector._idle.values())
    return connection


# ---------------------------------------------------------------- scripts


def in_chunks(body: bytes, size: int) -> ServerScript:
    async def script(server: ServerConnection) -> None:
        await server.send(STREAM_HEAD)
        for start in range(0, len(body), size):
            await server.send(http_chunk(body[start : start + size]))
            if start % 7 == 0:
                await asyncio.sleep(0)
        await server.send(LAST_CHUNK)

    return script


async def silent(server: ServerConnection) -> None:
    await server.wait_for_close()


async def reset_before_response(server: ServerConnection) -> None:
    server.reset()


async def close_before_response(server: ServerConnection) -> None:
    server.close()


CUT_EVENTS = text_event("Hello ")


async def close_between_chunks(server: ServerConnection) -> None:
    await server.send(STREAM_HEAD + http_chunk(CUT_EVENTS))
    server.close()


async def reset_between_chunks(server: ServerConnection) -> None:
    await server.send(STREAM_HEAD + http_chunk(CUT_EVENTS))
    await asyncio.sleep(0.02)
    server.reset()


async def close_before_content_length(server: ServerConnection) -> None:
    await server.send(response(HELLO_WORLD)[:-60])
    server.close()


async def malformed_chunk(server: ServerConnection) -> None:
    await server.send(STREAM_HEAD + http_chunk(CUT_EVENTS))
    await asyncio.sleep(0.02)
    await server.send(b"zz\r\n")
