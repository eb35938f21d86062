"""Delayed reads on real connections: what they batch, how late they make a reply, and that no event is missed."""

from __future__ import annotations

import asyncio
import ssl
import time
from collections.abc import Mapping
from contextlib import AbstractAsyncContextManager
from functools import partial
from pathlib import Path

import pytest
from aiohttp import ClientPayloadError, ClientSession, StreamReader

from processor.core.errors import StreamStalled
from processor.core.models import Job, Reply, Target, Timeouts
from processor.http.body_reader import BodyReader
from processor.http.client import HttpTransport
from processor.http.connection_state import Route
from processor.http.event_stream import FLUSH_BYTES
from processor.http.fast_connection import AnyConnection, Connection, abort, observe
from processor.http.fast_connector import FastConnector, create_session
from processor.http.read_batching import MAX_DELAY_S, ReadBatching, ReplyTiming
from processor.http.request import HttpRequest
from processor.http.request_payload import RequestPayload
from processor.http.response_body import JsonParser
from processor.http.settings import TransportSettings
from processor.http.timeouts import Deadlines, DeadlineTimer
from processor.http.transport_context import TransportContext
from tests.support.http_exchange import LAST_CHUNK, STREAM_HEAD, http_chunk
from tests.support.http_parsers import LAST_BYTES, RecordingParser
from tests.support.scripted_server import Script, self_signed_certificate, serve_scripts, server_tls

GAP_S = 0.004
JOB = Job(
    line=1,
    custom_id="a",
    fingerprint="0" * 32,
    path="/v1/chat/completions",
    model="m",
    body={"model": "m", "messages": [{"role": "user", "content": "Hi"}]},
)


def timing_after(duration_s: float, reads: int) -> ReplyTiming:
    """After one reply that was read without delays."""
    timing = ReplyTiming()
    timing.record(duration_s, reads)
    return timing


async def paced(writer: asyncio.StreamWriter) -> None:
    """Fifty words over a fifth of a second, then the last one."""
    for n in range(50):
        writer.write(http_chunk(b"word %d\n" % n))
        await asyncio.sleep(GAP_S)
    writer.write(http_chunk(LAST_BYTES) + LAST_CHUNK)


def serve_streams(*scripts: Script, tls: ssl.SSLContext | None = None) -> AbstractAsyncContextManager[str]:
    return serve_scripts(*(partial(_with_head, script) for script in scripts), tls=tls)


async def _with_head(script: Script, writer: asyncio.StreamWriter) -> None:
    writer.write(STREAM_HEAD)
    await script(writer)


class IdleObserver:
    """Observes the connection until the body's reader does, so that the body gets the fast class."""

    def on_headers(self, status: int, headers: Mapping[str, str], content: StreamReader) -> None: ...
    def on_no_response(self, error: Exception) -> None: ...
    def on_data(self) -> None: ...
    def on_failure(self, error: Exception) -> None: ...


def on_sent(connection: AnyConnection) -> None:
    observe(connection, IdleObserver())


async def read(
    session: ClientSession, url: str, timing: ReplyTiming, *, first_token: bool = True, stall_timeout_s: float = 5.0
) -> RecordingParser:
    """Read one response with delays. Its first piece is the first token, unless it never comes."""
    batching, parser = ReadBatching(), RecordingParser()
    async with session.post(url, data=RequestPayload(b"{}", on_sent)) as response:
        connection = response.connection  # None where all of it has come already
        protocol = connection.protocol if connection else None

        def on_expired() -> None:
            assert protocol is not None
            abort(protocol)

        timer = DeadlineTimer(Timeouts(stall_timeout_s=stall_timeout_s), batching.loop)
        deadlines = Deadlines(timer, batching.loop.time(), on_expired)
        observed = protocol if isinstance(protocol, Connection) else None
        finished = batching.loop.create_future()
        try:
            reader = BodyReader(
                response.content, parser, deadlines, observed, lambda: None, lambda error: None, finished
            )
            if first_token:
                parser.on_piece = lambda: (
                    reader.delay_reads(timing, batching, batching.loop.time()) if len(parser.pieces) == 1 else None
                )
            if observed is not None:
                observed.observer = reader
                reader.on_data()
            await reader.wait()
        finally:
            deadlines.stop()
            timer.close()
            batching.close()
    return parser


async def read_from(script: Script, timing: ReplyTiming, *, first_token: bool = True) -> RecordingParser:
    async with serve_streams(script) as url, ClientSession(connector=FastConnector()) as session:
        return await read(session, url, timing, first_token=first_token)


def test_delays_batch_several_segments() -> None:
    parser = asyncio.run(read_from(paced, timing_after(2.0, 200)))
    assert b"".join(parser.pieces) == b"".join(b"word %d\n" % n for n in range(50)) + LAST_BYTES
    assert len(parser.pieces) <= 18


def test_reads_before_the_first_token_are_not_delayed() -> None:
    parser = asyncio.run(read_from(paced, timing_after(2.0, 200), first_token=False))
    assert len(parser.pieces) > 25


def test_end_of_a_reply_is_late_by_one_delay_at_most() -> None:
    ended_at = []

    async def script(writer: asyncio.StreamWriter) -> None:
        await paced(writer)
        ended_at.append(time.perf_counter())

    parser = asyncio.run(read_from(script, timing_after(2.0, 200)))
    assert parser.times[-1] - ended_at[0] < 0.06 + 0.1


def test_timing_is_measured_from_a_reply_without_delays() -> None:
    timing = ReplyTiming()
    parser = asyncio.run(read_from(paced, timing))
    assert len(parser.pieces) > 25
    for _ in range(10):
        timing.record(2.0, None)
    assert timing.delay_s(0.0) > 0.0


def test_connection_that_closes_during_a_delay_is_noticed_at_once() -> None:
    async def script(writer: asyncio.StreamWriter) -> None:
        writer.write(http_chunk(b"a word"))
        await asyncio.sleep(0.1)
        writer.close()

    began = time.perf_counter()
    with pytest.raises(ClientPayloadError):
        asyncio.run(read_from(script, timing_after(1000.0, 100_000)))
    assert time.perf_counter() - began < 0.1 + MAX_DELAY_S / 2


def test_stall_during_a_delay_is_noticed() -> None:
    async def script(writer: asyncio.StreamWriter) -> None:
        writer.write(http_chunk(b"a word"))
        await asyncio.sleep(10)

    async def scenario() -> float:
        began = time.perf_counter()
        async with serve_streams(script) as url, ClientSession(connector=FastConnector()) as session:
            with pytest.raises(ClientPayloadError):
                await read(session, url, timing_after(1000.0, 100_000), stall_timeout_s=0.2)
        return time.perf_counter() - began

    assert asyncio.run(scenario()) < 0.6


def test_delay_does_not_hold_up_many_bytes() -> None:
    async def script(writer: asyncio.StreamWriter) -> None:
        writer.write(http_chunk(b"a word"))
        await asyncio.sleep(0.02)
        for _ in range(50):
            writer.write(http_chunk(b"x" * 20_000))
            await writer.drain()
        writer.write(http_chunk(LAST_BYTES) + LAST_CHUNK)

    parser = asyncio.run(read_from(script, timing_after(1000.0, 100_000)))
    assert sum(map(len, parser.pieces)) > 1_000_000
    assert parser.times[-2] - parser.times[0] < MAX_DELAY_S / 2


def test_connection_whose_reply_ends_during_a_delay_serves_the_next_request_at_once() -> None:
    async def ends_during_a_delay(writer: asyncio.StreamWriter) -> None:
        writer.write(http_chunk(b"a word"))
        await asyncio.sleep(0.02)
        writer.write(http_chunk(b"x" * 60_000 + LAST_BYTES) + LAST_CHUNK)
        await writer.drain()

    async def short(writer: asyncio.StreamWriter) -> None:
        writer.write(http_chunk(LAST_BYTES) + LAST_CHUNK)

    async def scenario() -> float:
        async with (
            serve_streams(ends_during_a_delay, short) as url,
            ClientSession(connector=FastConnector()) as session,
        ):
            await read(session, url, timing_after(1000.0, 100_000))
            began = time.perf_counter()
            await read(session, url, ReplyTiming())
            return time.perf_counter() - began

    assert asyncio.run(scenario()) < MAX_DELAY_S / 2


def test_many_delayed_streams_all_end() -> None:
    async def scenario() -> list[RecordingParser]:
        timing = timing_after(1.0, 100)
        async with serve_streams(*[paced] * 40) as url, ClientSession(connector=FastConnector(limit=0)) as session:
            return await asyncio.gather(*(read(session, url, timing) for _ in range(40)))

    parsers = asyncio.run(scenario())
    assert all(b"".join(parser.pieces).endswith(b"word 49\n" + LAST_BYTES) for parser in parsers)


@pytest.mark.process
def test_delays_batch_several_segments_below_tls(tmp_path: Path) -> None:
    tls = server_tls(self_signed_certificate(tmp_path))

    async def scenario() -> RecordingParser:
        async with (
            serve_streams(paced, tls=tls) as url,
            ClientSession(connector=FastConnector(ssl=False)) as session,
        ):
            return await read(session, url, timing_after(2.0, 200))

    assert len(asyncio.run(scenario()).pieces) <= 18


def text_chunk(text: str) -> bytes:
    return http_chunk(
        b'data: {"choices":[{"index":0,"delta":{"content":"%b"},"finish_reason":null}]}\n\n' % text.encode()
    )


def test_transport_notices_a_stalled_reply() -> None:
    async def script(writer: asyncio.StreamWriter) -> None:
        for n in range(10):
            writer.write(text_chunk(f"word {n}"))
            await asyncio.sleep(GAP_S)
        await asyncio.sleep(10)

    async def scenario() -> Reply:
        settings = TransportSettings(timeouts=Timeouts(stall_timeout_s=0.3))
        async with serve_streams(script) as url, HttpTransport(settings) as transport:
            return await transport(JOB, Target(base_url=f"{url}/v1"), lambda event: None)

    with pytest.raises(StreamStalled):
        asyncio.run(scenario())


def test_replies_that_come_whole_do_not_shorten_the_delays_of_others() -> None:
    async def whole(writer: asyncio.StreamWriter) -> None:
        writer.write(text_chunk("word") + http_chunk(b"data: [DONE]\n\n") + LAST_CHUNK)

    async def scenario() -> float:
        context = TransportContext(TransportSettings(), time.time)
        async with (
            serve_streams(*[whole] * 10) as url,
            create_session(ssl_context=True, connect_timeout_s=5, force_close=False) as session,
        ):
            route = Route(Target(base_url=f"{url}/v1"), JOB.path, trust_env=False)
            route.reply_timing[JOB.model].record(10.0, 1000)
            for _ in range(10):
                await HttpRequest(JOB, route, lambda event: None, context, flush_threshold=FLUSH_BYTES).reply(session)
        context.close()
        return route.reply_timing[JOB.model].delay_s(0.0)

    assert asyncio.run(scenario()) == pytest.approx(0.3)


def test_fast_connector_makes_fast_connections() -> None:
    async def scenario() -> bool:
        async with (
            serve_streams(paced) as url,
            ClientSession(connector=FastConnector()) as session,
            session.get(url) as response,
        ):
            assert response.connection is not None
            return isinstance(response.connection.protocol, Connection)

    assert asyncio.run(scenario())


def test_connection_without_observer_pauses_and_resumes_for_a_large_response() -> None:
    async def script(writer: asyncio.StreamWriter) -> None:
        for _ in range(100):
            writer.write(http_chunk(b"x" * 100_000))
            await writer.drain()
        writer.write(LAST_CHUNK)

    async def scenario() -> int:
        parser = JsonParser(lambda data: {"size": len(data)}, max_bytes=1 << 30)
        async with (
            serve_streams(script) as url,
            ClientSession(connector=FastConnector(), read_bufsize=4096) as session,
            session.get(url) as response,
        ):
            await asyncio.sleep(0.1)
            loop = asyncio.get_running_loop()
            deadlines = Deadlines(DeadlineTimer(Timeouts(), loop), loop.time(), lambda: None)
            on_failure, finished = lambda error: None, loop.create_future()
            await BodyReader(response.content, parser, deadlines, None, lambda: None, on_failure, finished).wait()
            return int(parser.result()["size"])

    assert asyncio.run(scenario()) == 10_000_000
