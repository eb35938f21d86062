"""Connections whose responses are not accounted for chunk by chunk: the same bytes come out, whatever the pieces."""

from __future__ import annotations

import asyncio
import gzip
from itertools import pairwise

import pytest
from aiohttp import ClientPayloadError, ClientSession, StreamReader
from aiohttp.base_protocol import BaseProtocol
from aiohttp.http import RawResponseMessage
from hypothesis import given, settings
from hypothesis import strategies as st

from processor.http.body import OutgoingBody
from processor.http.fast_connector import Connection, Connector, UnmeteredStreamReader
from tests.support.transport_server import Answer, raw_serving

CHUNKED = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n"
EVENTS = [b"data: %d\n\n" % number for number in range(30)]
FRAMED = b"".join(b"%x\r\n%b\r\n" % (len(event), event) for event in EVENTS) + b"0\r\n\r\n"


def pieces(*data: bytes) -> Answer:
    async def answer(writer: asyncio.StreamWriter) -> None:
        for piece in data:
            writer.write(piece)
            await asyncio.sleep(0.001)

    return answer


class Listening:
    """Takes all there is whenever something has come."""

    def __init__(self) -> None:
        self.content: StreamReader | None = None
        self.taken = b""

    def leaves(self, connection: BaseProtocol) -> None:
        assert isinstance(connection, Connection)
        connection.listener = self

    def begins(self, head: RawResponseMessage, content: StreamReader) -> None:
        if head.code == 200:
            self.content = content

    def look(self) -> None:
        while self.content is not None and self.content.exception() is None and (data := self.content.read_nowait()):
            self.taken += data

    async def end(self) -> bytes:
        """Raises what the body ends in, if it does not come whole."""
        assert self.content is not None
        while not self.content.is_eof():
            if error := self.content.exception():
                raise error
            await asyncio.sleep(0.001)
        return self.taken


def bodies(*answers: Answer) -> list[tuple[type, bytes]]:
    """What was taken, and from which class, of one response after the other."""

    async def scenario() -> list[tuple[type, bytes]]:
        read = []
        async with raw_serving(*answers) as url, ClientSession(connector=Connector()) as session:
            for _ in answers:
                listening = Listening()
                async with session.post(url, data=OutgoingBody(b"{}", listening.leaves)) as response:
                    read.append((type(response.content), await listening.end()))
        return read

    return asyncio.run(scenario())


def test_a_body_that_comes_with_its_head_is_taken_in_whole() -> None:
    assert bodies(pieces(CHUNKED + b"\r\n" + FRAMED)) == [(UnmeteredStreamReader, b"".join(EVENTS))]


def test_each_response_on_a_connection_is() -> None:
    answer = pieces(CHUNKED + b"\r\n" + FRAMED[:50], FRAMED[50:])
    assert bodies(answer, answer, answer) == [(UnmeteredStreamReader, b"".join(EVENTS))] * 3


@given(st.lists(st.integers(0, len(CHUNKED) + 2 + len(FRAMED)), max_size=6))
@settings(max_examples=30)
def test_wherever_the_bytes_are_cut_the_same_body_comes_out(cuts: list[int]) -> None:
    whole = CHUNKED + b"\r\n" + FRAMED
    edges = [0, *sorted(cuts), len(whole)]
    ((_, body),) = bodies(pieces(*(whole[start:end] for start, end in pairwise(edges))))
    assert body == b"".join(EVENTS)


def test_what_is_compressed_is_left_to_aiohttp() -> None:
    packed = gzip.compress(b"x" * 1_000_000)
    head = CHUNKED + b"Content-Encoding: gzip\r\n\r\n"
    answer = pieces(head + b"%x\r\n%b\r\n0\r\n\r\n" % (len(packed), packed))
    assert bodies(answer) == [(StreamReader, b"x" * 1_000_000)]


def test_an_empty_body_is_an_empty_body() -> None:
    ((_, body),) = bodies(pieces(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"))
    assert body == b""


def test_what_comes_before_the_answer_is_no_answer() -> None:
    early = b"HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n"
    ((_, body),) = bodies(pieces(early, CHUNKED + b"\r\n" + FRAMED))
    assert body == b"".join(EVENTS)


def test_a_response_that_breaks_off_is_no_whole_one() -> None:
    async def breaks_off(writer: asyncio.StreamWriter) -> None:
        writer.write(CHUNKED + b"\r\n" + FRAMED[:50])
        await writer.drain()
        writer.transport.abort()

    with pytest.raises(ClientPayloadError):
        bodies(breaks_off)


def test_where_nobody_listens_the_body_is_read_as_aiohttp_has_it() -> None:
    async def scenario() -> tuple[type, bytes]:
        answer = pieces(CHUNKED + b"\r\n" + FRAMED[:50], FRAMED[50:])
        async with (
            raw_serving(answer) as url,
            ClientSession(connector=Connector()) as session,
            session.get(url) as response,
        ):
            return type(response.content), await response.read()

    assert asyncio.run(asyncio.wait_for(scenario(), 10)) == (StreamReader, b"".join(EVENTS))


def test_nothing_is_held_of_what_is_taken() -> None:
    async def large(writer: asyncio.StreamWriter) -> None:
        writer.write(CHUNKED + b"\r\n")
        for _ in range(100):
            writer.write(b"%x\r\n%b\r\n" % (100_000, b"x" * 100_000))
            await writer.drain()
        writer.write(b"0\r\n\r\n")

    held = []
    size = 0

    class Weighing(Listening):
        def look(self) -> None:
            nonlocal size
            super().look()
            size += len(self.taken)
            self.taken = b""
            held.append(len(self.content._buffer) if self.content is not None else 0)

    async def scenario() -> None:
        listening = Weighing()
        async with (
            raw_serving(large) as url,
            ClientSession(connector=Connector()) as session,
            session.post(url, data=OutgoingBody(b"{}", listening.leaves)),
        ):
            await listening.end()

    asyncio.run(scenario())
    assert len(held) > 10
    assert max(held) == 0
    assert size == 10_000_000
