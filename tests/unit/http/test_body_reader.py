"""What the reader of a body does with what comes after the end of the reply."""

from __future__ import annotations

import asyncio

from aiohttp import ClientPayloadError, StreamReader

from processor.core.models import Timeouts
from processor.http.body_reader import BodyReader
from processor.http.fast_connection import Connection, UnmeteredStreamReader
from processor.http.timeouts import Deadlines, DeadlineTimer
from tests.support.http_parsers import LAST_BYTES, RecordingParser


def finished_reader() -> tuple[BodyReader, UnmeteredStreamReader, RecordingParser]:
    """Its reply is complete; the response has not ended."""
    loop, parser = asyncio.get_running_loop(), RecordingParser()
    connection = Connection(loop)
    content = StreamReader(connection, 4096, loop=loop)
    content.__class__ = UnmeteredStreamReader
    assert isinstance(content, UnmeteredStreamReader)
    deadlines = Deadlines(DeadlineTimer(Timeouts(), loop), loop.time(), lambda: None)
    finished = loop.create_future()
    reader = BodyReader(content, parser, deadlines, connection, lambda: None, lambda error: None, finished)
    content.feed_data(LAST_BYTES)
    reader.on_data()
    assert reader.finished.done()
    return reader, content, parser


def test_bytes_after_the_end_of_the_reply_are_dropped() -> None:
    async def scenario() -> None:
        reader, content, parser = finished_reader()
        content.feed_data(b"more")
        reader.on_data()
        assert content.read_nowait() == b""
        assert parser.pieces == [LAST_BYTES]

    asyncio.run(scenario())


def test_connection_lost_after_the_end_of_the_reply_is_not_awaited() -> None:
    async def scenario() -> None:
        reader, content, _ = finished_reader()
        content.set_exception(ClientPayloadError())
        reader.on_data()
        await asyncio.wait_for(reader.wait(), 1)

    asyncio.run(scenario())
