"""Pauses in reading: what they gather, how late they make a reply, and that nothing is missed in them."""

from __future__ import annotations

import asyncio
import socket
import ssl
import subprocess
import time
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from statistics import mean

import pytest
from aiohttp import ClientPayloadError, ClientSession, StreamReader
from aiohttp.base_protocol import BaseProtocol
from aiohttp.http import RawResponseMessage
from hypothesis import given
from hypothesis import strategies as st

from processor.core.errors import StreamStalled
from processor.core.models import Job, Reply, Target, Timeouts
from processor.http.body import OutgoingBody
from processor.http.body_reader import BodyReader, ReadBatcher
from processor.http.client import HttpTransport
from processor.http.fast_connector import Connection, Connector, UnmeteredStreamReader
from processor.http.read_batching import ReadBatching, number_of
from processor.http.response_body import JsonParser
from processor.http.rhythm import LONGEST_S, READ_AS_IT_COMES, ReplyTiming
from processor.http.settings import TransportSettings
from processor.http.timeouts import Deadlines
from tests.support.transport_server import Answer, raw_serving

HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n"
END = b"0\r\n\r\n"
LAST = b"the end"
GAP_S = 0.01

# ---------------------------------------------------------------- the rhythm


def rhythm_of(took_s: float, reads: int) -> ReplyTiming:
    rhythm = ReplyTiming()
    rhythm.learn(took_s, reads)
    return rhythm


def test_nothing_is_paused_before_a_reply_has_been_read_as_it_came() -> None:
    rhythm = ReplyTiming()
    assert rhythm.pause_s(100.0) == 0.0
    rhythm.learn(10.0, None)
    assert rhythm.pause_s(100.0) == 0.0


def test_a_pause_is_a_small_share_of_what_replies_take() -> None:
    assert rhythm_of(10.0, 1000).pause_s(0.0) == pytest.approx(0.3)
    assert rhythm_of(1.0, 100).pause_s(0.0) == pytest.approx(0.03)


def test_a_reply_that_is_older_than_others_get_is_expected_to_take_longer() -> None:
    assert rhythm_of(1.0, 100).pause_s(9.0) == pytest.approx(0.09)


def test_no_pause_is_longer_than_a_second() -> None:
    assert rhythm_of(1000.0, 100_000).pause_s(0.0) == LONGEST_S


def test_short_replies_are_never_paused() -> None:
    assert rhythm_of(0.5, 500).pause_s(0.0) == 0.0


def test_a_reply_in_one_read_is_a_short_one() -> None:
    assert rhythm_of(0.0, 1).pause_s(0.0) == 0.0


def test_a_pause_that_would_not_gather_several_segments_is_not_made() -> None:
    assert rhythm_of(10.0, 1000 // 60).pause_s(0.0) == 0.0


def test_a_few_short_replies_shorten_all_pauses() -> None:
    rhythm = rhythm_of(10.0, 1000)
    rhythm.learn(1.0, 100)
    assert rhythm.pause_s(0.0) < 0.06


def test_what_was_learned_fades() -> None:
    rhythm = rhythm_of(1.0, 100)
    for _ in range(400):
        rhythm.learn(20.0, 2000)
    assert rhythm.pause_s(0.0) == pytest.approx(0.6, rel=0.1)


def test_one_reply_in_some_is_read_as_it_comes() -> None:
    rhythm = ReplyTiming()
    assert [rhythm.opens() for _ in range(READ_AS_IT_COMES)].count(False) == 1


@given(st.lists(st.floats(0.01, 600.0), min_size=1, max_size=60))
def test_replies_are_late_by_less_than_two_percent_of_their_time_whatever_lengths_are_mixed(
    took_s: list[float],
) -> None:
    rhythm = ReplyTiming()
    for one_s in took_s:
        rhythm.learn(one_s, 1_000_000)
    # A reply ends anywhere in its last pause: half of it, on average.
    assert mean(rhythm.pause_s(one_s) / 2 / one_s for one_s in took_s) <= 0.02 + 1e-9


# ---------------------------------------------------------------- real connections


@dataclass
class Takes:
    """An intake that keeps what it gets, and when."""

    parts: list[bytes] = field(default_factory=list)
    at: list[float] = field(default_factory=list)
    began: Callable[[], None] = lambda: None
    complete: bool = False

    @property
    def enough(self) -> bool:
        return bool(self.parts) and self.parts[-1].endswith(LAST)

    def take(self, data: bytes) -> None:
        self.parts.append(data)
        self.at.append(time.perf_counter())
        self.began()

    def finish(self) -> None:
        self.complete = True

    def body(self) -> dict[str, object]:
        return {}


Write = Callable[[bytes], None]


def chunk(data: bytes) -> bytes:
    return b"%x\r\n%b\r\n" % (len(data), data)


async def paced(writer: asyncio.StreamWriter) -> None:
    """Fifty words over half a second, then the last one."""
    for n in range(50):
        writer.write(chunk(b"word %d\n" % n))
        await asyncio.sleep(GAP_S)
    writer.write(chunk(LAST) + END)


def serving(*answers: Answer, tls: ssl.SSLContext | None = None) -> AbstractAsyncContextManager[str]:
    return raw_serving(*(partial(_with_head, answer) for answer in answers), tls=tls)


async def _with_head(answer: Answer, writer: asyncio.StreamWriter) -> None:
    writer.write(HEAD)
    await answer(writer)


async def read(
    session: ClientSession, url: str, rhythm: ReplyTiming, *, begins: bool = True, stall_timeout_s: float = 5.0
) -> Takes:
    """One response, gathered."""
    pauses, takes = ReadBatching(), Takes()
    async with session.post(url, data=OutgoingBody(b"{}", listened_to)) as response:
        connection = response.connection  # None where all of it has come already
        protocol = connection.protocol if connection else None
        timeouts = Timeouts(stall_timeout_s=stall_timeout_s)
        patience = Deadlines(timeouts, pauses.loop, lambda: abort(protocol))
        patience.start(pauses.loop.time())
        reading = ReadBatcher(rhythm, pauses, protocol)
        if begins:
            takes.began = lambda: reading.begin(asyncio.get_running_loop().time()) if len(takes.parts) == 1 else None
        try:
            taker = BodyReader(response.content, takes, patience, reading)
            if isinstance(reading.connection, Connection):
                reading.connection.listener = taker
                taker.look()
            await taker.end()
        finally:
            patience.stop()
            pauses.close()
    return takes


class Unconcerned:
    def begins(self, head: RawResponseMessage, content: StreamReader) -> None: ...
    def look(self) -> None: ...


def listened_to(connection: BaseProtocol) -> None:
    """As by an exchange: so the body is of the class that is made for it."""
    if isinstance(connection, Connection):
        connection.listener = Unconcerned()


def abort(protocol: BaseProtocol | None) -> None:
    assert protocol is not None
    assert protocol.transport is not None
    protocol.transport.abort()


async def read_from(answer: Answer, rhythm: ReplyTiming, **options: bool) -> Takes:
    async with serving(answer) as url, ClientSession(connector=Connector()) as session:
        return await read(session, url, rhythm, **options)


def test_segments_are_gathered_in_pauses() -> None:
    takes = asyncio.run(read_from(paced, rhythm_of(2.0, 200)))
    assert b"".join(takes.parts) == b"".join(b"word %d\n" % n for n in range(50)) + LAST
    assert len(takes.parts) <= 18


def test_until_the_first_token_has_come_nothing_is_paused() -> None:
    takes = asyncio.run(read_from(paced, rhythm_of(2.0, 200), begins=False))
    assert len(takes.parts) > 25


def test_the_end_is_not_later_than_a_pause() -> None:
    ended_at = []

    async def noting_its_end(writer: asyncio.StreamWriter) -> None:
        await paced(writer)
        ended_at.append(time.perf_counter())

    takes = asyncio.run(read_from(noting_its_end, rhythm_of(2.0, 200)))
    assert takes.at[-1] - ended_at[0] < 0.06 + 0.1


def test_what_a_paced_reply_is_like_is_learned_from_one_that_was_not_paused() -> None:
    rhythm = ReplyTiming()
    takes = asyncio.run(read_from(paced, rhythm))
    assert len(takes.parts) > 25
    for _ in range(10):
        rhythm.learn(2.0, None)
    assert rhythm.pause_s(0.0) > 0.0


def test_a_stream_that_dies_in_a_pause_is_noticed_at_once() -> None:
    async def dies(writer: asyncio.StreamWriter) -> None:
        writer.write(chunk(b"a word"))
        await asyncio.sleep(0.1)
        writer.close()

    began = time.perf_counter()
    with pytest.raises(ClientPayloadError):
        asyncio.run(read_from(dies, rhythm_of(1000.0, 100_000)))
    assert time.perf_counter() - began < 0.1 + LONGEST_S / 2


def test_a_stream_that_falls_silent_in_a_pause_is_noticed() -> None:
    async def silent(writer: asyncio.StreamWriter) -> None:
        writer.write(chunk(b"a word"))
        await asyncio.sleep(10)

    async def scenario() -> float:
        began = time.perf_counter()
        async with serving(silent) as url, ClientSession(connector=Connector()) as session:
            with pytest.raises(ClientPayloadError):
                await read(session, url, rhythm_of(1000.0, 100_000), stall_timeout_s=0.2)
        return time.perf_counter() - began

    assert asyncio.run(scenario()) < 0.6


def test_a_flood_is_not_held_up_by_a_pause() -> None:
    async def flood(writer: asyncio.StreamWriter) -> None:
        writer.write(chunk(b"a word"))
        await asyncio.sleep(0.02)
        for _ in range(50):
            writer.write(chunk(b"x" * 20_000))
            await writer.drain()
        writer.write(chunk(LAST) + END)

    takes = asyncio.run(read_from(flood, rhythm_of(1000.0, 100_000)))
    assert sum(map(len, takes.parts)) > 1_000_000
    assert takes.at[-2] - takes.at[0] < LONGEST_S / 2


def test_a_connection_whose_reply_ends_in_a_pause_is_ready_for_the_next_one() -> None:
    async def ends_in_a_pause(writer: asyncio.StreamWriter) -> None:
        writer.write(chunk(b"a word"))
        await asyncio.sleep(0.02)
        writer.write(chunk(b"x" * 60_000 + LAST) + END)
        await writer.drain()

    async def short(writer: asyncio.StreamWriter) -> None:
        writer.write(chunk(LAST) + END)

    async def scenario() -> float:
        async with serving(ends_in_a_pause, short) as url, ClientSession(connector=Connector()) as session:
            await read(session, url, rhythm_of(1000.0, 100_000))
            began = time.perf_counter()
            await read(session, url, ReplyTiming())
            return time.perf_counter() - began

    assert asyncio.run(scenario()) < LONGEST_S / 2


def test_many_streams_in_pauses_all_come_to_their_end() -> None:
    async def scenario() -> list[Takes]:
        rhythm = rhythm_of(1.0, 100)
        async with serving(*[paced] * 40) as url, ClientSession(connector=Connector(limit=0)) as session:
            return await asyncio.gather(*(read(session, url, rhythm) for _ in range(40)))

    assert all(b"".join(takes.parts).endswith(b"word 49\n" + LAST) for takes in asyncio.run(scenario()))


def test_one_timer_ends_the_pauses_of_all_and_none_is_left_over() -> None:
    async def scenario() -> list[bool]:
        loop = asyncio.get_running_loop()
        pauses = ReadBatching()
        pairs = [socket.socketpair() for _ in range(20)]
        for ours, _ in pairs:
            ours.setblocking(False)
        made = [await loop.connect_accepted_socket(Noting, ours) for ours, _ in pairs]
        for n, (transport, _) in enumerate(made):
            pauses.pause(number_of(transport) or 0, loop.time() + 0.02 + 0.01 * (n % 5))
        made[3][0].close()
        await asyncio.sleep(0.1)
        for n, (_, theirs) in enumerate(pairs):
            if n != 3:
                theirs.send(b"x")
        await asyncio.sleep(0.02)
        for (transport, _), (_, theirs) in zip(made, pairs, strict=True):
            transport.close()
            theirs.close()
        pauses.close()
        await asyncio.sleep(0.01)
        return [noting.heard for _, noting in made]

    heard = asyncio.run(scenario())
    assert heard.count(True) == 19
    assert not heard[3]


class Noting(asyncio.Protocol):
    heard = False

    def data_received(self, data: bytes) -> None:
        self.heard = True


@pytest.mark.process
def test_below_tls_segments_are_gathered_too(tmp_path: Path) -> None:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(self_signed(tmp_path))

    async def scenario() -> Takes:
        async with (
            serving(paced, tls=context) as url,
            ClientSession(connector=Connector(ssl=False)) as session,
        ):
            return await read(session, url, rhythm_of(2.0, 200))

    assert len(asyncio.run(scenario()).parts) <= 18


def self_signed(folder: Path) -> Path:
    path = folder / "both.pem"
    subject = ["-subj", "/CN=localhost", "-keyout", str(path), "-out", str(path)]
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", *subject], check=True, capture_output=True
    )
    return path


# ---------------------------------------------------------------- the whole transport


def event(text: str) -> bytes:
    return chunk(b'data: {"choices":[{"index":0,"delta":{"content":"%b"},"finish_reason":null}]}\n\n' % text.encode())


def test_a_stalled_reply_is_noticed_behind_the_seam() -> None:
    async def stalls(writer: asyncio.StreamWriter) -> None:
        for n in range(10):
            writer.write(event(f"word {n}"))
            await asyncio.sleep(GAP_S)
        await asyncio.sleep(10)

    async def scenario() -> Reply:
        settings = TransportSettings(timeouts=Timeouts(stall_timeout_s=0.3))
        async with serving(stalls) as url, HttpTransport(settings) as transport:
            path = "/v1/chat/completions"
            messages = [{"role": "user", "content": "Hi"}]
            body = {"model": "m", "messages": messages}
            job = Job(line=1, custom_id="a", fingerprint="0" * 32, path=path, model="m", body=body)
            return await transport(job, Target(base_url=f"{url}/v1"), lambda signal: None)

    with pytest.raises(StreamStalled):
        asyncio.run(scenario())


def test_connections_are_made_that_resume_only_what_was_paused() -> None:
    async def scenario() -> bool:
        async with serving(paced) as url, ClientSession(connector=Connector()) as session, session.get(url) as response:
            assert response.connection is not None
            return isinstance(response.connection.protocol, Connection)

    assert asyncio.run(scenario())


def test_a_response_larger_than_the_buffer_is_paused_and_resumed_by_such_connections() -> None:
    async def large(writer: asyncio.StreamWriter) -> None:
        for _ in range(100):
            writer.write(chunk(b"x" * 100_000))
            await writer.drain()
        writer.write(END)

    async def scenario() -> int:
        intake = JsonParser(lambda data: {}, max_bytes=1 << 30)
        async with (
            serving(large) as url,
            ClientSession(connector=Connector(), read_bufsize=4096) as session,
            session.get(url) as response,
        ):
            await asyncio.sleep(0.1)
            patience = Deadlines(Timeouts(), asyncio.get_running_loop(), lambda: None)
            await BodyReader(response.content, intake, patience, ReadBatcher(ReplyTiming(), ReadBatching(), None)).end()
            return sum(map(len, intake._parts))

    assert asyncio.run(scenario()) == 10_000_000


# ---------------------------------------------------------------- behind the end


def ended() -> tuple[BodyReader, UnmeteredStreamReader, Takes]:
    """A reply that is whole, in a response that has not ended."""
    loop, takes = asyncio.get_running_loop(), Takes()
    connection = Connection(loop)
    content = StreamReader(connection, 4096, loop=loop)
    content.__class__ = UnmeteredStreamReader
    assert isinstance(content, UnmeteredStreamReader)
    patience = Deadlines(Timeouts(), loop, lambda: None)
    taker = BodyReader(content, takes, patience, ReadBatcher(ReplyTiming(), ReadBatching(), connection))
    content.feed_data(LAST)
    taker.look()
    assert taker.done.done()
    return taker, content, takes


def test_what_comes_behind_the_end_is_not_held() -> None:
    async def scenario() -> None:
        taker, content, takes = ended()
        content.feed_data(b"more")
        taker.look()
        assert content.read_nowait() == b""
        assert takes.parts == [LAST]

    asyncio.run(scenario())


def test_a_connection_that_is_lost_behind_the_end_has_nothing_to_wait_for() -> None:
    async def scenario() -> None:
        taker, content, _ = ended()
        content.set_exception(ClientPayloadError())
        taker.look()
        await asyncio.wait_for(taker.end(), 1)

    asyncio.run(scenario())
