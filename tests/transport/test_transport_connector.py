"""Connections whose responses are not accounted for chunk by chunk: the same bytes come out, whatever the pieces."""

from __future__ import annotations

import asyncio
import gzip
from itertools import pairwise

import pytest
from aiohttp import ClientPayloadError, ClientResponse, ClientSession, StreamReader
from hypothesis import given, settings
from hypothesis import strategies as st
from transport_server import Answer, raw_serving

from processor.transport.connector import Connector, Content

CHUNKED = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n"
EVENTS = [b"data: %d\n\n" % number for number in range(30)]
FRAMED = b"".join(b"%x\r\n%b\r\n" % (len(event), event) for event in EVENTS) + b"0\r\n\r\n"


def pieces(*data: bytes) -> Answer:
    async def answer(writer: asyncio.StreamWriter) -> None:
        for piece in data:
            writer.write(piece)
            await asyncio.sleep(0.001)

    return answer


async def read_all(response: ClientResponse) -> bytes:
    parts = []
    while part := await response.content.readany():
        parts.append(part)
    return b"".join(parts)


def bodies(*answers: Answer) -> list[tuple[type, bytes]]:
    """What was read, and by which class, of one response after the other."""

    async def scenario() -> list[tuple[type, bytes]]:
        read = []
        async with raw_serving(*answers) as url, ClientSession(connector=Connector()) as session:
            for _ in answers:
                async with session.get(url) as response:
                    read.append((type(response.content), await read_all(response)))
        return read

    return asyncio.run(scenario())


def test_a_body_that_comes_with_its_head_is_taken_in_whole() -> None:
    assert bodies(pieces(CHUNKED + b"\r\n" + FRAMED)) == [(Content, b"".join(EVENTS))]


def test_each_response_on_a_connection_is() -> None:
    answer = pieces(CHUNKED + b"\r\n" + FRAMED[:50], FRAMED[50:])
    assert bodies(answer, answer, answer) == [(Content, b"".join(EVENTS))] * 3


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


def test_more_than_the_buffer_holds_is_waited_for() -> None:
    """A reader that is slow holds the server up, not the memory."""

    async def large(writer: asyncio.StreamWriter) -> None:
        writer.write(CHUNKED + b"\r\n")
        for _ in range(100):
            writer.write(b"%x\r\n%b\r\n" % (100_000, b"x" * 100_000))
            await writer.drain()
        writer.write(b"0\r\n\r\n")

    async def scenario() -> tuple[int, int]:
        async with (
            raw_serving(large) as url,
            ClientSession(connector=Connector(), read_bufsize=4096) as session,
            session.get(url) as response,
        ):
            await asyncio.sleep(0.2)
            held = response.content._size
            return held, len(await read_all(response))

    held, size = asyncio.run(scenario())
    assert held < 1_000_000
    assert size == 10_000_000
