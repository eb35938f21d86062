"""A reply is kept only if it is whole and good: failures that come inside a response with a good status."""

from __future__ import annotations

from typing import Any

import orjson
import pytest

from processor.core.errors import (
    AccessDenied,
    BadRequest,
    ProtocolError,
    RequestError,
    ServerError,
    StatusError,
    StreamTruncated,
    Throttled,
)
from processor.protocols import SseDecoder, protocol_for
from processor.protocols.finish_reasons import FAILED, SUCCESSFUL
from tests.support.protocol_jobs import CHAT, accumulator_for

DONE = b"data: [DONE]\n\n"


def event(finish_reason: Any = None, **delta: Any) -> bytes:
    return b"data: %b\n\n" % orjson.dumps({"id": "c", "choices": [choice(finish_reason, **delta)]})


def choice(finish_reason: Any = None, **delta: Any) -> dict[str, Any]:
    return {"index": 0, "delta": delta, "finish_reason": finish_reason}


def read(stream: bytes, size: int | None = None, **request: Any) -> dict[str, Any]:
    """The body assembled of a whole stream, read ``size`` bytes at a time."""
    decoder, accumulator = SseDecoder(), accumulator_for(CHAT, request)
    for start in range(0, len(stream), size or len(stream)):
        accumulator.feed(decoder.feed(stream[start : start + (size or len(stream))]))
    accumulator.feed(decoder.finish())
    return accumulator.result()


def whole(finish_reason: Any, content: str | None = "Hello", **more: Any) -> bytes:
    message = {"role": "assistant", "content": content}
    return orjson.dumps({"choices": [{"index": 0, "message": message, "finish_reason": finish_reason, **more}]})


# ---------------------------------------------------------------- finish reasons


@pytest.mark.parametrize("reason", [*sorted(FAILED), "ERROR", "Abort"])
def test_finish_reason_that_means_failure_fails_the_attempt(reason: str) -> None:
    for end in (b"", DONE):
        with pytest.raises(ServerError, match=reason):
            read(event(content="Hello") + event(reason) + end)
    with pytest.raises(ServerError, match=reason):
        protocol_for(CHAT).parse_json(whole(reason))


def test_words_of_the_server_behind_a_failed_finish_reason_are_in_the_error() -> None:
    with pytest.raises(ServerError, match="out of memory"):
        read(event(content="a") + event("error") + b'data: {"error": {"message": "out of memory"}}\n\n' + DONE)


def test_one_failed_choice_fails_the_reply() -> None:
    second = b'data: {"choices": [{"index": 1, "delta": {}, "finish_reason": "abort"}]}\n\n'
    with pytest.raises(ServerError, match="abort"):
        read(event(content="a") + event("stop") + second + DONE, n=2)


@pytest.mark.parametrize("reason", ["null", "none", "None", "", " ", False, True, 0, 1, [], {}])
def test_finish_reason_that_is_no_meaningful_string_counts_as_not_given(reason: Any) -> None:
    with pytest.raises(StreamTruncated):
        read(event(reason, content="Hello wor"))
    assert read(event(reason, content="Hello") + event("stop"))["choices"][0]["finish_reason"] == "stop"
    body = protocol_for(CHAT).parse_json(whole(reason))
    assert protocol_for(CHAT).finish_reasons(body) == []
    assert protocol_for(CHAT).is_unconfirmed(body)


@pytest.mark.parametrize("reason", [*sorted(SUCCESSFUL), "STOP"])
def test_finish_reason_that_means_success_confirms_a_reply(reason: str) -> None:
    assert not protocol_for(CHAT).is_unconfirmed(read(event(content="a") + event(reason) + DONE))
    assert not protocol_for(CHAT).is_unconfirmed(protocol_for(CHAT).parse_json(whole(reason)))


def test_reply_with_an_unknown_finish_reason_or_none_is_kept_as_unconfirmed() -> None:
    protocol = protocol_for(CHAT)
    unknown, missing = read(event(content="a") + event("because")), read(event(content="a") + DONE)
    assert unknown["choices"][0]["finish_reason"] == "because"
    assert missing["choices"][0]["finish_reason"] is None
    assert protocol.is_unconfirmed(unknown)
    assert protocol.is_unconfirmed(missing)
    assert protocol.is_unconfirmed(protocol.parse_json(whole(None)))


def test_end_marker_with_nothing_before_it_is_no_reply() -> None:
    for stream in (DONE, event(role="assistant", content="") + DONE, b'data: {"choices": []}\n\n' + DONE):
        with pytest.raises(ProtocolError):
            read(stream)
    with pytest.raises(ProtocolError):
        protocol_for(CHAT).parse_json(whole(None, ""))


def test_empty_text_with_a_finish_reason_is_a_reply() -> None:
    assert read(event(role="assistant", content="") + event("stop"))["choices"][0]["message"]["content"] == ""
    assert protocol_for(CHAT).parse_json(whole("stop", ""))


# ---------------------------------------------------------------- events and lines that tell an error

ERRORS: list[tuple[bytes, type[StatusError], str]] = [
    (b'data: {"error": {"message": "busy", "code": 503}}', ServerError, "busy"),
    (b'data: {"error": "busy"}', ServerError, "busy"),
    (b'data: [{"error": {"message": "busy", "code": 429}}]', Throttled, "busy"),
    (b'data: {"errors": [{"message": "busy", "code": 1}]}', ServerError, "busy"),
    (b'data: {"code": 50500, "message": "System is busy", "data": null}', ServerError, "System is busy"),
    (b'data: {"code": "InvalidParameter", "message": "bad top_p", "request_id": "r"}', BadRequest, "bad top_p"),
    (b'data: {"status": 400, "message": "bad"}', BadRequest, "bad"),
    (b'data: {"message": "Internal error"}', ServerError, "Internal error"),
    (b'data: {"detail": "no worker is left"}', ServerError, "no worker is left"),
    (b'data: {"detail": [{"loc": ["body", "n"], "msg": "too large"}]}', BadRequest, "body.n: too large"),
    (b'data: {"error_code": 336100, "error_msg": "try later"}', ServerError, "try later"),
    (b'data: {"type": "error", "message": "boom"}', ServerError, "boom"),
    (b'data: {"success": false, "msg": "boom"}', ServerError, "boom"),
    (b'data: {"object": "error", "message": "boom", "code": 400}', BadRequest, "boom"),
    (b'event: error\ndata: {"message": "overloaded", "code": 500}', ServerError, "overloaded"),
    (b'data: {"message": "overloaded"}\nevent: error', ServerError, "overloaded"),
    (b"event: error\ndata: worker died", ServerError, "worker died"),
    (b'error: {"code": 400, "message": "bad", "type": "invalid_request_error"}', BadRequest, "bad"),
    (b'error: {"code": 500, "message": "slot is gone"}', ServerError, "slot is gone"),
    (b"error: out of memory", ServerError, "out of memory"),
    (b'{"error": {"message": "unframed", "code": 500}}', ServerError, "unframed"),
    (b'{\n "error": {\n  "message": "unframed"\n }\n}', ServerError, "unframed"),
    (
        b'data: {"id": "c", "choices": null, "base_resp": {"status_code": 1008, "status_msg": "no balance"}}',
        AccessDenied,
        "no balance",
    ),
    (b'data: {"base_resp": {"status_code": 1002, "status_msg": "slower"}}', Throttled, "slower"),
    (b'data: {"base_resp": {"status_code": 2013, "status_msg": "bad"}}', BadRequest, "bad"),
    (b'data: {"id": "c", "choices": [], "x_groq": {"error": "over capacity"}}', ServerError, "over capacity"),
    (b'data: {"choices": [{"index": 0, "error": {"code": 502, "message": "upstream"}}]}', ServerError, "upstream"),
]


@pytest.mark.parametrize(("lines", "kind", "message"), ERRORS)
@pytest.mark.parametrize("size", [None, 1, 7])
def test_event_or_line_that_tells_an_error_fails_the_attempt(
    lines: bytes, kind: type[StatusError], message: str, size: int | None
) -> None:
    for before in (b"", event(content="Hello"), event(content="Hello") + event("stop")):
        for after in (b"", DONE, event("stop") + DONE):
            with pytest.raises(kind) as raised:
                read(before + lines + b"\n\n" + after, size)
            assert message in str(raised.value)


@pytest.mark.parametrize(
    "body",
    [
        {"error": {"message": "boom"}},
        [{"error": {"message": "boom"}}],
        {"code": 50501, "message": "boom", "data": None},
        {"detail": "boom"},
        {"base_resp": {"status_code": 1000, "status_msg": "boom"}, "choices": None},
        {"choices": [{"index": 0, "error": {"code": 502, "message": "boom"}, "finish_reason": "stop"}]},
    ],
)
def test_whole_body_that_tells_an_error_fails_the_attempt(body: Any) -> None:
    with pytest.raises(ServerError, match="boom") as raised:
        protocol_for(CHAT).parse_json(orjson.dumps(body))
    assert raised.value.body


@pytest.mark.parametrize(
    "words",
    [
        "This model's maximum context length is 4096 tokens. However, you requested 5000 tokens",
        "the request exceeds the available context size. try increasing the context size",
        "prompt is too long: 210000 tokens > 200000 maximum",
        "Please reduce the length of the messages or completion",
    ],
)
@pytest.mark.parametrize("status", [None, 500])
def test_error_that_names_a_prompt_that_is_too_long_is_the_requests_fault(words: str, status: int | None) -> None:
    with pytest.raises(BadRequest, match=words[:20]):
        read(b"data: %b\n\n" % orjson.dumps({"error": {"message": words, "code": status}}) + DONE)


@pytest.mark.parametrize(
    "lines",
    [
        b'data: {"type": "ping"}',
        b'event: ping\ndata: {"type": "ping", "message": "still here"}',
        b'data: {"error": null, "note": "x"}',
        b'data: {"code": 0, "status": "ok"}',
        b"data: null",
        b'data: {"id": "c", "type": [], "message": 1}',
        b'data: {"base_resp": {"status_code": []}, "status": {}, "code": []}',
        b"data:",
        b"event: error\ndata:",
        b": error: no",
        b'data: {"id": "c", "choices": [], "base_resp": {"status_code": 0, "status_msg": ""}, "error": {}}',
    ],
)
@pytest.mark.parametrize("size", [None, 1])
def test_ping_or_empty_event_is_no_error_and_adds_nothing(lines: bytes, size: int | None) -> None:
    body = read(event(content="a") + lines + b"\n\n" + event(content="b") + event("stop"), size)
    assert body["choices"][0]["message"]["content"] == "ab"
    assert {"type", "message", "code", "status", "note"}.isdisjoint(body)


def test_error_name_of_one_event_says_nothing_of_the_next() -> None:
    with pytest.raises(RequestError):
        read(b"event: error\n" + event(content="a"), 13)
    for size in (None, 1, 13):
        assert read(b"event: error\n\n" + event(content="a") + event("stop"), size)["id"] == "c"
