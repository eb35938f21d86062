"""Real exchanges with a server on loopback that is made of raw bytes, and misbehaves in every way there is."""

from __future__ import annotations

import asyncio
import gzip
import re
import socket
import ssl
import struct
import subprocess
import time
import traceback
import tracemalloc
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import orjson
import pytest
import uvloop

from processor.core.errors import (
    AccessDenied,
    BadRequest,
    ConfigError,
    ConnectError,
    ConnectionLost,
    OptionRefused,
    ProcessorError,
    ProtocolError,
    ReplyTooLarge,
    RequestError,
    ServerError,
    StatusError,
    StreamStalled,
    StreamTruncated,
    Throttled,
    Timeout,
)
from processor.core.events import Delta, FirstToken, RequestEvent, ResponseStarted, Sent
from processor.core.models import Job, Reply, Secret, Target, Timeouts
from processor.http.client import HttpTransport
from processor.http.settings import TransportSettings

KEY = "not-a-key"
HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n"
END = b"0\r\n\r\n"


def http_chunk(data: bytes) -> bytes:
    return b"%x\r\n%b\r\n" % (len(data), data)


def event(value: Any) -> bytes:
    return b"data: " + (value if isinstance(value, bytes) else orjson.dumps(value)) + b"\n\n"


def said(text: str | None = None, finish_reason: str | None = None) -> bytes:
    delta = {} if text is None else {"content": text}
    return event({"id": "x", "model": "m", "choices": [{"index": 0, "delta": delta, "finish_reason": finish_reason}]})


DONE = event(b"[DONE]")
WHOLE = said("Hello ") + said("world") + said(finish_reason="stop") + DONE


def plain(body: bytes, status: str = "200 OK", content_type: str = "text/event-stream", *headers: str) -> bytes:
    lines = [f"HTTP/1.1 {status}", f"Content-Type: {content_type}", f"Content-Length: {len(body)}", *headers]
    return "\r\n".join(lines).encode() + b"\r\n\r\n" + body


class Line:
    """One connection, from the server's side."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer
        self.head = b""
        self.body = b""

    async def request(self) -> bool:
        try:
            self.head = await self.reader.readuntil(b"\r\n\r\n")
            size = re.search(rb"(?i)content-length: *(\d+)", self.head)
            self.body = await self.reader.readexactly(int(size.group(1)) if size else 0)
        except (asyncio.IncompleteReadError, ConnectionError):
            return False
        return True

    async def send(self, data: bytes) -> None:
        self.writer.write(data)
        await self.writer.drain()

    def reset(self) -> None:
        """Close so that the other side gets a reset, not an end."""
        self.writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.writer.transport.abort()

    def close(self) -> None:
        self.writer.close()


Answer = Callable[[Line], Awaitable[None]]


@dataclass
class Seen:
    """What happened on both sides."""

    replies: list[Reply] = field(default_factory=list)
    errors: list[ProcessorError] = field(default_factory=list)
    signals: list[RequestEvent] = field(default_factory=list)
    heads: list[bytes] = field(default_factory=list)
    bodies: list[bytes] = field(default_factory=list)
    connections: int = 0
    took_s: float = 0.0

    @property
    def error(self) -> ProcessorError:
        assert not self.replies
        return self.errors[-1]

    @property
    def text(self) -> str:
        text: str = self.replies[-1].body["choices"][0]["message"]["content"]
        return text

    def told(self) -> list[str]:
        return [type(signal).__name__ for signal in self.signals]


def job_of(**body: Any) -> Job:
    return Job(
        line=1, custom_id="a", fingerprint="0" * 32, path="/v1/chat/completions", model="m", body={"model": "m", **body}
    )


@asynccontextmanager
async def serving(answer: Answer, seen: Seen, tls: ssl.SSLContext | None = None) -> AsyncIterator[int]:
    """The port of a server that answers so; whatever it still does at the end is cancelled."""
    lines: set[asyncio.Task[Any]] = set()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        lines.add(task)
        seen.connections += 1
        line = Line(reader, writer)
        try:
            while not writer.is_closing() and await line.request():
                seen.heads.append(line.head)
                seen.bodies.append(line.body)
                await answer(line)
        except (ConnectionError, asyncio.CancelledError):
            writer.transport.abort()
        finally:
            writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0, ssl=tls, backlog=200)
    try:
        yield server.sockets[0].getsockname()[1]
    finally:
        server.close()
        for task in lines:
            task.cancel()
        await asyncio.gather(*lines, return_exceptions=True)
        await asyncio.sleep(0)


def transport_settings(**settings: Any) -> TransportSettings:
    """Timeouts and other settings, by name."""
    timeouts = {name: settings.pop(name) for name in [*settings] if name.endswith("_timeout_s")}
    return TransportSettings(timeouts=Timeouts(**timeouts), **settings)


async def exchange(
    answer: Answer,
    *,
    times: int = 1,
    tls: ssl.SSLContext | None = None,
    job: Job | None = None,
    base: str = "http://127.0.0.1:{port}/v1",
    target: dict[str, Any] | None = None,
    **settings: Any,
) -> Seen:
    """Send a request ``times`` times, one after the other, through one transport."""
    seen = Seen()
    loop = asyncio.get_running_loop()
    async with (
        serving(answer, seen, tls) as port,
        HttpTransport(transport_settings(**settings), wall=lambda: 0.0) as transport,
    ):
        where = Target(base_url=base.format(port=port), key=Secret(KEY), **(target or {}))
        for _ in range(times):
            began = loop.time()
            try:
                seen.replies.append(await transport(job or job_of(), where, seen.signals.append))
            except ProcessorError as error:
                seen.errors.append(error)
            seen.took_s = loop.time() - began
    return seen


def asked(answer: bytes | Answer, **options: Any) -> Seen:
    """Run one exchange with a server that answers with these bytes, or as this coroutine function says."""

    async def send(line: Line) -> None:
        assert isinstance(answer, bytes)
        await line.send(answer)

    chosen = send if isinstance(answer, bytes) else answer
    return asyncio.run(asyncio.wait_for(exchange(chosen, **options), 10))


# ---------------------------------------------------------------- as it should be


def test_a_streamed_reply_is_assembled_and_told() -> None:
    seen = asked(plain(WHOLE, "200 OK", "text/event-stream; charset=utf-8", "X-Request-Id: req_1"))
    assert seen.text == "Hello world"
    assert seen.replies[0].status_code == 200
    assert seen.replies[0].request_id == "req_1"
    assert seen.told() == ["Sent", "ResponseStarted", "FirstToken"]
    sent, started, first = seen.signals
    assert isinstance(sent, Sent)
    assert isinstance(started, ResponseStarted)
    assert isinstance(first, FirstToken)
    assert sent.at <= started.at <= first.at
    assert started.status == 200
    assert started.headers["x-request-id"] == "req_1"
    assert started.headers["content-type"] == "text/event-stream; charset=utf-8"


EARLY = b"HTTP/1.1 103 Early Hints\r\nLink: </a>\r\nX-Request-Id: early\r\n\r\n"


@pytest.mark.parametrize("apart", [True, False])
def test_what_comes_before_the_answer_is_told_of_as_little_as_nothing(apart: bool) -> None:
    async def answer(line: Line) -> None:
        await line.send(EARLY)
        if apart:
            await asyncio.sleep(0.02)
        await line.send(EARLY + plain(WHOLE))

    seen = asked(answer)
    assert seen.text == "Hello world"
    assert (seen.replies[0].status_code, seen.replies[0].request_id) == (200, None)
    assert seen.told() == ["Sent", "ResponseStarted", "FirstToken"]


def test_a_fault_of_whoever_is_told_is_no_fault_of_the_connection() -> None:
    """It listens to the connection itself: what is raised there would end the connection, and look like a loss."""

    told: list[RequestEvent] = []

    def tell(signal: RequestEvent) -> None:
        told.append(signal)
        if isinstance(signal, ResponseStarted):
            raise ZeroDivisionError

    async def scenario() -> None:
        async def answer(line: Line) -> None:
            await line.send(plain(WHOLE))

        async with serving(answer, Seen()) as port, HttpTransport() as transport:
            with pytest.raises(ZeroDivisionError):
                await transport(job_of(), Target(base_url=f"http://127.0.0.1:{port}"), tell)

    asyncio.run(scenario())
    assert [type(signal).__name__ for signal in told] == ["Sent", "ResponseStarted"]


def test_a_connection_that_has_gone_out_again_keeps_its_new_listener() -> None:
    """It is free when the last byte has come, and may be taken before the task that waited for that goes on."""

    class Next:
        def begins(self, head: object, content: object) -> None: ...

        def look(self) -> None: ...

    async def scenario() -> None:
        async def answer(line: Line) -> None:
            await line.send(plain(WHOLE))

        def tell(signal: RequestEvent) -> None:
            if isinstance(signal, FirstToken):
                (connection,) = connections
                connection.listener = following

        async with serving(answer, Seen()) as port, HttpTransport() as transport:
            target, following = Target(base_url=f"http://127.0.0.1:{port}"), Next()
            await transport(job_of(), target, lambda _: None)
            connections = [one for ((one, _),) in transport._pooled.connector._conns.values()]  # type: ignore[union-attr]
            assert connections[0].listener is None
            await transport(job_of(), target, tell)
            assert connections[0].listener is following

    asyncio.run(scenario())


def test_patience_that_ends_when_all_has_come_costs_no_connection() -> None:
    """The timer may be due before the task goes on, and the connection be another request's by then."""

    async def scenario() -> int:
        async def answer(line: Line) -> None:
            await line.send(plain(WHOLE))

        def tell(signal: RequestEvent) -> None:
            if isinstance(signal, FirstToken):
                time.sleep(0.1)

        seen = Seen()
        async with (
            serving(answer, seen) as port,
            HttpTransport(TransportSettings(timeouts=Timeouts(stall_timeout_s=0.05))) as transport,
        ):
            for _ in range(3):
                await transport(job_of(), Target(base_url=f"http://127.0.0.1:{port}"), tell)
        return seen.connections

    assert uvloop.run(scenario()) == 1


def test_the_request_is_as_the_provider_expects_it() -> None:
    seen = asked(plain(WHOLE), target={"headers": (("anthropic-version", "2023-06-01"),), "query": (("a", "1"),)})
    assert seen.heads[0].startswith(b"POST /v1/chat/completions?a=1 HTTP/1.1\r\n")
    lines = seen.heads[0].lower().split(b"\r\n")
    assert b"authorization: bearer not-a-key" in lines
    assert b"content-type: application/json" in lines
    assert b"accept: text/event-stream, application/json" in lines
    assert b"anthropic-version: 2023-06-01" in lines
    assert any(line.startswith(b"user-agent: processor") for line in lines)
    assert not any(line.startswith(b"cookie") for line in lines)
    assert seen.bodies == [b'{"model":"m","stream":true,"stream_options":{"include_usage":true}}']


def test_the_key_goes_where_the_provider_wants_it() -> None:
    seen = asked(plain(WHOLE), target={"auth_header": "api-key", "auth_scheme": ""})
    assert b"\r\napi-key: not-a-key\r\n" in seen.heads[0]
    assert b"Authorization" not in seen.heads[0]


def test_a_request_of_several_megabytes_is_sent() -> None:
    seen = asked(plain(WHOLE), job=job_of(prompt="x" * 3_000_000))
    assert seen.text == "Hello world"
    assert len(seen.bodies[0]) > 3_000_000


def test_the_text_is_told_as_it_comes_where_replies_are_echoed() -> None:
    async def slowly(line: Line) -> None:
        await line.send(HEAD)
        for text in ("Hello ", "world"):
            await line.send(http_chunk(said(text)))
            await asyncio.sleep(0.02)
        await line.send(http_chunk(said(finish_reason="stop") + DONE) + END)

    seen = asked(slowly, echo=True)
    assert [signal.text for signal in seen.signals if isinstance(signal, Delta)] == ["Hello ", "world"]


def test_a_job_may_ask_for_one_piece() -> None:
    body = {"choices": [{"index": 0, "message": {"role": "assistant", "content": "hi"}, "finish_reason": "stop"}]}
    seen = asked(plain(orjson.dumps(body), "200 OK", "application/json"), job=job_of(stream=False))
    assert seen.replies[0].body == body
    assert seen.bodies == [b'{"model":"m","stream":false}']
    assert seen.told() == ["Sent", "ResponseStarted"]


def test_a_server_that_ignores_that_a_stream_was_asked_for_is_understood() -> None:
    body = {"choices": [{"index": 0, "message": {"role": "assistant", "content": "hi"}}]}
    for content_type in ("application/json", "application/json; charset=utf-8", "application/problem+json"):
        assert asked(plain(orjson.dumps(body), "200 OK", content_type)).replies[0].body == body


def test_a_server_that_streams_though_one_piece_was_asked_for_is_understood() -> None:
    assert asked(plain(WHOLE), job=job_of(stream=False)).text == "Hello world"


@pytest.mark.parametrize("content_type", ["text/plain", "application/octet-stream", ""])
def test_an_odd_content_type_is_forgiven_where_the_events_are_right(content_type: str) -> None:
    assert asked(plain(WHOLE, "200 OK", content_type)).text == "Hello world"


def test_a_path_that_no_protocol_is_known_for_is_never_asked() -> None:
    seen = asked(plain(WHOLE), job=replace(job_of(), path="/v1/unheard/of"))
    assert type(seen.error) is BadRequest
    assert not seen.heads


# ---------------------------------------------------------------- however the bytes come


def in_pieces(body: bytes, size: int) -> Answer:
    async def answer(line: Line) -> None:
        await line.send(HEAD)
        for start in range(0, len(body), size):
            await line.send(http_chunk(body[start : start + size]))
            if start % 7 == 0:
                await asyncio.sleep(0)
        await line.send(END)

    return answer


@pytest.mark.parametrize("line_end", [b"\n", b"\r\n", b"\r"])
def test_any_line_ends_in_writes_of_one_byte(line_end: bytes) -> None:
    body = (said("zwölf €") + b": alive\n\n" + WHOLE).replace(b"\n", line_end)
    assert asked(in_pieces(body, 1)).text == "zwölf €Hello world"


@pytest.mark.parametrize("size", [300 * 1024, 2 * 2**20])
def test_one_event_may_be_very_large(size: int) -> None:
    assert asked(plain(said("x" * size) + WHOLE)).text == "x" * size + "Hello world"
    assert asked(in_pieces(said("x" * size) + WHOLE, 10_000)).text == "x" * size + "Hello world"


def test_very_many_tiny_events() -> None:
    assert asked(plain(said("x") * 20_000 + WHOLE)).text == "x" * 20_000 + "Hello world"


def test_empty_events_and_comments_are_nothing() -> None:
    noise = b"data:\n\n: OPENROUTER PROCESSING\n\n\n\nevent: ping\n\n"
    assert asked(plain(noise * 1000 + WHOLE)).text == "Hello world"


def test_a_compressed_reply_is_unpacked() -> None:
    assert asked(plain(gzip.compress(WHOLE), "200 OK", "text/event-stream", "Content-Encoding: gzip")).text


def test_a_stream_without_a_length_ends_with_the_connection() -> None:
    async def answer(line: Line) -> None:
        await line.send(b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n\r\n" + said("a", "stop"))
        line.close()

    assert asked(answer).text == "a"


def test_a_last_event_may_lack_its_blank_line() -> None:
    assert asked(plain(said("a") + b"data: [DONE]\n")).text == "a"


# ---------------------------------------------------------------- breaking off


async def reset_before(line: Line) -> None:
    line.reset()


async def close_before(line: Line) -> None:
    line.close()


@pytest.mark.parametrize("answer", [reset_before, close_before])
def test_a_new_connection_that_dies_before_the_response_is_lost(answer: Answer) -> None:
    seen = asked(answer)
    assert type(seen.error) is ConnectionLost
    assert not seen.error.reused
    assert seen.told() == ["Sent"]


@pytest.mark.parametrize("end", ["reset", "close"])
def test_a_pooled_connection_that_dies_before_the_response_was_a_reused_one(end: str) -> None:
    async def once(line: Line) -> None:
        if line.body == b"":
            raise AssertionError
        if getattr(line, "served", False):
            getattr(line, end)()
        else:
            line.served = True  # type: ignore[attr-defined]
            await line.send(plain(WHOLE))

    seen = asked(once, times=2)
    assert len(seen.replies) == 1
    assert isinstance(seen.errors[0], ConnectionLost)
    assert seen.errors[0].reused
    assert seen.connections == 1


def test_a_pooled_connection_that_closes_before_anything_is_sent_was_a_reused_one() -> None:
    async def run() -> Seen:
        seen = Seen()

        async def answer(line: Line) -> None:
            await line.send(plain(WHOLE))

        async with serving(answer, seen) as port, HttpTransport() as transport:
            target = Target(base_url=f"http://127.0.0.1:{port}")
            await transport(job_of(), target, lambda _: None)
            (((connection, _),),) = transport._pooled.connector._conns.values()  # type: ignore[union-attr]
            # Runs between the moment the connection is taken from the pool and the first byte.
            asyncio.get_running_loop().call_soon(connection.transport.close)
            with pytest.raises(ConnectionLost) as raised:
                await transport(job_of(), target, seen.signals.append)
            assert raised.value.reused
        return seen

    assert asyncio.run(run()).told() == []


def test_a_response_that_breaks_inside_its_headers_was_begun() -> None:
    async def answer(line: Line) -> None:
        if len(line.head) and getattr(line, "served", False):
            await line.send(b"HTTP/1.1 200 OK\r\nContent-Ty")
            line.close()
        else:
            line.served = True  # type: ignore[attr-defined]
            await line.send(plain(WHOLE))

    seen = asked(answer, times=2)
    assert isinstance(seen.errors[0], ConnectionLost)
    assert not seen.errors[0].reused


CUT = said("Hello ")


async def cut_chunked(line: Line) -> None:
    await line.send(HEAD + http_chunk(CUT))
    line.close()


async def cut_by_reset(line: Line) -> None:
    await line.send(HEAD + http_chunk(CUT))
    await asyncio.sleep(0.02)
    line.reset()


async def cut_length(line: Line) -> None:
    await line.send(plain(WHOLE)[:-60])
    line.close()


async def bad_chunk(line: Line) -> None:
    await line.send(HEAD + http_chunk(CUT))
    await asyncio.sleep(0.02)
    await line.send(b"zz\r\n")


@pytest.mark.parametrize("answer", [cut_chunked, cut_by_reset, cut_length, bad_chunk])
def test_a_reply_that_breaks_off_is_truncated(answer: Answer) -> None:
    seen = asked(answer)
    assert type(seen.error) is StreamTruncated
    assert seen.told() == ["Sent", "ResponseStarted", "FirstToken"]


@pytest.mark.parametrize("body", [CUT, CUT + b"data: {", said("a") + b": alive\n\n", b": alive\n\n"])
def test_a_reply_that_ends_cleanly_before_it_is_whole_is_truncated(body: bytes) -> None:
    assert type(asked(plain(body)).error) is StreamTruncated


def test_what_follows_the_end_is_nobodys_business_and_the_connection_is_used_again() -> None:
    async def answer(line: Line) -> None:
        await line.send(HEAD + http_chunk(WHOLE))
        await asyncio.sleep(0.01)
        for _ in range(20):
            await line.send(http_chunk(b": nothing\n" * 50_000))
        await line.send(END)

    seen = asked(answer, times=2)
    assert [reply.body["choices"][0]["message"]["content"] for reply in seen.replies] == ["Hello world"] * 2
    assert seen.connections == 1


def test_a_whole_reply_stands_even_if_the_connection_breaks_behind_it() -> None:
    async def answer(line: Line) -> None:
        await line.send(HEAD + http_chunk(said("a", "stop")))
        await asyncio.sleep(0.02)
        line.reset()

    assert asked(answer).text == "a"


def test_a_cut_json_reply_is_truncated() -> None:
    async def answer(line: Line) -> None:
        await line.send(plain(b'{"choices": [{"index": 0}]}', "200 OK", "application/json")[:-5])
        line.close()

    assert type(asked(answer).error) is StreamTruncated


# ---------------------------------------------------------------- waiting


async def silent(line: Line) -> None:
    await line.reader.read()


async def silent_after_headers(line: Line) -> None:
    await line.send(HEAD)
    await silent(line)


async def silent_after_text(line: Line) -> None:
    await line.send(HEAD + http_chunk(said("a")))
    await silent(line)


@pytest.mark.parametrize("answer", [silent, silent_after_headers])
def test_a_first_byte_that_does_not_come_times_out(answer: Answer) -> None:
    seen = asked(answer, first_byte_timeout_s=0.1, stall_timeout_s=0.02)
    assert type(seen.error) is Timeout
    assert str(seen.error) == "no first byte within 0.1 s"
    assert 0.09 < seen.took_s < 1


def test_silence_after_the_first_byte_is_a_stall() -> None:
    seen = asked(silent_after_text, stall_timeout_s=0.1)
    assert type(seen.error) is StreamStalled
    assert 0.09 < seen.took_s < 1


def test_keep_alive_comments_are_life() -> None:
    async def answer(line: Line) -> None:
        await line.send(HEAD)
        for _ in range(10):
            await line.send(http_chunk(b": alive\n\n"))
            await asyncio.sleep(0.03)
        await line.send(http_chunk(WHOLE) + END)

    assert asked(answer, stall_timeout_s=0.15, first_byte_timeout_s=0.15).text == "Hello world"


def test_a_reply_that_never_ends_times_out() -> None:
    async def answer(line: Line) -> None:
        await line.send(HEAD)
        while True:
            await line.send(http_chunk(said("a")))
            await asyncio.sleep(0.01)

    seen = asked(answer, request_timeout_s=0.15)
    assert type(seen.error) is Timeout
    assert str(seen.error) == "no whole reply within 0.15 s"


def test_a_whole_reply_stands_though_its_end_is_never_told() -> None:
    async def answer(line: Line) -> None:
        await line.send(HEAD + http_chunk(said("a", "stop")))
        await silent(line)

    assert asked(answer, stall_timeout_s=0.1).text == "a"


def test_after_the_end_marker_the_end_of_the_response_is_not_waited_for_long() -> None:
    async def answer(line: Line) -> None:
        await line.send(HEAD + http_chunk(WHOLE))
        await silent(line)

    seen = asked(answer)
    assert seen.text == "Hello world"
    assert seen.took_s < 0.5


def test_a_server_that_does_not_read_is_not_waited_for_for_ever() -> None:
    async def run() -> Seen:
        seen = Seen()
        listener = socket.create_server(("127.0.0.1", 0), backlog=1)
        target = Target(base_url=f"http://127.0.0.1:{listener.getsockname()[1]}/v1")
        async with HttpTransport(TransportSettings(timeouts=Timeouts(first_byte_timeout_s=0.1))) as transport:
            with pytest.raises(Timeout):
                await transport(job_of(prompt="x" * 30_000_000), target, seen.signals.append)
        listener.close()
        return seen

    assert asyncio.run(asyncio.wait_for(run(), 5)).told() == ["Sent"]


def test_cancelling_closes_the_connection_and_is_not_an_error_of_ours() -> None:
    async def run() -> None:
        gone = asyncio.Event()

        async def answer(line: Line) -> None:
            await line.send(HEAD + http_chunk(said("a")))
            await line.reader.read()
            gone.set()

        async with serving(answer, Seen()) as port, HttpTransport() as transport:
            token = asyncio.Event()
            target = Target(base_url=f"http://127.0.0.1:{port}")
            task = asyncio.create_task(
                transport(job_of(), target, lambda signal: token.set() if isinstance(signal, FirstToken) else None)
            )
            await token.wait()
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            await asyncio.wait_for(gone.wait(), 1)

    asyncio.run(run())


# ---------------------------------------------------------------- the pool


def test_a_connection_serves_one_request_after_the_other() -> None:
    seen = asked(plain(WHOLE), times=5)
    assert len(seen.replies) == 5
    assert seen.connections == 1


def test_a_connection_whose_end_comes_a_little_later_is_used_again() -> None:
    async def answer(line: Line) -> None:
        await line.send(HEAD + http_chunk(WHOLE))
        await asyncio.sleep(0.02)
        await line.send(END)

    assert asked(answer, times=3).connections == 1


def test_a_connection_serves_again_after_an_error_answer() -> None:
    seen = asked(plain(b'{"error": {"message": "no"}}', "503 Busy", "application/json"), times=3)
    assert len(seen.errors) == 3
    assert seen.connections == 1


def test_a_connection_that_may_hold_a_rest_is_not_used_again() -> None:
    assert asked(in_pieces(b"garbage\n\n" + event(b"{") + said("x") * 100_000, 65_536), times=2).connections == 2


def test_connections_that_a_server_closes_behind_its_replies_are_soon_not_used_again() -> None:
    async def answer(line: Line) -> None:
        await line.send(plain(WHOLE))
        line.reader.feed_eof()  # behind the reply, but not told in it
        line.close()

    seen = asked(answer, times=60)
    assert len(seen.errors) <= 3
    assert len(seen.replies) >= 57
    assert sum(b"Connection: close" in head for head in seen.heads) >= 45


def test_many_requests_are_in_flight_at_once() -> None:
    async def run() -> list[Reply]:
        seen = Seen()
        all_there = asyncio.Event()

        async def answer(line: Line) -> None:
            if len(seen.heads) == 150:
                all_there.set()
            await all_there.wait()
            await line.send(plain(WHOLE))

        async with serving(answer, seen) as port, HttpTransport() as transport:
            target = Target(base_url=f"http://127.0.0.1:{port}")
            return await asyncio.gather(*(transport(job_of(), target, lambda _: None) for _ in range(150)))

    assert len(asyncio.run(asyncio.wait_for(run(), 10))) == 150


# ---------------------------------------------------------------- answers that are no reply


@pytest.mark.parametrize(
    ("status", "kind"),
    [
        ("400 Bad", BadRequest),
        ("401 No", AccessDenied),
        ("429 Slow", Throttled),
        ("500 Oh", ServerError),
        ("529 Busy", ServerError),
    ],
)
def test_an_error_answer_is_its_error(status: str, kind: type[StatusError]) -> None:
    body = orjson.dumps({"error": {"message": "because", "code": "some_code"}})
    answer = plain(body, status, "application/json", "Retry-After-Ms: 1500", "X-Request-Id: req_7")
    seen = asked(answer)
    assert type(seen.error) is kind
    assert str(seen.error) == "because"
    assert seen.error.status == int(status[:3])
    assert seen.error.error_code == "some_code"
    assert seen.error.retry_after_s == 1.5
    assert seen.error.request_id == "req_7"
    assert seen.error.body == {"error": {"message": "because", "code": "some_code"}}
    assert seen.told() == ["Sent", "ResponseStarted"]


def test_a_date_to_come_back_is_measured_by_the_servers_clock() -> None:
    date = "Thu, 01 Jan 1970 00:01:30 GMT"
    seen = asked(plain(b"", "503 Busy", "", f"Retry-After: {date}", "Date: Thu, 01 Jan 1970 00:01:00 GMT"))
    assert isinstance(seen.error, ServerError)
    assert seen.error.retry_after_s == 30
    seen = asked(plain(b"", "503 Busy", "", f"Retry-After: {date}"))
    assert isinstance(seen.error, ServerError)
    assert seen.error.retry_after_s == 90


def test_an_error_answer_without_an_end_is_read_as_far_as_it_goes() -> None:
    async def endless(line: Line) -> None:
        await line.send(b"HTTP/1.1 500 Oh\r\nContent-Type: text/plain\r\n\r\n")
        while True:
            await line.send(b"x" * 65_536)

    seen = asked(endless)
    assert isinstance(seen.error, ServerError)
    assert len(str(seen.error)) < 600

    async def cut(line: Line) -> None:
        await line.send(b"HTTP/1.1 429 Slow\r\nContent-Length: 900\r\n\r\nslow down")
        line.close()

    assert str(asked(cut).error) == "HTTP 429 Too Many Requests: slow down"


def test_an_error_answer_is_not_waited_for_long(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("processor.http.request._ERROR_BODY_WITHIN_S", 0.1)

    async def answer(line: Line) -> None:
        await line.send(b"HTTP/1.1 503 Busy\r\nContent-Length: 900\r\n\r\nbusy")
        await silent(line)

    seen = asked(answer)
    assert type(seen.error) is ServerError
    assert seen.took_s < 1


def test_a_redirect_is_not_followed() -> None:
    seen = asked(plain(b"", "307 Moved", "", "Location: https://elsewhere.example/v1?key=1"), times=1)
    assert isinstance(seen.error, BadRequest)
    assert str(seen.error) == "HTTP 307: redirected to https://elsewhere.example/v1; redirects are not followed"
    assert len(seen.heads) == 1


def test_a_page_is_no_reply() -> None:
    seen = asked(plain(b"<html><title>Log in</title></html>", "200 OK", "text/html; charset=utf-8"))
    assert type(seen.error) is ProtocolError
    assert "text/html" in str(seen.error)
    assert "Log in" in str(seen.error)


@pytest.mark.parametrize(
    "answer",
    [
        b"HTTP/1.1 204 No Content\r\n\r\n",
        plain(b""),
        plain(b"", "200 OK", "application/json"),
        plain(b"just some text\n", "200 OK", "text/plain"),
        plain(b'{"some": "json"}', "200 OK", "application/json"),
        plain(b"not json", "200 OK", "application/json"),
        plain(event({"choices": "x"})),
        plain(event(b"{not json")),
        plain(said("a") + event(b"\xff\xfe") + WHOLE),
        plain(DONE),
        plain(b"garbage", "200 OK", "text/event-stream", "Content-Encoding: br, x-unknown")[:0] + plain(event(b"[1]")),
    ],
)
def test_what_makes_no_sense_is_a_protocol_error(answer: bytes) -> None:
    assert type(asked(answer).error) is ProtocolError


@pytest.mark.parametrize(
    "answer",
    [
        b"HTTP/1.1 200 OK\r\nX-Long: " + b"x" * 100_000 + b"\r\n\r\n",
        b"HTTP/1.1 200 OK\r\n" + b"X-Many: x\r\n" * 10_000 + b"\r\n",
        b"SSH-2.0-OpenSSH_9.6\r\n",
        b"HTTP/1.1 abc\r\n\r\n",
        b"\x15\x03\x01\x00\x02\x02\x0a",
        b"HTTP/1.1 200 OK\r\nContent-Length: -5\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n",
    ],
)
def test_what_is_no_http_is_a_protocol_error(answer: bytes) -> None:
    error = asked(answer).error
    assert type(error) is ProtocolError
    assert len(str(error)) < 700


def test_garbage_instead_of_compressed_bytes_is_a_broken_reply() -> None:
    error = asked(plain(b"not gzip at all", "200 OK", "text/event-stream", "Content-Encoding: gzip")).error
    assert isinstance(error, StreamTruncated | ProtocolError)


@pytest.mark.parametrize("content_type", ["text/event-stream", "application/json"])
def test_a_reply_beyond_the_cap_is_stopped(content_type: str) -> None:
    async def endless(line: Line) -> None:
        await line.send(b"HTTP/1.1 200 OK\r\nContent-Type: %b\r\n\r\n" % content_type.encode())
        while True:
            await line.send(said("x" * 1000) * 10)

    seen = asked(endless, max_reply_bytes=1_000_000)
    assert type(seen.error) is ReplyTooLarge


def test_a_compressed_bomb_is_stopped_before_it_is_unpacked() -> None:
    packed = gzip.compress(bytes(200 * 2**20), 9)
    tracemalloc.start()
    seen = asked(plain(packed, "200 OK", "text/event-stream", "Content-Encoding: gzip"), max_reply_bytes=2**20)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert type(seen.error) is ReplyTooLarge
    assert peak < 20 * 2**20


def test_an_error_inside_the_stream_is_raised_with_the_request_id() -> None:
    body = said("a") + event({"error": {"message": "boom", "code": 502}})
    seen = asked(plain(body, "200 OK", "text/event-stream", "X-Request-Id: req_9"))
    assert isinstance(seen.error, ServerError)
    assert seen.error.status == 502
    assert seen.error.request_id == "req_9"


def test_stream_options_that_a_server_does_not_know_are_left_out_from_then_on() -> None:
    async def answer(line: Line) -> None:
        if b"stream_options" in line.body:
            await line.send(plain(b'{"error": "unknown field: stream_options"}', "400 Bad", "application/json"))
        else:
            await line.send(plain(WHOLE))

    seen = asked(answer, times=3)
    assert [type(error) for error in seen.errors] == [OptionRefused]
    assert [reply.body["choices"][0]["message"]["content"] for reply in seen.replies] == ["Hello world"] * 2
    assert [b"stream_options" in body for body in seen.bodies] == [True, False, False]


def test_stream_options_of_the_jobs_own_are_its_own_fault() -> None:
    answer = plain(b'{"error": "unknown field: stream_options"}', "400 Bad", "application/json")
    seen = asked(answer, job=job_of(stream_options={"x": 1}))
    assert type(seen.error) is BadRequest


# ---------------------------------------------------------------- connecting


def fails_at(base_url: str, **settings: Any) -> RequestError:
    async def run() -> RequestError:
        async with HttpTransport(transport_settings(**settings)) as transport:
            signals: list[RequestEvent] = []
            with pytest.raises(RequestError) as raised:
                await transport(job_of(), Target(base_url=base_url, key=Secret(KEY)), signals.append)
            assert not signals
            return raised.value

    return asyncio.run(asyncio.wait_for(run(), 10))


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port: int = listener.getsockname()[1]
    return port


def test_a_refused_connection_is_named() -> None:
    port = free_port()
    error = fails_at(f"http://127.0.0.1:{port}/v1")
    assert type(error) is ConnectError
    assert f"127.0.0.1:{port}" in str(error)
    assert "refused" in str(error).lower()


def test_a_host_that_is_not_found_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    async def not_found(*_: Any, **__: Any) -> Any:
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

    monkeypatch.setattr(asyncio.BaseEventLoop, "getaddrinfo", not_found)
    error = fails_at("http://no-such-host.invalid/v1")
    assert type(error) is ConnectError
    assert str(error) == "the host of no-such-host.invalid:80 is not found: Name or service not known"


def test_a_number_that_is_no_address_is_named() -> None:
    error = fails_at("http://1.2.3.999/v1")
    assert type(error) is ConnectError
    assert str(error).startswith("1.2.3.999:80 is no address")


def test_a_host_that_does_not_answer_is_given_up() -> None:
    listener = socket.create_server(("127.0.0.1", 0), backlog=0)
    port = listener.getsockname()[1]
    fill = [socket.socket() for _ in range(4)]
    for one in fill:
        one.setblocking(False)
        one.connect_ex(("127.0.0.1", port))
    try:
        error = fails_at(f"http://127.0.0.1:{port}/v1", connect_timeout_s=0.2)
    finally:
        for one in (listener, *fill):
            one.close()
    assert type(error) is ConnectError
    assert "within 0.2 s" in str(error)


def test_tls_to_a_plain_server_is_named() -> None:
    async def run() -> RequestError:
        async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            await reader.read(1)
            writer.write(plain(b"", "400 Bad"))
            writer.close()

        server = await asyncio.start_server(serve, "127.0.0.1", 0)
        target = Target(base_url=f"https://127.0.0.1:{server.sockets[0].getsockname()[1]}")
        async with HttpTransport() as transport:
            with pytest.raises(ConnectError) as raised:
                await transport(job_of(), target, lambda _: None)
        server.close()
        return raised.value

    error = asyncio.run(asyncio.wait_for(run(), 5))
    assert str(error).startswith("no TLS connection to 127.0.0.1:")


@pytest.mark.process
def test_a_certificate_that_is_not_trusted_is_named_and_can_be_trusted(tmp_path: Path) -> None:
    certificate = self_signed(tmp_path)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate)
    seen = asked(plain(WHOLE), base="https://localhost:{port}/v1", tls=context)
    assert type(seen.error) is ConnectError
    assert "certificate" in str(seen.error)
    assert "self-signed" in str(seen.error)
    assert not seen.signals
    seen = asked(plain(WHOLE), base="https://localhost:{port}/v1", tls=context, ca_file=str(certificate))
    assert seen.text == "Hello world"


def self_signed(folder: Path) -> Path:
    path = folder / "both.pem"
    subprocess.run(
        [
            "openssl",
            "req",
            "-x509",
            "-newkey",
            "rsa:2048",
            "-nodes",
            "-days",
            "2",
            "-subj",
            "/CN=localhost",
            "-addext",
            "subjectAltName=DNS:localhost",
            "-keyout",
            folder / "key.pem",
            "-out",
            folder / "cert.pem",
        ],
        check=True,
        capture_output=True,
    )
    path.write_bytes((folder / "key.pem").read_bytes() + (folder / "cert.pem").read_bytes())
    return path


@pytest.mark.parametrize("content", [None, b"no certificate"])
def test_a_ca_file_that_is_of_no_use_is_a_matter_of_configuration(tmp_path: Path, content: bytes | None) -> None:
    path = tmp_path / "ca.pem"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(ConfigError, match=r"ca\.pem"):
        asked(plain(WHOLE), ca_file=str(path))


@pytest.mark.parametrize(
    ("base_url", "key"),
    [
        ("ftp://host/v1", KEY),
        ("no address", KEY),
        ("http://[bad/v1", KEY),
        ("http://user:not-a-key@host/v1", KEY),
        ("ftp://not-a-key@host/v1", KEY),
        ("http://a..b/v1", KEY),
        ("http://xn--/v1", KEY),
        (f"http://{'a' * 70}.com/v1", KEY),
        ("http://host:99999/v1", KEY),
        ("http://", KEY),
        ("http://host", "not\na-key"),
    ],
)
def test_a_target_that_can_never_be_reached_is_a_matter_of_configuration(base_url: str, key: str) -> None:
    async def run() -> None:
        async with HttpTransport() as transport:
            await transport(job_of(), Target(base_url=base_url, key=Secret(key)), lambda _: None)

    with pytest.raises(ConfigError) as raised:
        asyncio.run(run())
    assert key not in str(raised.value)


def test_a_proxy_from_the_environment_is_used(monkeypatch: pytest.MonkeyPatch) -> None:
    async def run() -> Seen:
        seen = Seen()

        async def proxy(line: Line) -> None:
            await line.send(plain(WHOLE))

        async with serving(proxy, seen) as port, HttpTransport() as transport:
            monkeypatch.setenv("http_proxy", f"http://user:pass@127.0.0.1:{port}")
            monkeypatch.setenv("no_proxy", "")
            target = Target(base_url="http://far.example/v1")
            seen.replies.append(await transport(job_of(), target, seen.signals.append))
        return seen

    seen = asyncio.run(asyncio.wait_for(run(), 5))
    assert seen.text == "Hello world"
    assert seen.heads[0].startswith(b"POST http://far.example/v1/chat/completions HTTP/1.1\r\n")
    assert b"Proxy-Authorization: Basic dXNlcjpwYXNz\r\n" in seen.heads[0]


def test_a_proxy_that_refuses_or_is_not_there_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    async def run(base_url: str, *, there: bool) -> str:
        async def proxy(line: Line) -> None:
            await line.send(plain(b"", "407 Proxy Authentication Required", ""))

        port = free_port()
        async with serving(proxy, Seen()) as own_port, HttpTransport() as transport:
            for scheme in ("http", "https"):
                monkeypatch.setenv(f"{scheme}_proxy", f"http://127.0.0.1:{own_port if there else port}")
            monkeypatch.setenv("no_proxy", "")
            with pytest.raises(ConnectError) as raised:
                await transport(job_of(), Target(base_url=base_url, key=Secret(KEY)), lambda _: None)
            return str(raised.value)

    said = asyncio.run(run("https://far.example/v1", there=True))
    assert said == "the proxy does not connect to far.example:443: HTTP 407 Proxy Authentication Required"
    said = asyncio.run(run("http://far.example/v1", there=False))
    assert said == "cannot connect to the proxy for far.example:80: Connection refused"


# ---------------------------------------------------------------- secrets


async def repeat_the_key(line: Line) -> None:
    body = orjson.dumps({"error": {"message": f"Incorrect API key provided: {KEY}", "param": KEY}})
    await line.send(plain(body, "401 No", "application/json"))


async def repeat_the_key_in_the_stream(line: Line) -> None:
    await line.send(plain(event({"error": {"message": f"bad key {KEY}"}})))


async def redirect_with_the_key(line: Line) -> None:
    await line.send(plain(b"", "302 Found", "", f"Location: https://x.example/{KEY}"))


@pytest.mark.parametrize(
    "answer",
    [
        repeat_the_key,
        repeat_the_key_in_the_stream,
        redirect_with_the_key,
        reset_before,
        cut_chunked,
        bad_chunk,
        in_pieces(b"data: not-a-key\n\n", 100),
        lambda line: line.send(b"HTTP/1.1 not-a-key\r\n\r\n"),
    ],
)
def test_the_key_is_in_no_error_whatever_the_server_says(answer: Answer) -> None:
    error: BaseException | None = asked(answer).error
    while error is not None:
        assert KEY not in str(error)
        assert KEY not in repr(error)
        assert KEY not in repr(vars(error))
        assert KEY not in "".join(traceback.format_exception(error))
        error = error.__context__


@pytest.mark.parametrize(
    "answer",
    [plain(WHOLE), plain(WHOLE[:50]), plain(b'{"error": {"message": "slow"}}', "429 Slow", "application/json")],
    ids=["whole", "cut", "refused"],
)
def test_a_request_leaves_nothing_to_the_garbage_collector(
    answer: bytes, count_garbage: Callable[[Callable[[], object]], int]
) -> None:
    """Once, each reply hung in a circle: sweeping them up was a twentieth of all work."""
    few, many = (count_garbage(lambda times=times: asked(answer, times=times)) for times in (10, 60))
    assert many <= few + 20
