"""Replies that are damaged or cut at random, and what must be true of what is read of them."""

from __future__ import annotations

import gzip
import json
import random
import zlib

from processor.core.errors import RequestError
from processor.core.models import JSON
from processor.http.parser_choice import error_parser
from processor.protocols import error_from_response
from tests.support.reply_reading import ReplyReader
from tests.support.transcripts import TRANSCRIPTS, Transcript

_WORDS = (
    *(b"data: ", b"data:", b"\n\n", b"\n", b"\r\n", b"[DONE]", b"event: error\n", b"error: ", b": ", b"\xef\xbb\xbf"),
    *(
        b"null",
        b"NaN",
        b"-Infinity",
        b"{}",
        b"[]",
        b"[[[[",
        b"{",
        b"}",
        b'"',
        b",",
        b"\\",
        b"\\ud83d",
        b"\xff",
        b"1e999",
    ),
    *(b'"choices":', b'"delta":', b'"index":', b'"error":', b'"finish_reason":"stop"', b'"tool_calls":[{}]'),
    *(b'"message":', b'"usage":{}', b"9" * 25, b"-1", b"0.5", b"true", b"[" * 300, b"<html>", b"\x1f\x8b", b"\0"),
)
_HEADERS: dict[str, tuple[str, ...]] = {
    "content-type": ("text/event-stream", "application/json", "text/html", "", ";", "a" * 5000),
    "content-encoding": ("gzip", "deflate", "br", "zstd", "identity", "x-gzip", "gzip, deflate", ",", "?", "gzip" * 9),
    "retry-after": ("1", "-1", "nan", "inf", "1e400", "Thu, 01 Jan 1970 00:00:00 GMT", "soon", "9" * 40, ""),
    "x-ratelimit-reset-requests": ("1s", "6m0s", "x", "9" * 30, "1738108800000", "-5", ""),
    "x-should-retry": ("true", "false", "", "?"),
    "date": ("Thu, 01 Jan 1970 00:00:00 GMT", "yesterday"),
}
_GOOD = [transcript for transcript in TRANSCRIPTS.values() if transcript.error is None]
_ALL = list(TRANSCRIPTS.values())


def mutated(rng: random.Random, body: bytes) -> bytes:
    """The body with some of it replaced, doubled, moved or removed."""
    data = bytearray(body)
    for _ in range(rng.choice((1, 1, 2, 3, 8))):
        start = rng.randrange(len(data) + 1)
        end = min(len(data), start + rng.choice((0, 1, 1, 4, 30, 300)))
        kind = rng.randrange(6)
        if kind == 0:
            data[start:end] = rng.choice(_WORDS)
        elif kind == 1:
            data[start:start] = data[start:end]
        elif kind == 2:
            del data[start:end]
        elif kind == 3 and start < len(data):
            data[start] = rng.randrange(256)
        elif kind == 4:
            other = rng.choice(_ALL).body
            data[start:end] = other[rng.randrange(len(other) + 1) :][:200]
        else:
            piece = data[start:end]
            del data[start:end]
            data[rng.randrange(len(data) + 1) :][:0] = piece
    return bytes(data)


def mutated_headers(rng: random.Random) -> dict[str, str]:
    headers = {name: rng.choice(values) for name, values in _HEADERS.items() if rng.random() < 0.3}
    return {
        name: value[: rng.randrange(len(value) + 1)] if rng.random() < 0.1 else value for name, value in headers.items()
    }


def coded(rng: random.Random, body: bytes) -> bytes:
    """The body, sometimes compressed."""
    return rng.choice((lambda data: data, lambda data: gzip.compress(data, 1), zlib.compress))(body)


def read_mutated(rng: random.Random) -> bool:
    """Read a damaged reply under any headers. Returns whether something was read. Raises what must never be raised."""
    transcript = rng.choice(_ALL)
    body = mutated(rng, transcript.body)
    if rng.random() < 0.2:
        body = coded(rng, body)
        body = mutated(rng, body) if rng.random() < 0.5 else body
    headers = mutated_headers(rng)
    try:
        if rng.random() < 0.1:
            status = rng.choice((301, 400, 404, 422, 429, 500, 503, 599))
            parser = error_parser(headers, lambda data: error_from_response(status, headers, data, now_wall=0.0))
            parser.feed(body)
            parser.close()
            parser.result()
        reader = ReplyReader(headers, transcript.request)
        reply = reader.read(body, rng.choice((None, 1, 7, 64)), broke_off=rng.random() < 0.5)
    except RequestError:
        return False
    json.dumps(reply)
    return reply is not None


def read_cut(rng: random.Random) -> bool:
    """Read a reply that is cut off, by a lost connection or a clean end. Returns whether it is kept.

    Raises AssertionError where less than all of it is kept.
    """
    transcript = rng.choice(_GOOD)
    is_coded = rng.random() < 0.2
    body = gzip.compress(transcript.body, 1) if is_coded else transcript.body
    headers = {"content-encoding": "gzip"} if is_coded else {"content-type": "text/event-stream"}
    try:
        reply = ReplyReader(headers, transcript.request).read(
            body[: rng.randrange(len(body))], rng.choice((None, 3, 50)), broke_off=rng.random() < 0.5
        )
    except RequestError:
        return False
    if reply is None:
        return False
    assert_is_whole(reply, transcript)
    return True


def assert_is_whole(reply: JSON, transcript: Transcript) -> None:
    choice = reply["choices"][0]
    functions = [call["function"] for call in choice["message"].get("tool_calls") or ()]
    assert choice["message"].get("content") == transcript.text, transcript
    assert choice["finish_reason"] == transcript.reason, transcript
    assert tuple((function["name"], function.get("arguments", "")) for function in functions) == transcript.calls
