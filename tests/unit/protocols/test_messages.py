"""Messages: blocks and their deltas are assembled to the message that the same request returns unstreamed."""

from __future__ import annotations

from copy import deepcopy
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from processor.core.errors import BadRequest, InvalidJob, ProtocolError, ServerError, StreamTruncated, Throttled
from processor.core.models import Usage
from processor.protocols import RequestOptions, protocol_for
from processor.tokens.rules import ModelCounter
from tests.support.event_transcripts import MESSAGE_BODY, MESSAGE_EVENTS, as_stream
from tests.support.protocol_jobs import accumulator_for, job_for
from tests.support.typed_streams import assembled, splits

MESSAGES = "/v1/messages"
PROTOCOL = protocol_for(MESSAGES)
WORDS = ModelCounter(count_text=lambda text: len(text.split()), base_model="claude", is_loaded=True, is_known=False)
STREAM = as_stream(MESSAGE_EVENTS)
END = len(as_stream(MESSAGE_EVENTS[:-2]))
"""Up to here the stream gives no reason to stop."""


def block_stream(
    *deltas: dict[str, Any], start: dict[str, Any], stop_reason: str | None = "end_turn"
) -> dict[str, Any]:
    """The one block of a stream with these deltas."""
    events: list[dict[str, Any]] = [
        {"type": "message_start", "message": {"type": "message", "content": [], "usage": {}}},
        {"type": "content_block_start", "index": 0, "content_block": start},
        *({"type": "content_block_delta", "index": 0, "delta": delta} for delta in deltas),
        {"type": "message_delta", "delta": {"stop_reason": stop_reason}},
        {"type": "message_stop"},
    ]
    (block,) = assembled(MESSAGES, [as_stream(events)])["content"]
    assert isinstance(block, dict)
    return block


# ---------------------------------------------------------------- streams


@given(splits(STREAM))
def test_every_split_of_a_stream_gives_the_unstreamed_body(pieces: list[bytes]) -> None:
    assert assembled(MESSAGES, pieces) == MESSAGE_BODY == PROTOCOL.parse_json(orjson.dumps(MESSAGE_BODY))


@given(st.integers(0, END))
def test_stream_that_is_cut_before_its_reason_to_stop_is_never_kept(length: int) -> None:
    with pytest.raises(StreamTruncated):
        assembled(MESSAGES, [STREAM[:length]])


def test_stream_without_message_stop_is_kept_only_after_a_clean_end() -> None:
    stream = as_stream(MESSAGE_EVENTS[:-1])
    assert assembled(MESSAGES, [stream]) == MESSAGE_BODY
    accumulator = accumulator_for(MESSAGES, {})
    accumulator.feed([orjson.dumps(event) for event in MESSAGE_EVENTS[:-1]])
    assert not accumulator.is_complete, "a connection that breaks here has not ended the message"
    accumulator.feed([orjson.dumps(MESSAGE_EVENTS[-1])])
    assert accumulator.is_complete


@pytest.mark.parametrize(
    "stream",
    [
        as_stream(MESSAGE_EVENTS, named=False),
        STREAM + b"data: [DONE]\n\n",
        STREAM.replace(b"\n", b"\r\n"),
        b": hello\n\n" + STREAM,
        STREAM + b'event: error\ndata: {"type": "error", "error": {"type": "api_error", "message": "late"}}\n\n',
    ],
)
def test_streams_that_differ_in_form_give_the_same_body(stream: bytes) -> None:
    assert assembled(MESSAGES, [stream]) == MESSAGE_BODY


def test_text_and_first_token_come_before_the_end() -> None:
    accumulator = accumulator_for(MESSAGES, {})
    events = [orjson.dumps(event) for event in MESSAGE_EVENTS]
    accumulator.feed(events[:2])
    assert not accumulator.has_content
    accumulator.feed(events[2:-1])
    assert accumulator.has_content
    assert (accumulator.pop_text(), accumulator.pop_text()) == ("Größe: 寿司 🙂", "")


@pytest.mark.parametrize(
    ("kind", "error"),
    [
        ("overloaded_error", ServerError),
        ("api_error", ServerError),
        ("timeout_error", ServerError),
        ("rate_limit_error", Throttled),
        ("invalid_request_error", BadRequest),
    ],
)
@pytest.mark.parametrize("named", [True, False])
def test_error_event_is_raised_as_the_error_that_its_type_names(kind: str, error: type[Exception], named: bool) -> None:
    event = {"type": "error", "error": {"type": kind, "message": "no"}, "request_id": "req_1"}
    line = b"event: error\n" if named else b""
    with pytest.raises(error):
        assembled(MESSAGES, [as_stream(MESSAGE_EVENTS[:9]), line + b"data: %b\n\n" % orjson.dumps(event)])
    with pytest.raises(error):
        PROTOCOL.parse_json(orjson.dumps(event))


def test_input_that_the_limit_of_tokens_has_cut_off_is_kept_as_text() -> None:
    tool = {"type": "tool_use", "id": "t", "name": "f", "input": {}}
    cut = block_stream({"type": "input_json_delta", "partial_json": '{"a": "b'}, start=tool, stop_reason="max_tokens")
    assert cut == {**tool, "partial_json": '{"a": "b'}


def test_large_integers_in_an_input_are_kept() -> None:
    tool = {"type": "tool_use", "id": "t", "name": "f", "input": {}}
    piece = {"type": "input_json_delta", "partial_json": '{"a": 123456789012345678901234567890}'}
    assert block_stream(piece, start=tool)["input"] == {"a": 123456789012345678901234567890}


def test_halves_of_a_surrogate_pair_in_two_deltas_are_joined() -> None:
    events = [
        b'{"type": "message_start", "message": {"content": [], "usage": {}}}',
        b'{"type": "content_block_start", "index": 0, "content_block": {"type": "text", "text": ""}}',
        rb'{"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": "\ud83d"}}',
        rb'{"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": "\ude42"}}',
        b'{"type": "message_delta", "delta": {"stop_reason": "end_turn"}}',
        b'{"type": "message_stop"}',
    ]
    accumulator = accumulator_for(MESSAGES, {})
    accumulator.feed(events)
    assert accumulator.result()["content"] == [{"type": "text", "text": "🙂"}]
    assert not accumulator.altered


def test_delta_without_a_block_begins_one() -> None:
    events = deepcopy(MESSAGE_EVENTS[:1])
    events.append({"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": "hi"}})
    events += MESSAGE_EVENTS[-2:]
    assert assembled(MESSAGES, [as_stream(events)])["content"] == [{"type": "text", "text": "hi"}]


def test_null_in_the_last_usage_erases_no_number_and_container_is_taken() -> None:
    delta = {"stop_reason": "end_turn", "container": {"id": "c"}}
    events = [MESSAGE_EVENTS[0], {"type": "message_delta", "delta": delta, "usage": {"input_tokens": None}}]
    body = assembled(MESSAGES, [as_stream(events)])
    assert body["usage"] == MESSAGE_EVENTS[0]["message"]["usage"]
    assert body["container"] == {"id": "c"}


@pytest.mark.parametrize(
    ("events", "error"),
    [
        ([{"type": "message_stop"}], StreamTruncated),
        ([{"type": "message_start", "message": {}}, {"type": "message_stop"}], ProtocolError),
        ([{"type": "message_start"}], ProtocolError),
        ([{"type": "content_block_start", "index": 0}], ProtocolError),
        ([MESSAGE_EVENTS[0], {"type": "message_delta", "delta": {"stop_reason": "error"}}], ServerError),
    ],
)
def test_stream_that_is_no_message_is_not_kept(events: list[dict[str, Any]], error: type[Exception]) -> None:
    with pytest.raises(error):
        assembled(MESSAGES, [as_stream(events)])


@pytest.mark.parametrize("data", [b"[]", b"{}", b'{"content": []}', b'{"content": "x"}', b"", b'{"choices": []}'])
def test_body_that_is_no_message_is_not_kept(data: bytes) -> None:
    with pytest.raises(ProtocolError):
        PROTOCOL.parse_json(data)


# ---------------------------------------------------------------- the end


@pytest.mark.parametrize(
    ("reason", "is_cut", "is_unconfirmed"),
    [
        ("end_turn", False, False),
        ("stop_sequence", False, False),
        ("tool_use", False, False),
        ("refusal", False, False),
        ("max_tokens", True, False),
        ("model_context_window_exceeded", True, False),
        ("pause_turn", True, False),
        ("something_new", False, True),
        (None, False, True),
    ],
)
def test_stop_reason_says_why_a_message_ended(reason: Any, is_cut: bool, is_unconfirmed: bool) -> None:
    body = MESSAGE_BODY | {"stop_reason": reason}
    assert PROTOCOL.finish_reasons(body) == ([reason] if reason else [])
    assert PROTOCOL.is_cut_short(body, {}) is is_cut
    assert PROTOCOL.is_unconfirmed(body) is is_unconfirmed


# ---------------------------------------------------------------- requests


ASKED = [{"role": "user", "content": "hi"}]


@pytest.mark.parametrize("limit", [0, 1, 64_000])
def test_job_with_messages_and_max_tokens_is_valid(limit: int) -> None:
    PROTOCOL.validate({"messages": ASKED, "max_tokens": limit})


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ({"messages": ASKED}, "has no max_tokens"),
        ({"messages": ASKED, "max_tokens": -1}, "max_tokens must be"),
        ({"messages": ASKED, "max_tokens": True}, "max_tokens must be"),
        ({"max_tokens": 1}, "has no messages"),
        ({"messages": "x", "max_tokens": 1}, "has no messages"),
        ({"messages": ["x"], "max_tokens": 1}, "every message must be an object"),
    ],
)
def test_job_without_messages_or_max_tokens_is_invalid(body: Any, message: str) -> None:
    with pytest.raises(InvalidJob, match=message):
        PROTOCOL.validate(body)


def test_short_form_becomes_a_user_message_and_system_stays_at_the_top() -> None:
    fields = {"prompt": "hi", "system": "s", "max_tokens": 5}
    assert PROTOCOL.from_short(fields) == {"messages": ASKED, "system": "s", "max_tokens": 5}


def test_request_never_has_stream_options() -> None:
    def sent(options: RequestOptions, **body: Any) -> Any:
        return orjson.loads(PROTOCOL.encode(job_for(MESSAGES, messages=ASKED, **body), options))

    assert sent(RequestOptions()) == {"messages": ASKED, "stream": True}
    assert sent(RequestOptions(), stream_options={"include_usage": True}) == {"messages": ASKED, "stream": True}
    assert sent(RequestOptions(streamed=False)) == {"messages": ASKED, "stream": False}


# ---------------------------------------------------------------- text and tokens


def test_text_is_that_of_the_text_blocks_else_the_calls() -> None:
    assert PROTOCOL.text(MESSAGE_BODY) == "Größe: 寿司 🙂"
    calls = {"content": MESSAGE_BODY["content"][-2:]}
    assert PROTOCOL.text(calls) == 'weather({"city":"Oslo","days":[1,2]})\nnow({})'
    assert PROTOCOL.text({}) == ""


def test_reported_prompt_includes_what_was_cached() -> None:
    assert PROTOCOL.reported_usage(MESSAGE_BODY) == Usage(prompt_tokens=20 + 3 + 7, completion_tokens=42)
    assert PROTOCOL.reported_usage({}) is None
    usage = Usage(prompt_tokens=1, completion_tokens=2)
    assert PROTOCOL.usage_json(usage) == {"input_tokens": 1, "output_tokens": 2}


def test_tokens_are_counted_and_marked_as_estimated() -> None:
    prompt = PROTOCOL.count_prompt({"system": "a b", "messages": [{"role": "user", "content": "c d e"}]}, WORDS)
    assert (prompt.tokens, prompt.estimate_reasons) == (3 + 2 + 4 + 3, ("overhead", "unknown_model"))
    reply = PROTOCOL.count_reply(MESSAGE_BODY, {}, WORDS)
    assert reply.estimate_reasons == ("reasoning", "tools", "unknown_model")
    assert reply.tokens == 3 + 3 + 3, "thinking, text, and three calls of one word each; not what the search found"
    size = PROTOCOL.request_size(job_for(MESSAGES, messages=ASKED, max_tokens=7), WORDS)
    assert (size.max_tokens, size.choices) == (7, 1)


def test_requests_carry_the_version_of_the_api() -> None:
    assert PROTOCOL.headers == (("anthropic-version", "2023-06-01"),)


def test_delta_of_many_values_or_bytes_is_read_like_a_small_one() -> None:
    pages = [[number] for number in range(40)]
    citation = {"type": "page_location", "cited_text": "x" * 5000, "pages": pages}
    block = block_stream({"type": "citations_delta", "citation": citation}, start={"type": "text", "text": ""})
    assert block["citations"] == [citation]


def test_delta_that_is_nested_too_deep_is_not_understood() -> None:
    nested: Any = 1
    for _ in range(120):
        nested = [nested]
    with pytest.raises(ProtocolError, match="nested"):
        block_stream({"type": "citations_delta", "citation": nested}, start={"type": "text", "text": ""})


def test_malformed_delta_is_not_understood() -> None:
    with pytest.raises(ProtocolError):
        assembled(MESSAGES, [as_stream(MESSAGE_EVENTS[:3]), b'data: {"type":"content_block_delta","index":0,"del\n\n'])
