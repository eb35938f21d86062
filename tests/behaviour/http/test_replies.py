"""Whole replies, in every form in which servers send them."""

from __future__ import annotations

import asyncio
import gzip
import zlib
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Any

import orjson
import pytest

from processor.core.errors import BadRequest, ProtocolError, StreamTruncated
from processor.core.events import Delta, FirstToken, RequestEvent, ResponseStarted, Sent
from processor.core.models import Target
from processor.http.client import HttpTransport
from tests.support.http_exchange import (
    DONE,
    HELLO_WORLD,
    LAST_CHUNK,
    STREAM_HEAD,
    Record,
    ServerConnection,
    always,
    exchange,
    http_chunk,
    in_chunks,
    make_job,
    response,
    serve,
    text_event,
)
from tests.support.reply_shapes import SHAPES


def test_streamed_reply_is_assembled_and_its_events_are_reported() -> None:
    record = exchange(response(HELLO_WORLD, "200 OK", "text/event-stream; charset=utf-8", "X-Request-Id: req_1"))
    assert record.text == "Hello world"
    assert record.replies[0].status_code == 200
    assert record.replies[0].request_id == "req_1"
    assert record.event_names() == ["Sent", "ResponseStarted", "FirstToken"]
    sent, started, first = record.events
    assert isinstance(sent, Sent)
    assert isinstance(started, ResponseStarted)
    assert isinstance(first, FirstToken)
    assert sent.at <= started.at <= first.at
    assert started.status == 200
    assert started.headers["x-request-id"] == "req_1"
    assert started.headers["content-type"] == "text/event-stream; charset=utf-8"


@pytest.mark.parametrize("status", ["200 OK", "429 Too Many Requests"])
def test_headers_that_come_twice_are_read(status: str) -> None:
    headers = ("Set-Cookie: a=1", "set-cookie: b=2", "Via: c")
    record = exchange(response(HELLO_WORLD, status, "text/event-stream", *headers))
    started = record.events[1]
    assert isinstance(started, ResponseStarted)
    assert started.headers["set-cookie"] == "b=2"
    assert started.headers["via"] == "c"


@pytest.mark.parametrize("content_type", ["application/json", "text/plain", "text/html", "application/octet-stream"])
def test_event_stream_is_read_under_any_content_type(content_type: str) -> None:
    assert exchange(response(HELLO_WORLD, "200 OK", content_type)).text == "Hello world"


def test_headers_of_64_kb_and_a_thousand_of_them_are_accepted() -> None:
    many = [f"X-Number-{number}: {number}" for number in range(900)]
    record = exchange(response(HELLO_WORLD, "200 OK", "text/event-stream", "X-Policy: " + "x" * 60_000, *many))
    assert record.text == "Hello world"


def test_reply_says_what_was_altered_in_it() -> None:
    record = exchange(response(HELLO_WORLD.replace(b"Hello ", b"Hell\xff")))
    assert record.text == "Hell\N{REPLACEMENT CHARACTER}world"
    assert record.replies[0].altered == ("utf8",)


WHOLE = b'{"choices": [{"index": 0, "message": {"content": "Hello world"}, "finish_reason": "stop"}]}'
EARLY_HINTS = b"HTTP/1.1 103 Early Hints\r\nLink: </a>\r\nX-Request-Id: early\r\n\r\n"


@pytest.mark.parametrize("separately", [True, False])
def test_informational_response_is_not_reported(separately: bool) -> None:
    async def script(server: ServerConnection) -> None:
        await server.send(EARLY_HINTS)
        if separately:
            await asyncio.sleep(0.02)
        await server.send(EARLY_HINTS + response(HELLO_WORLD))

    record = exchange(script)
    assert record.text == "Hello world"
    assert (record.replies[0].status_code, record.replies[0].request_id) == (200, None)
    assert record.event_names() == ["Sent", "ResponseStarted", "FirstToken"]


def test_error_in_the_event_callback_is_raised_unchanged() -> None:
    """It is called from the socket callback, where an error would close the connection and look like a lost one."""

    events: list[RequestEvent] = []

    def on_event(event: RequestEvent) -> None:
        events.append(event)
        if isinstance(event, ResponseStarted):
            raise ZeroDivisionError

    async def scenario() -> None:
        async with serve(always(response(HELLO_WORLD)), Record()) as port, HttpTransport() as transport:
            with pytest.raises(ZeroDivisionError):
                await transport(make_job(), Target(base_url=f"http://127.0.0.1:{port}"), on_event)

    asyncio.run(scenario())
    assert [type(event).__name__ for event in events] == ["Sent", "ResponseStarted"]


def test_request_has_path_query_headers_and_stream_options() -> None:
    record = exchange(
        response(HELLO_WORLD), target={"headers": (("anthropic-version", "2023-06-01"),), "query": (("a", "1"),)}
    )
    assert record.request_heads[0].startswith(b"POST /v1/chat/completions?a=1 HTTP/1.1\r\n")
    lines = record.request_heads[0].lower().split(b"\r\n")
    assert b"authorization: bearer not-a-key-of-anyone" in lines
    assert b"content-type: application/json" in lines
    assert b"accept: text/event-stream, application/json" in lines
    assert b"anthropic-version: 2023-06-01" in lines
    assert any(line.startswith(b"user-agent: processor") for line in lines)
    assert not any(line.startswith(b"cookie") for line in lines)
    assert record.request_bodies == [b'{"model":"m","stream":true,"stream_options":{"include_usage":true}}']


def test_key_is_sent_in_the_header_of_the_target() -> None:
    record = exchange(response(HELLO_WORLD), target={"auth_header": "api-key", "auth_scheme": ""})
    assert b"\r\napi-key: not-a-key-of-anyone\r\n" in record.request_heads[0]
    assert b"Authorization" not in record.request_heads[0]


def test_request_of_several_megabytes_is_sent() -> None:
    record = exchange(response(HELLO_WORLD), job=make_job(prompt="x" * 3_000_000))
    assert record.text == "Hello world"
    assert len(record.request_bodies[0]) > 3_000_000


def test_echo_reports_text_as_it_comes() -> None:
    async def script(server: ServerConnection) -> None:
        await server.send(STREAM_HEAD)
        for text in ("Hello ", "world"):
            await server.send(http_chunk(text_event(text)))
            await asyncio.sleep(0.02)
        await server.send(http_chunk(text_event(finish_reason="stop") + DONE) + LAST_CHUNK)

    record = exchange(script, echo=True)
    assert [event.text for event in record.events if isinstance(event, Delta)] == ["Hello ", "world"]


def test_unstreamed_job_gets_the_json_body() -> None:
    body = {"choices": [{"index": 0, "message": {"role": "assistant", "content": "hi"}, "finish_reason": "stop"}]}
    record = exchange(response(orjson.dumps(body), "200 OK", "application/json"), job=make_job(stream=False))
    assert record.replies[0].body == body
    assert record.request_bodies == [b'{"model":"m","stream":false}']
    assert record.event_names() == ["Sent", "ResponseStarted"]


def test_json_body_in_answer_to_a_streamed_request_is_understood() -> None:
    body = {"choices": [{"index": 0, "message": {"role": "assistant", "content": "hi"}}]}
    for content_type in ("application/json", "application/json; charset=utf-8", "application/problem+json"):
        assert exchange(response(orjson.dumps(body), "200 OK", content_type)).replies[0].body == body


def test_stream_in_answer_to_an_unstreamed_request_is_understood() -> None:
    assert exchange(response(HELLO_WORLD), job=make_job(stream=False)).text == "Hello world"


@pytest.mark.parametrize("content_type", ["text/plain", "application/octet-stream", ""])
def test_event_stream_with_wrong_content_type_is_understood(content_type: str) -> None:
    assert exchange(response(HELLO_WORLD, "200 OK", content_type)).text == "Hello world"


def test_job_with_unknown_api_path_is_rejected_without_a_request() -> None:
    record = exchange(response(HELLO_WORLD), job=replace(make_job(), path="/v1/no/such/path"))
    assert type(record.error) is BadRequest
    assert not record.request_heads


@pytest.mark.parametrize("line_end", [b"\n", b"\r\n", b"\r"])
def test_stream_in_writes_of_one_byte_is_understood_with_any_line_end(line_end: bytes) -> None:
    body = (text_event("zwölf €") + b": alive\n\n" + HELLO_WORLD).replace(b"\n", line_end)
    assert exchange(in_chunks(body, 1)).text == "zwölf €Hello world"


@pytest.mark.parametrize("size", [300 * 1024, 2 * 2**20])
def test_very_large_event_is_understood(size: int) -> None:
    assert exchange(response(text_event("x" * size) + HELLO_WORLD)).text == "x" * size + "Hello world"
    assert exchange(in_chunks(text_event("x" * size) + HELLO_WORLD, 10_000)).text == "x" * size + "Hello world"


def test_very_many_tiny_events_are_understood() -> None:
    assert exchange(response(text_event("x") * 20_000 + HELLO_WORLD)).text == "x" * 20_000 + "Hello world"


def test_empty_events_and_comments_are_ignored() -> None:
    noise = b"data:\n\n: OPENROUTER PROCESSING\n\n\n\nevent: ping\n\n"
    assert exchange(response(noise * 1000 + HELLO_WORLD)).text == "Hello world"


GZIP = "Content-Encoding: gzip"
BODIES: dict[str, tuple[bytes, list[str]]] = {
    "compressed": (gzip.compress(HELLO_WORLD), [GZIP]),
    "deflated": (zlib.compress(HELLO_WORLD), ["Content-Encoding: deflate"]),
    "only announced": (HELLO_WORLD, [GZIP]),
    "not announced": (gzip.compress(HELLO_WORLD), []),
    "whole JSON": (gzip.compress(WHOLE), [GZIP]),
}


@pytest.mark.parametrize("name", BODIES)
def test_compressed_reply_is_read_whatever_is_announced(name: str) -> None:
    body, headers = BODIES[name]
    record = exchange(response(body, "200 OK", "text/event-stream", *headers), times=2)
    assert record.texts == ["Hello world"] * 2
    assert record.connections == 1
    assert ("FirstToken" in record.event_names()) == (name != "whole JSON")


def test_compressed_error_is_read() -> None:
    body = gzip.compress(b'{"error": {"message": "no such parameter"}}')
    assert "no such parameter" in str(exchange(response(body, "400 Bad", "application/json", GZIP)).error)


def test_compressed_reply_that_is_cut_off_is_not_kept() -> None:
    assert type(exchange(response(gzip.compress(HELLO_WORLD)[:60], "200 OK", "text/event-stream", GZIP)).error) is (
        StreamTruncated
    )


def test_missing_decoder_is_named() -> None:
    record = exchange(response(b"\x0b\x02\x80abcde\x03", "200 OK", "text/event-stream", "Content-Encoding: x-unknown"))
    assert type(record.error) is ProtocolError
    assert "compressed with 'x-unknown'" in str(record.error)


@pytest.mark.parametrize("names", [("Content-Length", "Transfer-Encoding"), ("content-length", "transfer-encoding")])
def test_chunks_count_where_a_length_is_announced_beside_them(names: tuple[str, str]) -> None:
    head = f"HTTP/1.1 200 OK\r\n{names[0]}: 5\r\nX-A: b\r\n{names[1]}: chunked\r\n\r\n".encode()
    record = exchange(head + http_chunk(HELLO_WORLD) + LAST_CHUNK, times=2)
    assert record.texts == ["Hello world"] * 2
    assert record.connections == 2, "such a connection is not used again"


def test_stream_without_length_ends_with_the_connection() -> None:
    async def script(server: ServerConnection) -> None:
        await server.send(b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n\r\n" + text_event("a", "stop"))
        server.close()

    assert exchange(script).text == "a"


def test_last_event_may_lack_its_blank_line() -> None:
    assert exchange(response(text_event("a") + b"data: [DONE]\n")).text == "a"


@pytest.mark.parametrize(
    "answer",
    [
        response(HELLO_WORLD),
        response(HELLO_WORLD[:50]),
        response(b'{"error": {"message": "slow"}}', "429 Slow", "application/json"),
    ],
    ids=["whole", "cut", "throttled"],
)
def test_request_leaves_no_reference_cycles(
    answer: bytes, count_garbage: Callable[[Callable[[], object]], int]
) -> None:
    """Collecting a cycle for each reply took a twentieth of the CPU time."""
    few, many = (count_garbage(partial(exchange, answer, times=times)) for times in (10, 60))
    assert many <= few + 20


@pytest.mark.parametrize(
    ("name", "size_of"),
    [
        ("many tool calls in one chunk", lambda choice: len(choice["message"]["tool_calls"])),
        ("all text in one chunk", lambda choice: len(choice["message"]["content"])),
        ("whole: log probabilities", lambda choice: len(choice["logprobs"]["content"])),
    ],
)
def test_large_reply_is_read_in_a_thread(name: str, size_of: Callable[[Any], int]) -> None:
    small, large = (
        exchange(response(SHAPES[name](size), "200 OK", "text/event-stream")).replies[0] for size in (12_000, 1_200_000)
    )
    assert not small.is_large
    assert large.is_large
    assert 90 < size_of(large.body["choices"][0]) / size_of(small.body["choices"][0]) < 110


@pytest.mark.parametrize("name", ["many tool calls in one chunk", "chunks of two kinds in turn", "words, compressed"])
def test_large_reply_is_read_whole_where_the_server_closes_behind_it(name: str) -> None:
    headers = [GZIP] if "compressed" in name else []

    async def script(server: ServerConnection) -> None:
        await server.send(response(SHAPES[name](2_000_000), "200 OK", "text/event-stream", *headers))
        server.close()

    record = exchange(script)
    assert record.replies
    assert record.replies[0].is_large


@pytest.mark.parametrize("name", ["many tool calls in one chunk", "words, compressed"])
def test_large_reply_that_breaks_off_is_not_kept(name: str) -> None:
    headers = [GZIP] if "compressed" in name else []

    async def script(server: ServerConnection) -> None:
        whole = response(SHAPES[name](2_000_000), "200 OK", "text/event-stream", *headers)
        await server.send(whole[:-300])
        server.reset()

    assert type(exchange(script).error) is StreamTruncated
