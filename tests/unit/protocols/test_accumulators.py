"""Accumulators assemble a stream to the body that the same request has unstreamed."""

from __future__ import annotations

from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

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
from processor.protocols import Accumulator
from tests.support.protocol_jobs import CHAT, COMPLETIONS, accumulator_for

TOP = {"id": "chatcmpl-1", "object": "chat.completion.chunk", "created": 1700000000, "model": "m-1"}


def chunk(*choices: Any, **fields: Any) -> bytes:
    return orjson.dumps({**TOP, "choices": list(choices), **fields})


def delta(index: int = 0, finish_reason: str | None = None, **fields: Any) -> dict[str, Any]:
    return {"index": index, "delta": fields, "finish_reason": finish_reason}


def piece(text: str | None, index: int = 0, finish_reason: str | None = None, **fields: Any) -> dict[str, Any]:
    return {"text": text, "index": index, "logprobs": None, "finish_reason": finish_reason, **fields}


def accumulated(*payloads: bytes, path: str = CHAT, **request: Any) -> Accumulator:
    accumulator = accumulator_for(path, request)
    accumulator.feed(payloads)
    return accumulator


def message(*payloads: bytes) -> dict[str, Any]:
    body = accumulated(*payloads, chunk(delta(finish_reason="stop"))).result()
    found: dict[str, Any] = body["choices"][0]["message"]
    return found


def test_a_chat_stream_is_assembled_to_a_chat_completion() -> None:
    extra = {"system_fingerprint": "fp_1", "service_tier": "default"}
    accumulator = accumulated(
        chunk(delta(role="assistant", content="", refusal=None), usage=None, **extra),
        chunk(delta(content="Hello"), usage=None, **extra),
        chunk(delta(content=", wörld"), usage=None, obfuscation="aXb", **extra),
        chunk(delta(finish_reason="stop"), usage=None, **extra),
        chunk(usage={"prompt_tokens": 9, "completion_tokens": 2, "total_tokens": 11}, **extra),
        b"[DONE]",
    )
    assert accumulator.result() == {
        "id": "chatcmpl-1",
        "object": "chat.completion",
        "created": 1700000000,
        "model": "m-1",
        "choices": [
            {
                "index": 0,
                "message": {"role": "assistant", "content": "Hello, wörld", "refusal": None},
                "finish_reason": "stop",
            }
        ],
        "usage": {"prompt_tokens": 9, "completion_tokens": 2, "total_tokens": 11},
        **extra,
    }
    assert list(accumulator.result())[:5] == ["id", "object", "created", "model", "choices"]


def test_a_completions_stream_is_assembled_to_a_text_completion() -> None:
    one = {"tokens": ["a"], "token_logprobs": [-0.1], "top_logprobs": None, "text_offset": [0]}
    two = {"tokens": ["b"], "token_logprobs": [-0.2], "top_logprobs": None, "text_offset": [1]}
    accumulator = accumulated(
        chunk(piece("a", logprobs=one), object="text_completion"),
        chunk(piece("b", logprobs=two), object="text_completion"),
        chunk(piece(None, finish_reason="length"), usage={"total_tokens": 2}),
        path=COMPLETIONS,
    )
    assert accumulator.is_complete
    body = accumulator.result()
    assert body["object"] == "text_completion"
    assert body["usage"] == {"total_tokens": 2}
    logprobs = {"tokens": ["a", "b"], "token_logprobs": [-0.1, -0.2], "top_logprobs": None, "text_offset": [0, 1]}
    assert body["choices"] == [{"index": 0, "text": "ab", "logprobs": logprobs, "finish_reason": "length"}]


def test_interleaved_choices_are_separated_and_sorted_by_index() -> None:
    accumulator = accumulated(
        chunk(delta(1, content="b1")),
        chunk(delta(0, content="a1"), delta(2, content="c1")),
        chunk(delta(1, content="b2", finish_reason="stop")),
        chunk(delta(2, finish_reason="length"), delta(0, content="a2", finish_reason="stop")),
        n=3,
    )
    body = accumulator.result()
    assert [choice["message"]["content"] for choice in body["choices"]] == ["a1a2", "b1b2", "c1"]
    assert [choice["finish_reason"] for choice in body["choices"]] == ["stop", "stop", "length"]


def test_tool_calls_are_merged_by_index() -> None:
    def call(index: int, **fields: Any) -> bytes:
        return chunk(delta(tool_calls=[{"index": index, **fields}]))

    made = message(
        chunk(delta(role="assistant", content=None)),
        call(1, id="call_b", type="function", function={"name": "second", "arguments": ""}),
        call(0, id="call_a", type="function", function={"name": "first", "arguments": ""}),
        call(1, function={"arguments": '{"x":'}),
        call(0, id="", type="function", function={"name": None, "arguments": "{}"}),
        call(1, id="call_b", function={"arguments": " 1}"}),
    )
    assert made == {
        "role": "assistant",
        "content": None,
        "tool_calls": [
            {"id": "call_a", "type": "function", "function": {"name": "first", "arguments": "{}"}},
            {"id": "call_b", "type": "function", "function": {"name": "second", "arguments": '{"x": 1}'}},
        ],
    }


def test_tool_calls_without_an_index_are_separated_by_their_ids() -> None:
    made = message(
        chunk(delta(tool_calls=[{"id": "a", "function": {"name": "f", "arguments": "1"}}])),
        chunk(delta(tool_calls=[{"function": {"arguments": "2"}}])),
        chunk(delta(tool_calls=[{"id": "b", "function": {"name": "g", "arguments": "3"}}])),
    )
    assert [(call["id"], call["function"]["arguments"]) for call in made["tool_calls"]] == [("a", "12"), ("b", "3")]


def test_a_function_call_is_merged() -> None:
    made = message(
        chunk(delta(role="assistant", function_call={"name": "f", "arguments": ""})),
        chunk(delta(function_call={"arguments": '{"a"'})),
        chunk(delta(function_call={"arguments": ":1}"})),
    )
    assert made["function_call"] == {"name": "f", "arguments": '{"a":1}'}
    assert made["content"] is None


def test_empty_content_is_null_beside_tool_calls_and_refusals_and_else_an_empty_string() -> None:
    assert message(chunk(delta(content="", tool_calls=[{"index": 0, "id": "a"}])))["content"] is None
    assert message(chunk(delta(content="", refusal="No.")))["content"] is None
    assert message(chunk(delta(content=None)))["content"] == ""
    assert message(chunk(delta(content="Yes", tool_calls=[{"index": 0, "id": "a"}])))["content"] == "Yes"


def test_reasoning_refusals_and_unknown_fields_of_deltas_are_merged() -> None:
    made = message(
        chunk(delta(role="", content=None, reasoning_content="let me ")),
        chunk(delta(reasoning_content="think", reasoning="too", refusal="no", custom={"a": 1, "text": "x"}, list=[1])),
        chunk(delta(refusal=" way", custom={"b": 2, "text": "y"}, list=[2], flag=True)),
        chunk(delta(flag=False, custom=None)),
    )
    assert made["role"] == "assistant"
    assert made["reasoning_content"] == "let me think"
    assert made["reasoning"] == "too"
    assert made["refusal"] == "no way"
    assert made["custom"] == {"a": 1, "text": "xy", "b": 2}
    assert made["list"] == [1, 2]
    assert made["flag"] is False


def thinking(*texts: str) -> dict[str, Any]:
    return {"type": "thinking", "thinking": [{"type": "text", "text": text} for text in texts]}


def test_pieces_of_content_parts_are_merged_to_one_part_per_run_of_a_type() -> None:
    made = message(
        chunk(delta(role="assistant", content="")),
        chunk(delta(content=[thinking("Let me ")])),
        chunk(delta(content=[thinking("think", ".")])),
        chunk(delta(content=[{"type": "text", "text": "It "}])),
        chunk(delta(content="is ")),
        chunk(delta(content=[])),
        chunk(delta(content=[{"type": "text", "text": "4."}, {"type": "reference", "reference_ids": [1]}])),
        chunk(delta(content=[{"type": "reference", "reference_ids": [2]}])),
    )
    assert made["content"] == [
        thinking("Let me think."),
        {"type": "text", "text": "It is 4."},
        {"type": "reference", "reference_ids": [1]},
        {"type": "reference", "reference_ids": [2]},
    ]


def test_text_before_content_parts_becomes_the_first_part() -> None:
    made = message(chunk(delta(content="Hm")), chunk(delta(content=". ")), chunk(delta(content=[thinking("so")])))
    assert made["content"] == [{"type": "text", "text": "Hm. "}, thinking("so")]


def test_content_parts_of_text_only_become_a_string() -> None:
    part = {"type": "text", "text": "Hello"}
    assert message(chunk(delta(content=[part])), chunk(delta(content=" world")))["content"] == "Hello world"
    assert message(chunk(delta(content=[part | {"annotations": []}])))["content"] == [part | {"annotations": []}]
    assert message(chunk(delta(content=[])))["content"] == ""


def test_pop_text_returns_the_text_of_content_parts_without_the_thinking() -> None:
    accumulator = accumulated(chunk(delta(content="a")))
    assert accumulator.pop_text() == "a"
    accumulator.feed([chunk(delta(content=[thinking("x"), {"type": "text", "text": "b"}])), chunk(delta(content="c"))])
    assert accumulator.pop_text() == "bc"
    assert accumulator.pop_text() == ""


@given(st.lists(st.sampled_from(["text", "part", "thinking"]).flatmap(lambda k: st.tuples(st.just(k), st.text()))))
def test_no_text_of_content_parts_is_lost(sent: list[tuple[str, str]]) -> None:
    as_content: dict[str, Any] = {
        "text": lambda text: text,
        "part": lambda text: [{"type": "text", "text": text}],
        "thinking": lambda text: [thinking(text)],
    }
    content = message(*(chunk(delta(content=as_content[piece_type](text))) for piece_type, text in sent))["content"]
    parts: list[Any] = [{"type": "text", "text": content}] if isinstance(content, str) else content
    spoken = "".join(part["text"] for part in parts if part["type"] == "text")
    thought = "".join(inner["text"] for part in parts if part["type"] == "thinking" for inner in part["thinking"])
    assert spoken == "".join(text for piece_type, text in sent if piece_type != "thinking")
    assert thought == "".join(text for piece_type, text in sent if piece_type == "thinking")


def test_a_field_whose_type_changes_has_the_values_of_the_last_type() -> None:
    assert message(chunk(delta(x="a")), chunk(delta(x=[1])), chunk(delta(x=[2])))["x"] == [1, 2]
    assert message(chunk(delta(x=[1])), chunk(delta(x="a")), chunk(delta(x="b")))["x"] == "ab"
    assert message(chunk(delta(x={"y": 1})), chunk(delta(x=3)))["x"] == 3
    assert message(chunk(delta(x=3)), chunk(delta(x={"y": "1"})))["x"] == {"y": "1"}


def test_log_probabilities_are_concatenated_and_fields_of_a_vendor_are_kept() -> None:
    def with_logprobs(token: str, **fields: Any) -> dict[str, Any]:
        logprobs = {"content": [{"token": token, "logprob": -1.0, "top_logprobs": []}], "refusal": None}
        return {**delta(content=token), "logprobs": logprobs, **fields}

    accumulator = accumulated(
        chunk(with_logprobs("a", token_ids=[1], stop_reason=None)),
        chunk(with_logprobs("b", token_ids=[2], content_filter_results={"hate": {"severity": "safe"}})),
        chunk(with_logprobs("c", token_ids=[3], content_filter_results={"hate": {"severity": "safe"}})),
        chunk({**delta(finish_reason="stop"), "logprobs": None, "stop_reason": 7}),
    )
    (choice,) = accumulator.result()["choices"]
    assert [token["token"] for token in choice["logprobs"]["content"]] == ["a", "b", "c"]
    assert choice["token_ids"] == [1, 2, 3]
    assert choice["content_filter_results"] == {"hate": {"severity": "safe"}}
    assert choice["stop_reason"] == 7


def test_id_model_and_created_are_the_first_ones_and_other_fields_the_last_ones() -> None:
    accumulator = accumulated(
        orjson.dumps({"id": "", "model": "", "created": 0, "choices": [], "prompt_filter_results": [1]}),
        chunk(delta(content="a"), citations=[1], system_fingerprint=None),
        chunk(delta(content="b", finish_reason="stop"), id="other", citations=[1, 2], usage={"total_tokens": 1}),
        chunk(usage={"total_tokens": 2}),
        chunk(usage=None),
    )
    body = accumulator.result()
    assert (body["id"], body["model"], body["created"]) == ("chatcmpl-1", "m-1", 1700000000)
    assert body["citations"] == [1, 2]
    assert body["prompt_filter_results"] == [1]
    assert body["usage"] == {"total_tokens": 2}
    assert body["system_fingerprint"] is None


def test_a_usage_that_is_null_in_all_chunks_is_left_out() -> None:
    assert "usage" not in accumulated(chunk(delta(content="a", finish_reason="stop"), usage=None)).result()


def test_null_choices_and_blank_events_are_accepted() -> None:
    accumulator = accumulated(
        chunk(delta(content="a", finish_reason="stop")), b"", b"  ", b' {"choices": null, "usage": {"x": 1}} '
    )
    assert accumulator.result()["usage"] == {"x": 1}


# ---------------------------------------------------------------- when a reply is complete


def test_a_reply_is_complete_when_all_choices_have_finished_or_the_end_marker_has_come() -> None:
    accumulator = accumulated(chunk(delta(0, content="a", finish_reason="stop"), delta(1, content="b")), n=3)
    assert not accumulator.is_complete
    with pytest.raises(StreamTruncated):
        accumulator.result()
    accumulator.feed([chunk(delta(1, finish_reason="stop"))])
    assert not accumulator.is_complete  # the third choice has not even begun
    accumulator.feed([chunk(delta(2, finish_reason="stop"))])
    assert accumulator.is_complete
    assert not accumulator.saw_end_marker
    accumulator.feed([b"[DONE]"])
    assert accumulator.saw_end_marker


def test_an_empty_finish_reason_does_not_finish_a_choice() -> None:
    assert not accumulated(chunk(delta(content="a", finish_reason=""))).is_complete


def test_the_end_marker_completes_a_choice_without_a_finish_reason() -> None:
    accumulator = accumulated(chunk(delta(content="a")), b"[DONE]")
    assert accumulator.result()["choices"][0]["finish_reason"] is None


def test_a_choice_beyond_those_requested_must_finish_too() -> None:
    accumulator = accumulated(chunk(delta(0, finish_reason="stop"), delta(1, content="b")))
    assert not accumulator.is_complete
    accumulator.feed([chunk(delta(1, finish_reason="stop")), chunk(delta(1, finish_reason="stop"))])
    assert accumulator.is_complete


def test_each_prompt_of_a_list_has_its_own_choices() -> None:
    done = [chunk(piece("x", index, "stop")) for index in range(4)]
    assert not accumulated(*done[:3], path=COMPLETIONS, prompt=["a", "b"], n=2).is_complete
    assert accumulated(*done, path=COMPLETIONS, prompt=["a", "b"], n=2).is_complete
    assert accumulated(done[0], path=COMPLETIONS, prompt=[1, 2, 3]).is_complete
    assert accumulated(done[0], path=COMPLETIONS, prompt="text").is_complete
    assert accumulated(*done[:2], path=COMPLETIONS, prompt=[[1], [2]]).is_complete


def test_an_empty_stream_is_truncated_and_an_end_marker_without_choices_is_a_protocol_error() -> None:
    with pytest.raises(StreamTruncated):
        accumulated().result()
    with pytest.raises(ProtocolError):
        accumulated(b"[DONE]").result()


def test_events_after_the_end_marker_are_ignored() -> None:
    done = chunk(delta(content="a", finish_reason="stop"))
    assert (
        accumulated(done, b"[DONE]", b"garbage", chunk(delta(content="b"))).result()
        == accumulated(done, b"[DONE]").result()
    )


@pytest.mark.parametrize(
    "fields", [{"content": "x"}, {"reasoning": "x"}, {"refusal": "x"}, {"tool_calls": [{"id": "a"}]}]
)
def test_a_reply_has_content_from_its_first_generated_piece_on(fields: dict[str, Any]) -> None:
    accumulator = accumulated(chunk(delta(role="assistant", content="")), chunk())
    assert not accumulator.has_content
    accumulator.feed([chunk(delta(**fields))])
    assert accumulator.has_content


def test_pop_text_returns_the_new_text_of_the_first_choice() -> None:
    accumulator = accumulated(n=2)
    assert accumulator.pop_text() == ""
    accumulator.feed([chunk(delta(1, content="other")), chunk(delta(content="a")), chunk(delta(content="b"))])
    assert accumulator.pop_text() == "ab"
    assert accumulator.pop_text() == ""
    accumulator.feed([chunk(delta(content="c"))])
    assert accumulator.pop_text() == "c"


# ---------------------------------------------------------------- errors


@pytest.mark.parametrize(
    ("event", "error", "status"),
    [
        ({"error": {"message": "no credit", "code": 402}}, AccessDenied, 402),
        ({"error": {"message": "boom", "code": 500}}, ServerError, 500),
        ({"error": {"message": "boom", "code": "502"}}, ServerError, 502),
        ({"error": {"message": "boom"}}, ServerError, 500),
        ({"error": "boom"}, ServerError, 500),
        ({"error": {"code": "rate_limit_exceeded", "message": "Please try again in 2s"}}, Throttled, 429),
        ({"error": {"code": "insufficient_quota", "message": "x"}}, AccessDenied, 500),
        ({"error": {"type": "invalid_request_error", "message": "x"}}, BadRequest, 400),
        ({"error": {"code": 99999, "message": "x"}}, ServerError, 500),
        ({"object": "error", "message": "boom", "code": 400}, BadRequest, 400),
        ({"choices": [{"index": 0, "delta": {}, "error": {"code": 503, "message": "x"}}]}, ServerError, 503),
    ],
)
def test_an_error_event_is_raised_as_the_error_of_its_status(event: Any, error: type[StatusError], status: int) -> None:
    with pytest.raises(error) as raised:
        accumulated(chunk(delta(content="a")), orjson.dumps(event))
    assert raised.value.status == status
    assert raised.value.body is not None


def test_an_error_event_that_asks_to_wait_has_the_duration() -> None:
    with pytest.raises(Throttled) as raised:
        accumulated(orjson.dumps({"error": {"code": 429, "message": "slow, try again in 1.5s"}}))
    assert raised.value.retry_after_s == 1.5


BAD = [
    b"not json",
    b"[1]",
    b"1",
    b'"text"',
    b'{"choices": [',
    b'{"choices": "x"}',
    b'{"choices": {"0": 1}}',
    b'{"choices": [1]}',
    b'{"choices": [{"index": -1, "delta": {}}]}',
    b'{"choices": [{"index": "first", "delta": {}}]}',
    b'{"choices": [{"index": true, "delta": {}}]}',
    b'{"choices": [{"index": 1000000, "delta": {}}]}',
    b'{"choices": [{"index": 0, "delta": []}]}',
    b'{"choices": [{"index": 0, "delta": "x"}]}',
    b'{"choices": [{"index": 0, "delta": {"content": 1}}]}',
    b'{"choices": [{"index": 0, "delta": {"content": [7]}}]}',
    b'{"choices": [{"index": 0, "delta": {"tool_calls": {}}}]}',
    b'{"choices": [{"index": 0, "delta": {"tool_calls": [1]}}]}',
    b'{"choices": [{"index": 0, "delta": {"tool_calls": [{"index": -1}]}}]}',
    b'{"a": ' + b"[" * 900 + b"]" * 900 + b"}",
    b'{"a": ' + b"[" * 200 + b"]" * 200 + b"}",
    b"[" * 5000,
]


@pytest.mark.parametrize("payload", BAD)
def test_a_malformed_event_is_a_protocol_error_with_a_short_message(payload: bytes) -> None:
    with pytest.raises(ProtocolError) as raised:
        accumulated(chunk(delta(content="a")), payload)
    assert len(str(raised.value)) < 250
    assert "\n" not in str(raised.value)


def test_a_completions_text_that_is_not_a_string_is_a_protocol_error() -> None:
    with pytest.raises(ProtocolError):
        accumulated(chunk(piece(1)), path=COMPLETIONS)  # type: ignore[arg-type]


def test_a_wide_event_is_not_refused_as_too_deeply_nested() -> None:
    wide = [{"token": "a", "top_logprobs": [{"token": "b"}] * 20}] * 20
    choice = {**delta(content="a", finish_reason="stop"), "logprobs": {"content": wide}}
    assert accumulated(chunk(choice)).result()["choices"][0]["logprobs"] == {"content": wide}


# ---------------------------------------------------------------- for all streams

OUTER = ("choices", "usage", "error", "code", "message", "model", "object", "type", "id", "x")
INNER = (
    "index",
    "delta",
    "content",
    "text",
    "role",
    "tool_calls",
    "function",
    "arguments",
    "logprobs",
    "finish_reason",
)
NAMES = st.sampled_from(OUTER + INNER)
GARBAGE = st.recursive(
    st.none() | st.booleans() | st.integers(-2, 3) | st.floats(allow_nan=False) | st.text(max_size=3),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(NAMES, inner, max_size=4),
    max_leaves=12,
)
CHUNK_LIKE = st.fixed_dictionaries(
    {},
    optional={
        "choices": st.lists(
            st.fixed_dictionaries(
                {},
                optional={
                    "index": st.integers(0, 2) | GARBAGE,
                    "delta": st.dictionaries(NAMES, GARBAGE, max_size=3),
                    "text": st.text(max_size=3),
                    "finish_reason": st.none() | st.just("stop"),
                    "logprobs": GARBAGE,
                    "x": GARBAGE,
                },
            ),
            max_size=3,
        )
        | GARBAGE,
        "usage": GARBAGE,
        "id": GARBAGE,
        "x": GARBAGE,
    },
)
PAYLOADS = st.lists(
    (CHUNK_LIKE | GARBAGE).map(orjson.dumps) | st.sampled_from([b"[DONE]", b"", b"{", b"\xff"]) | st.binary(max_size=8),
    max_size=6,
)


@given(PAYLOADS, st.sampled_from([CHAT, COMPLETIONS]), st.integers(0, 3))
def test_any_sequence_of_events_ends_in_a_body_or_a_request_error(payloads: list[bytes], path: str, n: int) -> None:
    accumulator = accumulator_for(path, {"n": n})
    try:
        accumulator.feed(payloads)
        body = accumulator.result()
    except RequestError as error:
        assert "\n" not in str(error)
    else:
        assert orjson.dumps(body)
        assert body["choices"]


TEXTS = st.lists(
    st.text(max_size=6) | st.sampled_from(['"', "\\", "\n", "?", "a", "index", "content", "é"]), max_size=12
)


@given(TEXTS, st.integers(1, 5), st.sampled_from(["content", "reasoning_content"]), st.booleans())
def test_the_body_is_the_same_for_any_batching_of_the_events(
    texts: list[str], size: int, field: str, spaced: bool
) -> None:
    option = orjson.OPT_INDENT_2 if spaced else None
    deltas: list[dict[str, Any]] = [{"role": "assistant", field: text} for text in texts]
    payloads = [orjson.dumps({**TOP, "choices": [delta(**fields)]}, option=option) for fields in deltas]
    payloads += [chunk(delta(finish_reason="stop")), b"[DONE]"]
    accumulator = accumulator_for(CHAT, {})
    for start in range(0, len(payloads), size):
        accumulator.feed(payloads[start : start + size])
    made = accumulator.result()["choices"][0]["message"]
    assert made["role"] == "assistant"
    assert made.get(field) == "".join(texts) if texts else field not in made or made[field] == ""
