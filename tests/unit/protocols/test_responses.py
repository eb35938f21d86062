"""Responses: the body of a stream is the response of its terminal event; what a failed or unfinished one means."""

from __future__ import annotations

from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from processor.core.errors import BadRequest, InvalidJob, ProtocolError, ServerError, StreamTruncated, Throttled
from processor.core.models import Usage
from processor.protocols import RequestOptions, protocol_for
from processor.tokens.rules import ModelCounter
from tests.support.event_transcripts import RESPONSE_BODY, RESPONSE_EVENTS, as_stream, response
from tests.support.protocol_jobs import accumulator_for, job_for
from tests.support.typed_streams import assembled, splits

RESPONSES = "/v1/responses"
PROTOCOL = protocol_for(RESPONSES)
WORDS = ModelCounter(count_text=lambda text: len(text.split()), base_model="gpt-4o", is_loaded=True, is_known=True)
STREAM = as_stream(RESPONSE_EVENTS)
TEXT = "Größe: 寿司 🙂"


def without(events: list[dict[str, Any]], *names: str) -> list[dict[str, Any]]:
    return [{name: value for name, value in event.items() if name not in names} for event in events]


# ---------------------------------------------------------------- streams


@given(splits(STREAM))
def test_every_split_of_a_stream_gives_the_unstreamed_body(pieces: list[bytes]) -> None:
    assert assembled(RESPONSES, pieces) == RESPONSE_BODY == PROTOCOL.parse_json(orjson.dumps(RESPONSE_BODY))


@given(st.integers(0, len(STREAM) - 4))
def test_stream_that_is_cut_anywhere_is_never_kept(length: int) -> None:
    with pytest.raises(StreamTruncated):
        assembled(RESPONSES, [STREAM[:length]])


@pytest.mark.parametrize(
    "stream",
    [
        as_stream(RESPONSE_EVENTS, named=False),
        as_stream(RESPONSE_EVENTS) + b"data: [DONE]\n\n",
        STREAM.replace(b"\n", b"\r\n"),
        b": hello\n\n" + STREAM + b'data: {"type": "response.created"}\n\n',
        b'data: {"type": "ping"}\n\n' + STREAM,
        as_stream(without(RESPONSE_EVENTS, "sequence_number", "output_index", "content_index")),
    ],
)
def test_streams_that_differ_in_form_give_the_same_body(stream: bytes) -> None:
    assert assembled(RESPONSES, [stream]) == RESPONSE_BODY


@pytest.mark.parametrize("indexes", [True, False])
@pytest.mark.parametrize("output", [None, [], "absent"])
def test_items_stand_in_for_an_output_that_the_terminal_event_lacks(output: Any, indexes: bool) -> None:
    body = {name: value for name, value in RESPONSE_BODY.items() if name != "output" or output != "absent"}
    if output != "absent":
        body["output"] = output
    events = [*RESPONSE_EVENTS[:-1], {"type": "response.completed", "response": body}]
    events = events if indexes else without(events, "output_index")
    assert assembled(RESPONSES, [as_stream(events)]) == RESPONSE_BODY


def test_text_and_first_token_come_before_the_end() -> None:
    accumulator = accumulator_for(RESPONSES, {})
    events = [orjson.dumps(event) for event in RESPONSE_EVENTS]
    accumulator.feed(events[:2])
    assert not accumulator.has_content
    accumulator.feed(events[2:-1])
    assert accumulator.has_content
    assert not accumulator.is_complete
    assert (accumulator.pop_text(), accumulator.pop_text()) == (TEXT, "")
    accumulator.feed(events[-1:])
    assert accumulator.is_complete
    assert accumulator.saw_end_marker


@pytest.mark.parametrize(
    ("event", "error"),
    [
        ({"type": "error", "code": "server_error", "message": "boom", "param": None}, ServerError),
        ({"type": "error", "error": {"type": "server_error", "message": "boom"}, "sequence_number": 1}, ServerError),
        ({"type": "error", "error": {"type": "tokens", "code": "rate_limit_exceeded", "message": "slow"}}, Throttled),
        ({"error": {"message": "boom", "code": 502}}, ServerError),
    ],
)
def test_error_events_of_every_shape_are_raised(event: dict[str, Any], error: type[Exception]) -> None:
    for named in (True, False):
        with pytest.raises(error):
            assembled(RESPONSES, [as_stream(RESPONSE_EVENTS[:4]), _event(event, named)])


def _event(event: dict[str, Any], named: bool) -> bytes:
    return (b"event: error\n" if named else b"") + b"data: %b\n\n" % orjson.dumps(event)


def test_malformed_event_is_not_understood() -> None:
    with pytest.raises(ProtocolError):
        assembled(RESPONSES, [b'data: {"type": "response.created", "resp\n\n'])
    with pytest.raises(ProtocolError):
        assembled(RESPONSES, [b'data: {"type": "response.completed"}\n\n'])


# ---------------------------------------------------------------- status


@pytest.mark.parametrize(
    ("code", "error"),
    [
        ("server_error", ServerError),
        ("vector_store_timeout", ServerError),
        ("something_new", ServerError),
        (None, ServerError),
        ("rate_limit_exceeded", Throttled),
        ("invalid_prompt", BadRequest),
        ("cyber_policy_violation", BadRequest),
        ("image_too_large", BadRequest),
        ("data_residency_mismatch", BadRequest),
    ],
)
def test_failed_response_is_the_error_that_its_code_names_streamed_or_not(code: Any, error: type[Exception]) -> None:
    body = response("failed", [], error={"code": code, "message": "no"})
    with pytest.raises(error):
        PROTOCOL.parse_json(orjson.dumps(body))
    with pytest.raises(error):
        assembled(RESPONSES, [as_stream([RESPONSE_EVENTS[0], {"type": "response.failed", "response": body}])])


@pytest.mark.parametrize(
    ("body", "error"),
    [
        (response("queued", []), ProtocolError),
        (response("in_progress", []), ProtocolError),
        (response("cancelled", []), ServerError),
        ({"object": "response", "status": "completed"}, ProtocolError),
        ({"choices": []}, ProtocolError),
        ([], ProtocolError),
        ({"error": {"message": "no", "type": "invalid_request_error"}}, BadRequest),
    ],
)
def test_body_without_a_final_status_and_output_is_not_kept(body: Any, error: type[Exception]) -> None:
    with pytest.raises(error):
        PROTOCOL.parse_json(orjson.dumps(body))


@pytest.mark.parametrize(
    ("body", "request_body", "reasons", "is_cut", "is_unconfirmed"),
    [
        (RESPONSE_BODY, {}, ["completed"], False, False),
        (RESPONSE_BODY, {"max_output_tokens": 9}, ["completed"], True, False),
        (RESPONSE_BODY, {"max_output_tokens": 10}, ["completed"], False, False),
        (
            response("incomplete", [], incomplete_details={"reason": "max_output_tokens"}),
            {},
            ["max_output_tokens"],
            True,
            False,
        ),
        (
            response("incomplete", [], incomplete_details={"reason": "content_filter"}),
            {},
            ["content_filter"],
            False,
            False,
        ),
        (response("incomplete", []), {}, ["incomplete"], True, False),
        ({"output": []}, {}, [], False, True),
    ],
)
def test_status_says_why_a_response_ended(
    body: Any, request_body: Any, reasons: list[str], is_cut: bool, is_unconfirmed: bool
) -> None:
    assert PROTOCOL.finish_reasons(body) == reasons
    assert PROTOCOL.is_cut_short(body, request_body) is is_cut
    assert PROTOCOL.is_unconfirmed(body) is is_unconfirmed


def test_incomplete_response_is_kept() -> None:
    body = response("incomplete", RESPONSE_BODY["output"], incomplete_details={"reason": "max_output_tokens"})
    events = [*RESPONSE_EVENTS[:-1], {"type": "response.incomplete", "response": body}]
    assert assembled(RESPONSES, [as_stream(events)]) == body == PROTOCOL.parse_json(orjson.dumps(body))


# ---------------------------------------------------------------- requests


@pytest.mark.parametrize(
    "body", [{"input": "hi"}, {"input": [{"role": "user", "content": "hi"}]}, {"prompt": {"id": "pmpt_1"}}]
)
def test_input_or_what_stands_in_its_place_is_valid(body: Any) -> None:
    PROTOCOL.validate(body)


@pytest.mark.parametrize("body", [{}, {"input": ""}, {"input": []}, {"input": 7}, {"messages": []}])
def test_job_without_input_is_invalid(body: Any) -> None:
    with pytest.raises(InvalidJob):
        PROTOCOL.validate(body)


def test_background_is_refused() -> None:
    with pytest.raises(InvalidJob, match="background"):
        PROTOCOL.validate({"input": "hi", "background": True})
    PROTOCOL.validate({"input": "hi", "background": False})


def test_short_form_becomes_input_and_instructions() -> None:
    assert PROTOCOL.from_short({"prompt": "hi", "system": "s", "model": "m"}) == {
        "input": "hi",
        "instructions": "s",
        "model": "m",
    }
    assert PROTOCOL.from_short({"prompt": {"id": "pmpt_1"}}) == {"prompt": {"id": "pmpt_1"}}
    with pytest.raises(InvalidJob, match="instructions"):
        PROTOCOL.from_short({"prompt": "hi", "system": "s", "instructions": "i"})


def test_request_asks_for_a_stream_and_for_no_usage() -> None:
    def sent(options: RequestOptions, **body: Any) -> Any:
        return orjson.loads(PROTOCOL.encode(job_for(RESPONSES, input="a", **body), options))

    assert sent(RequestOptions()) == {"input": "a", "stream": True}
    assert sent(RequestOptions(), stream_options={"include_usage": True}) == {"input": "a", "stream": True}
    plain = RequestOptions(disable_obfuscation=True)
    assert sent(plain)["stream_options"] == {"include_obfuscation": False}
    assert sent(plain, stream_options={"include_obfuscation": True})["stream_options"] == {"include_obfuscation": True}
    assert sent(RequestOptions(streamed=False), stream_options={}) == {"input": "a", "stream": False}


def test_refused_options_are_left_out() -> None:
    job, options = job_for(RESPONSES, input="a"), RequestOptions(disable_obfuscation=True)
    refusal = BadRequest("Unknown parameter: 'stream_options.include_obfuscation'", status=400)
    adapted = PROTOCOL.adapt(refusal, job, options)
    assert adapted == RequestOptions()
    refused = PROTOCOL.adapt(BadRequest("stream is not supported", status=400), job, options)
    assert refused is not None
    assert refused.stream_refused


# ---------------------------------------------------------------- text and tokens


def test_text_is_that_of_the_messages_else_the_refusal_or_the_calls() -> None:
    refusal = {"type": "message", "content": [{"type": "refusal", "refusal": "No."}]}
    assert PROTOCOL.text(RESPONSE_BODY) == TEXT
    assert PROTOCOL.text({"output": [refusal]}) == "No."
    assert PROTOCOL.text({"output": RESPONSE_BODY["output"][:2]}) == 'weather({"city":"Oslo"})'
    assert PROTOCOL.text({}) == ""


def test_usage_is_reported_and_computed_in_the_words_of_the_api() -> None:
    usage = Usage(prompt_tokens=12, completion_tokens=9)
    assert PROTOCOL.reported_usage(RESPONSE_BODY) == usage
    assert PROTOCOL.usage_json(usage) == {"input_tokens": 12, "output_tokens": 9, "total_tokens": 21}


def test_tokens_are_counted_and_marked_as_estimated() -> None:
    prompt = PROTOCOL.count_prompt({"instructions": "a b", "input": [{"role": "user", "content": "c d e"}]}, WORDS)
    assert (prompt.tokens, prompt.estimate_reasons) == (3 + 4 + 2 + 4 + 3, ("overhead",))
    reply = PROTOCOL.count_reply(RESPONSE_BODY, {}, WORDS)
    assert reply.tokens == 2 + 2 + 3
    assert reply.estimate_reasons == ("reasoning", "tools")
    size = PROTOCOL.request_size(job_for(RESPONSES, input="a", max_output_tokens=7), WORDS)
    assert (size.max_tokens, size.choices) == (7, 1)


@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.text(max_size=3),
        lambda inner: (
            st.lists(inner, max_size=3)
            | st.dictionaries(
                st.sampled_from(["type", "content", "output", "input", "text", "tools", "format", "summary"]),
                inner,
                max_size=4,
            )
        ),
        max_leaves=12,
    )
)
def test_counting_never_raises(value: Any) -> None:
    for body in (
        {"output": value, "input": value, "tools": value, "text": value},
        value if isinstance(value, dict) else {},
    ):
        PROTOCOL.count_prompt(body, WORDS)
        PROTOCOL.count_reply(body, body, WORDS)
        PROTOCOL.text(body)
        PROTOCOL.finish_reasons(body)
