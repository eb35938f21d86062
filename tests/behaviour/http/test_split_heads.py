"""A response whose head comes in two segments is read like any other, and never buffered without bound."""

from __future__ import annotations

import asyncio

from aiohttp import ClientSession, StreamReader

from processor.http.fast_connection import AnyConnection, observe
from processor.http.fast_connector import FastConnector
from processor.http.request_payload import RequestPayload
from tests.behaviour.http.test_fast_connector import Reader
from tests.support.scripted_server import Script, serve_scripts

CHUNKED = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n"
PLAIN_HEAD = CHUNKED + b"\r\n"


def framed(body: bytes) -> bytes:
    return b"%x\r\n%b\r\n0\r\n\r\n" % (len(body), body)


def split(head: bytes, position: int, body: bytes) -> Script:
    """Sends the head in two segments, the body with the second."""

    async def script(writer: asyncio.StreamWriter) -> None:
        writer.write(head[:position])
        await asyncio.sleep(0.002)
        writer.write(head[position:] + body)
        await writer.drain()

    return script


class BufferMeter(Reader):
    """Reads everything whenever bytes come, and records how many were buffered at most."""

    def __init__(self) -> None:
        super().__init__()
        self.max_buffered = 0
        self.size = 0

    def on_no_response(self, error: Exception) -> None:
        """Ignored: aiohttp raises it."""

    def on_data(self) -> None:
        if isinstance(self.content, StreamReader):
            self.max_buffered = max(self.max_buffered, sum(map(len, self.content._buffer)))
        super().on_data()
        self.size += len(self.body)


async def read_split(head: bytes, positions: range, body: bytes) -> list[BufferMeter]:
    meters = []
    scripts = [split(head, position, body) for position in positions]
    async with serve_scripts(*scripts) as url, ClientSession(connector=FastConnector()) as session:
        for _ in scripts:
            meter = BufferMeter()

            def on_sent(connection: AnyConnection, meter: BufferMeter = meter) -> None:
                observe(connection, meter)

            async with session.post(url, data=RequestPayload(b"{}", on_sent)):
                await meter.wait()
            meters.append(meter)
    return meters


def test_plain_body_is_equal_wherever_its_head_is_split() -> None:
    body = b"".join(b"data: %d\n\n" % number for number in range(1000))
    meters = asyncio.run(read_split(PLAIN_HEAD, range(1, len(PLAIN_HEAD) + 1), framed(body)))
    assert len(meters) == len(PLAIN_HEAD)
    assert {meter.body for meter in meters} == {body}
