"""Bodies of replies as servers of many kinds send them, and what is to be read of each."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import Any

import orjson

from processor.core.errors import BadRequest, ProtocolError, RequestError, ServerError, StreamTruncated, Throttled

DONE = b"data: [DONE]\n\n"


@dataclass(frozen=True, slots=True, kw_only=True)
class Transcript:
    """A body, and what is read of its first choice; or the error that it is."""

    body: bytes
    text: str | None = "Hello world"
    reason: str | None = "stop"
    calls: tuple[tuple[str, str], ...] = ()
    """Name and arguments."""
    altered: set[str] = field(default_factory=set)
    error: type[RequestError] | None = None
    request: dict[str, Any] = field(default_factory=dict)


def data(value: Any) -> bytes:
    return b"data: " + (value if isinstance(value, bytes) else orjson.dumps(value)) + b"\n\n"


def chunk(delta: Any = None, reason: Any = None, index: Any = 0, **top: Any) -> bytes:
    choice = {"index": index, "delta": {} if delta is None else delta, "finish_reason": reason}
    return data({"id": "c", "object": "chat.completion.chunk", "created": 1, "model": "m", "choices": [choice], **top})


def text(content: Any, **more: Any) -> bytes:
    return chunk({"content": content}, **more)


def calls(*pieces: Any) -> bytes:
    return b"".join(chunk({"tool_calls": [piece]}) for piece in pieces) + chunk(reason="tool_calls") + DONE


def piece(name: str | None = None, arguments: str | None = None, **fields: Any) -> dict[str, Any]:
    function = {key: value for key, value in (("name", name), ("arguments", arguments)) if value is not None}
    return {**fields, "function": function}


ROLE, HELLO, WORLD, STOP = (
    chunk({"role": "assistant", "content": ""}),
    text("Hello"),
    text(" world"),
    chunk(reason="stop"),
)
BODY = HELLO + WORLD
USAGE = data(
    {
        "id": "c",
        "object": "chat.completion.chunk",
        "created": 1,
        "model": "m",
        "choices": [],
        "usage": {"total_tokens": 7},
    }
)
OK = ROLE + BODY + STOP + USAGE + DONE
WHOLE = {
    "id": "c",
    "object": "chat.completion",
    "created": 1,
    "model": "m",
    "choices": [{"index": 0, "message": {"role": "assistant", "content": "Hello world"}, "finish_reason": "stop"}],
}
WEATHER, TIME = ("get_weather", '{"city":"Rome"}'), ("get_time", '{"tz":"UTC"}')
BOTH = (WEATHER, TIME)


def good(body: bytes, **expected: Any) -> Transcript:
    return Transcript(body=body, **expected)


def bad(body: bytes, error: type[RequestError]) -> Transcript:
    return Transcript(body=body, error=error)


def called(*pieces: Any, expected: tuple[tuple[str, str], ...] = (WEATHER,)) -> Transcript:
    return Transcript(body=calls(*pieces), text=None, reason="tool_calls", calls=expected)


FRAMING = {
    "plain": good(OK),
    "no usage": good(ROLE + BODY + STOP + DONE),
    "no end marker": good(ROLE + BODY + STOP),
    "CRLF": good(OK.replace(b"\n", b"\r\n")),
    "CR": good(OK.replace(b"\n", b"\r")),
    "no space behind the colon": good(OK.replace(b"data: ", b"data:")),
    "comments": good(b": connected\n\n" + OK.replace(b"data: {", b": alive\n\ndata: {")),
    "event names": good(OK.replace(b"data: {", b"event: message\ndata: {")),
    "ids and retry": good(OK.replace(b"data: {", b"id: 7\nretry: 100\ndata: {")),
    "ping events": good(b'event: ping\ndata: {"type": "ping"}\n\n' + OK),
    "byte order mark": good(b"\xef\xbb\xbf" + OK),
    "many blank lines": good(OK.replace(b"\n\n", b"\n\n\n\n")),
    "leading blank lines": good(b"\n\n\n" + OK),
    "no last line end": good((BODY + STOP).rstrip()),
    "no last blank line": good((BODY + STOP + DONE).rstrip() + b"\n"),
    "end marker without a line end": good((BODY + STOP + DONE).rstrip()),
    "end marker without a space": good(BODY + STOP + b"data:[DONE]\n\n"),
    "single line ends": good(OK.replace(b"\n\n", b"\n")),
    "an event in two data lines": good(OK.replace(b'"choices":', b'\ndata: "choices":')),
    "spaces around values": good(OK.replace(b"\n\n", b"  \n\n")),
    "bytes behind the end marker": good(OK + b"data: {not json\n\n"),
    "whole JSON": good(orjson.dumps(WHOLE)),
    "whole JSON with line ends": good(json.dumps(WHOLE, indent=2).encode() + b"\n"),
    "whole JSON and the end marker": good(orjson.dumps(WHOLE) + b"\n\n" + DONE),
    "whole JSON as an event": good(data(WHOLE) + DONE),
}
IDLE = {
    f"keep-alive {name}": good(first + OK)
    for name, first in {
        "null": b"data: null\n\n",
        "words": b"data: keep-alive\n\n",
        "brackets": b"data: [HEARTBEAT]\n\n",
        "ping": b"data: ping\n\n",
        "empty data": b"data:\n\ndata: \n\n",
        "empty object": b"data: {}\n\n",
        "object": b'data: {"type": "heartbeat"}\n\n',
        "no choices": b'data: {"id": "c", "choices": []}\n\n',
        "null choices": b'data: {"id": "c", "choices": null, "model": "m"}\n\n',
    }.items()
}
FIELDS = {
    "null index": good(text("Hello world", index=None) + STOP + DONE),
    "no index": good(data({"choices": [{"delta": {"content": "Hello world"}, "finish_reason": "stop"}]}) + DONE),
    "null delta": good(BODY + data({"choices": [{"index": 0, "delta": None, "finish_reason": "stop"}]}) + DONE),
    "no delta at the end": good(BODY + data({"choices": [{"index": 0, "finish_reason": "stop"}]}) + DONE),
    "null content": good(text(None) + BODY + text(None, reason="stop") + DONE),
    "null role": good(chunk({"role": None, "content": "Hello"}) + WORLD + STOP + DONE),
    "role in each chunk": good(
        chunk({"role": "assistant", "content": "Hello"}) + chunk({"role": "assistant", "content": " world"}) + STOP
    ),
    "reason beside the last text": good(HELLO + text(" world", reason="stop") + DONE),
    "reason twice": good(BODY + STOP + STOP + DONE),
    "reason false": good(text("Hello", reason=False) + text(" world", reason=False) + STOP + DONE),
    "reason of length": good(BODY + chunk(reason="length") + DONE, reason="length"),
    "reason of a filter": good(BODY + chunk(reason="content_filter") + DONE, reason="content_filter"),
    "empty text": good(ROLE + STOP + DONE, text=""),
    "usage in each chunk": good(text("Hello", usage={"total_tokens": 1}) + text(" world", usage=None) + STOP + DONE),
    "new id in each chunk": good(text("Hello", id="1") + text(" world", id="2") + STOP + DONE),
    "vendor fields": good(text("Hello", provider={"name": "x"}, system_fingerprint="f") + WORLD + STOP + DONE),
    "reasoning first": good(chunk({"reasoning_content": "Hm", "content": None}) + BODY + STOP + DONE),
    "untyped parts": good(text([{"text": "Hello"}]) + text([{"text": " world"}]) + STOP + DONE),
    "typed parts": good(text([{"type": "text", "text": "Hello"}]) + WORLD + STOP + DONE),
    "a single part": good(text({"type": "text", "text": "Hello"}) + WORLD + STOP + DONE),
    "strings as parts": good(text(["Hello", " world"]) + STOP + DONE),
    "message beside delta": good(
        data({"choices": [{"index": 0, "delta": {"content": "Hello world"}, "message": {"content": ""}}]}) + STOP
    ),
    "message in place of delta": good(
        data({"choices": [{"index": 0, "message": {"content": "Hello world"}, "finish_reason": "stop"}]}) + DONE
    ),
    "two choices": good(
        BODY + chunk({"content": "x"}, index=1) + STOP + chunk(reason="stop", index=1), request={"n": 2}
    ),
    "choices in reverse": good(
        chunk({"content": "x"}, index=1) + BODY + chunk(reason="stop", index=1) + STOP, request={"n": 2}
    ),
}
LENIENT = {
    "NaN": good(HELLO.replace(b'"created":1', b'"created":NaN') + WORLD + STOP + DONE, altered={"nan"}),
    "infinity": good(HELLO.replace(b'"created":1', b'"created":-Infinity') + WORLD + STOP + DONE, altered={"nan"}),
    "halves in two chunks": good(
        text("Hi X").replace(b"X", b"\\ud83d") + text("X!").replace(b"X", b"\\ude00") + STOP + DONE, text="Hi 😀!"
    ),
    "a half alone": good(text("Hi X!").replace(b"X", b"\\ud83d") + STOP + DONE, text="Hi �!", altered={"surrogate"}),
    "invalid UTF-8": good(text("Hi X!").replace(b"X", b"\xff") + STOP + DONE, text="Hi �!", altered={"utf8"}),
    "escapes": good(text('a\n"\\\t ') + STOP + DONE, text='a\n"\\\t '),
    "emoji": good(text("😀") + STOP + DONE, text="😀"),
    "large integer": good(HELLO.replace(b'"created":1', b'"created":' + b"9" * 25) + WORLD + STOP + DONE),
}
TOOLS = {
    "one call": called(piece(*WEATHER, index=0, id="a", type="function")),
    "a call in pieces": called(
        piece("get_weather", "", index=0, id="a"), piece(None, '{"city"', index=0), piece(None, ':"Rome"}', index=0)
    ),
    "two calls": called(piece(*WEATHER, index=0, id="a"), piece(*TIME, index=1, id="b"), expected=BOTH),
    "two calls in one chunk": Transcript(
        body=chunk({"tool_calls": [piece(*WEATHER, index=0, id="a"), piece(*TIME, index=1, id="b")]})
        + chunk(reason="tool_calls")
        + DONE,
        text=None,
        reason="tool_calls",
        calls=BOTH,
    ),
    "two calls, all index 0": called(piece(*WEATHER, index=0, id="a"), piece(*TIME, index=0, id="b"), expected=BOTH),
    "two calls, no index": called(piece(*WEATHER, id="a"), piece(*TIME, id="b"), expected=BOTH),
    "two calls, null index": called(
        piece(*WEATHER, index=None, id="a"), piece(*TIME, index=None, id="b"), expected=BOTH
    ),
    "two calls, no id": called(piece(*WEATHER, index=0), piece(*TIME, index=0), expected=BOTH),
    "calls in turn": called(
        piece("get_weather", '{"city":', index=0, id="a"),
        piece("get_time", '{"tz":', index=1, id="b"),
        piece(None, '"Rome"}', index=0),
        piece(None, '"UTC"}', index=1),
        expected=BOTH,
    ),
    "name in each piece": called(
        piece("get_weather", '{"city":', index=0, id="a"), piece("get_weather", '"Rome"}', index=0, id="a")
    ),
    "id empty later": called(piece("get_weather", '{"city":', index=0, id="a"), piece(None, '"Rome"}', index=0, id="")),
    "name null later": called(
        piece("get_weather", '{"city":', index=0, id="a"),
        {"index": 0, "id": None, "function": {"name": None, "arguments": '"Rome"}'}},
    ),
    "index from 1": called(piece(*WEATHER, index=1, id="a")),
    "same call id, same name, twice": called(
        piece(*WEATHER, index=0, id="a"), piece(*WEATHER, index=1, id="b"), expected=(WEATHER, WEATHER)
    ),
    "no arguments": called(piece("now", "", index=0, id="a"), expected=(("now", ""),)),
    "text, then a call": Transcript(
        body=BODY + calls(piece(*WEATHER, index=0, id="a")), reason="tool_calls", calls=(WEATHER,)
    ),
}
FAILED = {
    "cut in the text": bad(BODY, StreamTruncated),
    "cut in an event": bad((BODY + STOP)[:-40], StreamTruncated),
    "cut before the reason, null string": bad(text("Hello", reason="null"), StreamTruncated),
    "one of two choices": Transcript(body=BODY + STOP, error=StreamTruncated, request={"n": 2}),
    "nothing": bad(b"", ProtocolError),
    "only the end marker": bad(DONE, ProtocolError),
    "only a role": bad(ROLE + DONE, ProtocolError),
    "only comments": bad(b": alive\n\n: alive\n\n", RequestError),
    "reason error": bad(BODY + chunk(reason="error") + DONE, ServerError),
    "reason abort": bad(BODY + chunk(reason="abort") + DONE, ServerError),
    "error event": bad(BODY + data({"error": {"message": "x"}}) + DONE, ServerError),
    "error text": bad(BODY + data({"error": "x"}) + STOP + DONE, ServerError),
    "error in a list": bad(data([{"error": {"code": 429, "message": "x"}}]), Throttled),
    "error named": bad(BODY + b'event: error\ndata: {"message": "x"}\n\n' + STOP + DONE, ServerError),
    "error line": bad(b'error: {"code": 400, "message": "too long", "type": "invalid_request_error"}\n\n', BadRequest),
    "error unframed": bad(b'{"error": {"message": "too long", "code": 400}}\n\n', BadRequest),
    "error beside choices": bad(BODY + chunk(reason="stop", error={"message": "x"}) + DONE, ServerError),
    "error in a choice": bad(data({"choices": [{"index": 0, "error": {"message": "x"}, "delta": {}}]}), ServerError),
    "flat error": bad(BODY + data({"code": 50500, "message": "busy"}) + DONE, ServerError),
    "detail": bad(BODY + data({"detail": "x"}) + DONE, ServerError),
    "whole error": bad(b'{"error": {"message": "x", "code": 503}}', ServerError),
    "whole, reason error": bad(orjson.dumps(WHOLE).replace(b'"stop"', b'"error"'), ServerError),
    "whole, cut": bad(orjson.dumps(WHOLE)[:-10], ProtocolError),
    "whole, no choices": bad(b'{"id": "c"}', ProtocolError),
    "text": bad(b"Internal Server Error", RequestError),
    "words as data": bad(BODY + b"data: Internal Server Error\n\n" + STOP + DONE, ProtocolError),
    "page": bad(b"<html><title>Log in</title></html>", ProtocolError),
    "number": bad(b"data: 7\n\n" + OK, ProtocolError),
    "index out of range": bad(text("x", index=10**6) + STOP, ProtocolError),
    "nested too deep": bad(b"data: " + b"[" * 200 + b"]" * 200 + b"\n\n", ProtocolError),
}
TRANSCRIPTS: dict[str, Transcript] = {**FRAMING, **IDLE, **FIELDS, **LENIENT, **TOOLS, **FAILED}
