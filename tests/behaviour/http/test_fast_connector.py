"""The fast connections read the same bytes as aiohttp's own, however a response is cut into segments."""

from __future__ import annotations

import asyncio
import gzip
from collections.abc import Mapping
from itertools import pairwise

import pytest
from aiohttp import ClientPayloadError, ClientSession, StreamReader
from hypothesis import given
from hypothesis import strategies as st

from processor.http.fast_connection import AnyConnection, UnmeteredStreamReader, observe
from processor.http.fast_connector import FastConnector
from processor.http.request_payload import RequestPayload
from tests.support.scripted_server import Script, serve_scripts

CHUNKED = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n"
EVENTS = [b"data: %d\n\n" % number for number in range(30)]
FRAMED = b"".join(b"%x\r\n%b\r\n" % (len(event), event) for event in EVENTS) + b"0\r\n\r\n"


def in_segments(*data: bytes) -> Script:
    async def script(writer: asyncio.StreamWriter) -> None:
        for segment in data:
            writer.write(segment)
            await asyncio.sleep(0.001)

    return script


class Reader:
    """An observer that reads everything whenever bytes come."""

    def __init__(self) -> None:
        self.content: StreamReader | None = None
        self.body = b""

    def on_sent(self, connection: AnyConnection) -> None:
        observe(connection, self)

    def on_headers(self, status: int, headers: Mapping[str, str], content: StreamReader) -> None:
        if status == 200:
            self.content = content

    def on_no_response(self, error: Exception) -> None:
        """Ignored: aiohttp raises it."""

    def on_data(self) -> None:
        while self.content is not None and self.content.exception() is None and (data := self.content.read_nowait()):
            self.body += data

    def on_failure(self, error: Exception) -> None:
        raise error

    async def wait(self) -> bytes:
        """The whole body. Raises the error in which it ends, if it breaks off."""
        assert self.content is not None
        while not self.content.is_eof():
            if error := self.content.exception():
                raise error
            await asyncio.sleep(0.001)
        return self.body


def read_bodies(*scripts: Script) -> list[tuple[type, bytes]]:
    """The class and the bytes of the body of each response, one after the other."""

    async def scenario() -> list[tuple[type, bytes]]:
        read = []
        async with (
            serve_scripts(*scripts) as url,
            ClientSession(connector=FastConnector(), auto_decompress=False) as session,
        ):
            for _ in scripts:
                reader = Reader()
                async with session.post(url, data=RequestPayload(b"{}", reader.on_sent)) as response:
                    read.append((type(response.content), await reader.wait()))
        return read

    return asyncio.run(scenario())


def test_body_in_one_segment_with_its_headers_is_read_whole() -> None:
    assert read_bodies(in_segments(CHUNKED + b"\r\n" + FRAMED)) == [(UnmeteredStreamReader, b"".join(EVENTS))]


def test_each_response_of_a_connection_is_read_by_the_fast_reader() -> None:
    script = in_segments(CHUNKED + b"\r\n" + FRAMED[:50], FRAMED[50:])
    assert read_bodies(script, script, script) == [(UnmeteredStreamReader, b"".join(EVENTS))] * 3


@given(st.lists(st.integers(0, len(CHUNKED) + 2 + len(FRAMED)), max_size=6))
def test_body_is_the_same_however_the_bytes_are_cut(cuts: list[int]) -> None:
    whole = CHUNKED + b"\r\n" + FRAMED
    edges = [0, *sorted(cuts), len(whole)]
    ((_, body),) = read_bodies(in_segments(*(whole[start:end] for start, end in pairwise(edges))))
    assert body == b"".join(EVENTS)


def test_compressed_body_is_passed_on_as_it_came() -> None:
    compressed = gzip.compress(b"x" * 1_000_000)
    head = CHUNKED + b"Content-Encoding: gzip\r\n\r\n"
    script = in_segments(head + b"%x\r\n%b\r\n0\r\n\r\n" % (len(compressed), compressed))
    assert read_bodies(script) == [(UnmeteredStreamReader, compressed)]


def test_empty_body_is_read_as_empty() -> None:
    ((_, body),) = read_bodies(in_segments(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"))
    assert body == b""


def test_informational_response_is_not_the_response() -> None:
    early = b"HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n"
    ((_, body),) = read_bodies(in_segments(early, CHUNKED + b"\r\n" + FRAMED))
    assert body == b"".join(EVENTS)


def test_response_that_breaks_off_is_an_error() -> None:
    async def breaks_off(writer: asyncio.StreamWriter) -> None:
        writer.write(CHUNKED + b"\r\n" + FRAMED[:50])
        await writer.drain()
        writer.transport.abort()

    with pytest.raises(ClientPayloadError):
        read_bodies(breaks_off)


def test_connection_without_observer_uses_aiohttps_reader() -> None:
    async def scenario() -> tuple[type, bytes]:
        script = in_segments(CHUNKED + b"\r\n" + FRAMED[:50], FRAMED[50:])
        async with (
            serve_scripts(script) as url,
            ClientSession(connector=FastConnector()) as session,
            session.get(url) as response,
        ):
            return type(response.content), await response.read()

    assert asyncio.run(asyncio.wait_for(scenario(), 10)) == (StreamReader, b"".join(EVENTS))


def test_connection_keeps_no_bytes_that_were_read() -> None:
    async def large(writer: asyncio.StreamWriter) -> None:
        writer.write(CHUNKED + b"\r\n")
        for _ in range(100):
            writer.write(b"%x\r\n%b\r\n" % (100_000, b"x" * 100_000))
            await writer.drain()
        writer.write(b"0\r\n\r\n")

    buffered = []
    size = 0

    class MeasuringReader(Reader):
        def on_data(self) -> None:
            nonlocal size
            super().on_data()
            size += len(self.body)
            self.body = b""
            buffered.append(len(self.content._buffer) if self.content is not None else 0)

    async def scenario() -> None:
        reader = MeasuringReader()
        async with (
            serve_scripts(large) as url,
            ClientSession(connector=FastConnector()) as session,
            session.post(url, data=RequestPayload(b"{}", reader.on_sent)),
        ):
            await reader.wait()

    asyncio.run(scenario())
    assert len(buffered) > 10
    assert max(buffered) == 0
    assert size == 10_000_000
