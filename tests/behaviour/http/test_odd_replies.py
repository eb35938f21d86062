"""Replies that are framed, split or filled in unusual ways: what is whole and good is read, anything else is not."""

from __future__ import annotations

import gzip
from typing import Any

import orjson
import pytest

from processor.core.errors import ProtocolError, RequestError, ServerError, StreamTruncated
from tests.support.http_exchange import (
    DONE,
    HELLO_WORLD,
    LAST_CHUNK,
    Record,
    ServerConnection,
    event,
    exchange,
    http_chunk,
    text_event,
)

HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nConnection: close\r\n"
CHUNKED = HEAD + b"Transfer-Encoding: chunked\r\n\r\n"
UNFINISHED = text_event("Hello ") + text_event("world")
END = text_event(finish_reason="stop") + DONE
USAGE = {"prompt_tokens": 3, "completion_tokens": 2, "total_tokens": 5}


def sized(body: bytes, *, length: object = None, headers: bytes = b"", status: bytes = b"200 OK") -> bytes:
    announced = b"Content-Length: %b\r\n" % str(len(body) if length is None else length).encode()
    return HEAD.replace(b"200 OK", status) + announced + headers + b"\r\n" + body


def chunks(body: bytes, size: int, end: bytes = LAST_CHUNK) -> bytes:
    return CHUNKED + b"".join(http_chunk(body[at : at + size]) for at in range(0, len(body), size)) + end


def answered(raw: bytes) -> Record:
    """One exchange with a server that sends these bytes and closes the connection."""

    async def script(server: ServerConnection) -> None:
        await server.send(raw)
        server.close()

    return exchange(script)


def choice(fields: dict[str, Any], **more: Any) -> bytes:
    return event({"choices": [fields], **more})


def said(text: str, **fields: Any) -> bytes:
    return choice({"index": 0, "delta": {"content": text}, **fields})


WHOLE = orjson.dumps(
    {"choices": [{"index": 0, "message": {"role": "assistant", "content": "Hello world"}, "finish_reason": "stop"}]}
)

READ = {
    "chunks of one byte": chunks(HELLO_WORLD, 1),
    "trailers": chunks(HELLO_WORLD, 50, b"0\r\nX-Check: 1\r\n\r\n"),
    "no last chunk, after the end marker": chunks(HELLO_WORLD, 50, b""),
    "no last chunk, after the finish reason": chunks(HELLO_WORLD.removesuffix(DONE), 50, b""),
    "byte order mark": sized(b"\xef\xbb\xbf" + HELLO_WORLD),
    "CR LF": sized(HELLO_WORLD.replace(b"\n", b"\r\n")),
    "CR": sized(HELLO_WORLD.replace(b"\n", b"\r")),
    "no space behind the colon": sized(HELLO_WORLD.replace(b"data: ", b"data:")),
    "spaces around the end marker": sized(HELLO_WORLD.replace(b" [DONE]", b"   [DONE]  ")),
    "event names, ids and retry": sized(HELLO_WORLD.replace(b"data: {", b"event: message\nid: 7\nretry: 9\ndata: {")),
    "several data lines": sized(HELLO_WORLD.replace(b'"choices"', b'\ndata: "choices"')),
    "two end markers": sized(HELLO_WORLD + DONE),
    "an error behind the end marker": sized(HELLO_WORLD + event({"error": {"message": "late", "code": 500}})),
    "informational responses": b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\n\r\n" + sized(HELLO_WORLD),
    "no reason phrase": sized(HELLO_WORLD, status=b"200 "),
    "partial content": sized(HELLO_WORLD, status=b"206 Partial Content"),
    "HTTP/1.0": b"HTTP/1.0 200 OK\r\n\r\n" + HELLO_WORLD,
    "length too short by the line ends": sized(HELLO_WORLD, length=len(HELLO_WORLD) - 2),
    "length too long": sized(HELLO_WORLD, length=len(HELLO_WORLD) + 50),
    "gzip with garbage behind": sized(gzip.compress(HELLO_WORLD) + b"garbage!", headers=b"Content-Encoding: gzip\r\n"),
    "plain, announced as Brotli": sized(HELLO_WORLD, headers=b"Content-Encoding: br\r\n"),
    "plain, announced as nonsense": sized(HELLO_WORLD, headers=b"Content-Encoding: utf-8\r\n"),
    "whole, and an end marker": sized(WHOLE + b"\n\n" + DONE),
    "whole, as an event": sized(event(WHOLE) + DONE),
    "usage before the content": sized(choice({}, usage=USAGE) + HELLO_WORLD),
    "no choices before the content": sized(event({"choices": [], "prompt_filter_results": []}) + HELLO_WORLD),
    "choices that are null": sized(event({"choices": None}) + HELLO_WORLD),
    "content that is null": sized(choice({"index": 0, "delta": {"content": None}}) + HELLO_WORLD),
    "a delta that is null": sized(choice({"index": 0, "delta": None}) + HELLO_WORLD),
    "content as parts": sized(said([{"type": "text", "text": "Hello "}]) + said(["world"]) + END),  # type: ignore[arg-type]
    "index as text": sized(said("Hello world", index="0") + END),
    "index as a float": sized(said("Hello world", index=0.0) + END),
    "text in place of a delta": sized(
        b"".join(choice({"index": 0, "text": text}) for text in ("Hello ", "wor", "ld")) + END
    ),
    "calls and pieces that are null": sized(
        choice({"index": 0, "delta": {"content": "Hello world", "tool_calls": [None], "function_call": None}}) + END
    ),
}


@pytest.mark.parametrize("name", READ)
def test_good_reply_is_read(name: str) -> None:
    assert answered(READ[name]).text == "Hello world"


NOT_KEPT: dict[str, tuple[bytes, type[RequestError]]] = {
    "no last chunk, before the end": (chunks(UNFINISHED, 50, b""), StreamTruncated),
    "HTTP/1.0, cut off": (b"HTTP/1.0 200 OK\r\n\r\n" + UNFINISHED, StreamTruncated),
    "length too short": (sized(HELLO_WORLD, length=60), StreamTruncated),
    "whole, length too long": (sized(WHOLE, length=len(WHOLE) + 9), StreamTruncated),
    "whole, length too short": (sized(WHOLE, length=len(WHOLE) - 9), ProtocolError),
    "gzip that is cut off": (
        sized(gzip.compress(WHOLE)[:-9], headers=b"Content-Encoding: gzip\r\n"),
        StreamTruncated,
    ),
    "gzip with another check sum": (
        sized(gzip.compress(WHOLE)[:-8] + bytes(8), headers=b"Content-Encoding: gzip\r\n"),
        ProtocolError,
    ),
    "an error before the end marker": (
        sized(UNFINISHED + event({"error": {"message": "no", "code": 500}}) + END),
        ServerError,
    ),
    "a failure before success": (sized(UNFINISHED + text_event(finish_reason="error") + END), ServerError),
    "only a role": (sized(choice({"index": 0, "delta": {"role": "assistant"}}) + DONE), ProtocolError),
    "only usage": (sized(event({"choices": [], "usage": USAGE}) + DONE), ProtocolError),
    "a choice too many, unfinished": (
        sized(UNFINISHED + choice({"index": 1, "delta": {"content": "x"}}) + text_event(finish_reason="stop")),
        StreamTruncated,
    ),
    "a negative index": (sized(said("Hi", index=-1) + END), ProtocolError),
    "nothing": (sized(b""), ProtocolError),
    "no content": (sized(b"", status=b"204 No Content"), ProtocolError),
    "accepted for later": (sized(b'{"id":"job-1","status":"queued"}', status=b"202 Accepted"), ProtocolError),
    "whole twice": (sized(WHOLE * 2), ProtocolError),
    "a string": (sized(b'"Hello world"'), StreamTruncated),
    "HTTP/0.9": (HELLO_WORLD, ProtocolError),
}


@pytest.mark.parametrize("name", NOT_KEPT)
def test_other_reply_is_not_kept(name: str) -> None:
    raw, error = NOT_KEPT[name]
    record = answered(raw)
    assert record.replies == []
    assert isinstance(record.error, error)


@pytest.mark.parametrize(
    ("usages", "kept"),
    [
        ([USAGE, {}], USAGE),
        ([USAGE, None], USAGE),
        ([{**USAGE, "completion_tokens": 1}, USAGE], USAGE),
    ],
)
def test_last_usage_that_says_something_counts(usages: list[Any], kept: Any) -> None:
    events = b"".join(event({"choices": [], "usage": usage}) for usage in usages)
    body = answered(sized(HELLO_WORLD.removesuffix(DONE) + events + DONE)).replies[0].body
    assert body["usage"] == kept
