"""Responses that are no reply: error statuses, redirects, web pages and nonsense."""

from __future__ import annotations

import gzip
import traceback
import tracemalloc

import orjson
import pytest

from processor.core.errors import (
    AccessDenied,
    BadRequest,
    OptionRefused,
    ProtocolError,
    Redirected,
    ReplyTooLarge,
    RequestError,
    ServerError,
    StatusError,
    StreamTruncated,
    Throttled,
)
from processor.scheduler.masking import mask_error
from tests.support.http_exchange import (
    DONE,
    HELLO_WORLD,
    KEY,
    ServerConnection,
    ServerScript,
    close_between_chunks,
    event,
    exchange,
    in_chunks,
    make_job,
    malformed_chunk,
    reset_before_response,
    response,
    text_event,
)


@pytest.mark.parametrize(
    ("status", "cls"),
    [
        ("400 Bad", BadRequest),
        ("401 No", AccessDenied),
        ("429 Slow", Throttled),
        ("500 Oh", ServerError),
        ("529 Busy", ServerError),
    ],
)
def test_error_status_becomes_its_error_type(status: str, cls: type[StatusError]) -> None:
    body = orjson.dumps({"error": {"message": "because", "code": "some_code"}})
    record = exchange(response(body, status, "application/json", "Retry-After-Ms: 1500", "X-Request-Id: req_7"))
    assert type(record.error) is cls
    assert str(record.error) == "because"
    assert record.error.status == int(status[:3])
    assert record.error.error_code == "some_code"
    assert record.error.retry_after_s == 1.5
    assert record.error.request_id == "req_7"
    assert record.error.body == {"error": {"message": "because", "code": "some_code"}}
    assert record.event_names() == ["Sent", "ResponseStarted"]


def test_retry_after_date_is_relative_to_the_servers_clock() -> None:
    date = "Thu, 01 Jan 1970 00:01:30 GMT"
    record = exchange(response(b"", "503 Busy", "", f"Retry-After: {date}", "Date: Thu, 01 Jan 1970 00:01:00 GMT"))
    assert isinstance(record.error, ServerError)
    assert record.error.retry_after_s == 30
    record = exchange(response(b"", "503 Busy", "", f"Retry-After: {date}"))
    assert isinstance(record.error, ServerError)
    assert record.error.retry_after_s == 90


def test_error_response_without_an_end_is_read_up_to_a_limit() -> None:
    async def endless(server: ServerConnection) -> None:
        await server.send(b"HTTP/1.1 500 Oh\r\nContent-Type: text/plain\r\n\r\n")
        while True:
            await server.send(b"x" * 65_536)

    record = exchange(endless)
    assert isinstance(record.error, ServerError)
    assert len(str(record.error)) < 600

    async def cut(server: ServerConnection) -> None:
        await server.send(b"HTTP/1.1 429 Slow\r\nContent-Length: 900\r\n\r\nslow down")
        server.close()

    assert str(exchange(cut).error) == "HTTP 429 Too Many Requests: slow down"


def test_redirect_is_not_followed() -> None:
    record = exchange(response(b"", "307 Moved", "", "Location: https://elsewhere.example/v1?key=1"))
    assert isinstance(record.error, Redirected)
    assert (
        str(record.error)
        == "HTTP 307: redirected to https://elsewhere.example/v1; set --base-url to the address of the API itself"
    )
    assert len(record.request_heads) == 1


def test_html_page_is_a_protocol_error() -> None:
    record = exchange(response(b"<html><title>Log in</title></html>", "200 OK", "text/html; charset=utf-8"))
    assert type(record.error) is ProtocolError
    assert "text/html" in str(record.error)
    assert "Log in" in str(record.error)


@pytest.mark.parametrize(
    "answer",
    [
        b"HTTP/1.1 204 No Content\r\n\r\n",
        response(b""),
        response(b"", "200 OK", "application/json"),
        response(b"just some text\n", "200 OK", "text/plain"),
        response(b'{"some": "json"}', "200 OK", "application/json"),
        response(b"not json", "200 OK", "application/json"),
        response(event({"choices": "x"})),
        response(event(b"{not json")),
        response(text_event("a") + event(b"\xff\xfe") + HELLO_WORLD),
        response(DONE),
        response(event(b"[1]")),
    ],
)
def test_senseless_body_is_a_protocol_error(answer: bytes) -> None:
    assert type(exchange(answer).error) is ProtocolError


@pytest.mark.parametrize(
    "answer",
    [
        b"HTTP/1.1 200 OK\r\nX-Long: " + b"x" * 100_000 + b"\r\n\r\n",
        b"HTTP/1.1 200 OK\r\n" + b"X-Many: x\r\n" * 10_000 + b"\r\n",
        b"SSH-2.0-OpenSSH_9.6\r\n",
        b"HTTP/1.1 abc\r\n\r\n",
        b"\x15\x03\x01\x00\x02\x02\x0a",
        b"HTTP/1.1 200 OK\r\nContent-Length: -5\r\n\r\n",
    ],
)
def test_invalid_http_is_a_protocol_error(answer: bytes) -> None:
    error = exchange(answer).error
    assert type(error) is ProtocolError
    assert len(str(error)) < 700


def test_invalid_compressed_body_is_an_error() -> None:
    error = exchange(response(b"not gzip at all", "200 OK", "text/event-stream", "Content-Encoding: gzip")).error
    assert isinstance(error, StreamTruncated | ProtocolError)


@pytest.mark.parametrize("content_type", ["text/event-stream", "application/json"])
def test_reply_above_the_size_limit_is_stopped(content_type: str) -> None:
    async def endless(server: ServerConnection) -> None:
        await server.send(b"HTTP/1.1 200 OK\r\nContent-Type: %b\r\n\r\n" % content_type.encode())
        while True:
            await server.send(text_event("x" * 1000) * 10)

    record = exchange(endless, max_reply_bytes=1_000_000)
    assert type(record.error) is ReplyTooLarge


def test_compressed_bomb_is_stopped_before_it_is_decompressed() -> None:
    compressed = gzip.compress(bytes(50 * 2**20), 9)
    tracemalloc.start()
    record = exchange(
        response(compressed, "200 OK", "text/event-stream", "Content-Encoding: gzip"), max_reply_bytes=2**20
    )
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert type(record.error) is ReplyTooLarge
    assert peak < 20 * 2**20


def test_error_event_in_the_stream_is_raised_with_the_request_id() -> None:
    body = text_event("a") + event({"error": {"message": "boom", "code": 502}})
    record = exchange(response(body, "200 OK", "text/event-stream", "X-Request-Id: req_9"))
    assert isinstance(record.error, ServerError)
    assert record.error.status == 502
    assert record.error.request_id == "req_9"


def test_refused_stream_options_are_omitted_from_later_requests() -> None:
    async def script(server: ServerConnection) -> None:
        if b"stream_options" in server.body:
            await server.send(response(b'{"error": "unknown field: stream_options"}', "400 Bad", "application/json"))
        else:
            await server.send(response(HELLO_WORLD))

    record = exchange(script, times=3)
    assert [type(error) for error in record.errors] == [OptionRefused]
    assert record.texts == ["Hello world"] * 2
    assert [b"stream_options" in body for body in record.request_bodies] == [True, False, False]


def test_refused_stream_options_of_the_job_itself_are_a_bad_request() -> None:
    answer = response(b'{"error": "unknown field: stream_options"}', "400 Bad", "application/json")
    record = exchange(answer, job=make_job(stream_options={"x": 1}))
    assert type(record.error) is BadRequest


async def repeat_the_key(server: ServerConnection) -> None:
    body = orjson.dumps({"error": {"message": f"Incorrect API key provided: {KEY}", "param": KEY}})
    await server.send(response(body, "401 No", "application/json"))


async def repeat_the_key_in_the_stream(server: ServerConnection) -> None:
    await server.send(response(event({"error": {"message": f"bad key {KEY}"}})))


async def redirect_with_the_key(server: ServerConnection) -> None:
    await server.send(response(b"", "302 Found", "", f"Location: https://x.example/{KEY}"))


@pytest.mark.parametrize(
    "script",
    [
        repeat_the_key,
        repeat_the_key_in_the_stream,
        redirect_with_the_key,
        reset_before_response,
        close_between_chunks,
        malformed_chunk,
        in_chunks(b"data: not-a-key-of-anyone\n\n", 100),
        lambda server: server.send(b"HTTP/1.1 not-a-key-of-anyone\r\n\r\n"),
    ],
)
def test_no_error_that_the_scheduler_masks_contains_the_key(script: ServerScript) -> None:
    error: BaseException | None = exchange(script).error
    assert isinstance(error, RequestError)
    mask_error(error)
    while error is not None:
        assert KEY not in str(error)
        assert KEY not in repr(error)
        assert KEY not in repr(vars(error))
        assert KEY not in "".join(traceback.format_exception(error))
        error = error.__context__
