"""JSON that is nearly right is read, and what had to be changed is named."""

from __future__ import annotations

import json

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from processor.core.errors import RequestError
from processor.protocols import SseDecoder
from processor.protocols.lenient_json import join_halves, loads_lenient, repaired_json
from tests.support.protocol_jobs import CHAT, accumulator_for


def loaded(data: bytes) -> tuple[object, set[str]]:
    altered: set[str] = set()
    return join_halves(loads_lenient(data, altered), altered), altered


@pytest.mark.parametrize(
    ("data", "value", "altered"),
    [
        (b'{"a": NaN}', {"a": None}, {"nan"}),
        (b'{"a": [-Infinity, Infinity, 1.5]}', {"a": [None, None, 1.5]}, {"nan"}),
        (b'{"a": "NaN"}', {"a": "NaN"}, set()),
        (b'{"a": "x\xff"}', {"a": "x\N{REPLACEMENT CHARACTER}"}, {"utf8"}),
        (b'{"a": "\\ud83d\\ude00"}', {"a": "\N{GRINNING FACE}"}, set()),
        (b'{"a": "x\\ud83dy"}', {"a": "x\N{REPLACEMENT CHARACTER}y"}, {"surrogate"}),
        (b'{"\\ude00": ["\\uDE00"]}', {"\N{REPLACEMENT CHARACTER}": ["\N{REPLACEMENT CHARACTER}"]}, {"surrogate"}),
        (b'{"a": "\\\\ud83d"}', {"a": "\\ud83d"}, set()),
    ],
)
def test_nearly_right_json_is_read(data: bytes, value: object, altered: set[str]) -> None:
    assert loaded(data) == (value, altered)
    repaired = repaired_json(data, set())
    assert repaired is not None
    assert orjson.loads(repaired) == value


@pytest.mark.parametrize("data", [b"", b"{", b'{"a": nan}', b"hello", b"[" * 100_000, b'{"a": 1' + b"0" * 5000 + b"}"])
def test_anything_else_is_not_json(data: bytes) -> None:
    with pytest.raises(ValueError):
        loads_lenient(data, set())
    assert repaired_json(data, set()) is None


def event(content: str, finish_reason: str | None = None, raw: str = "null") -> bytes:
    """A chunk whose content is written as it stands, escapes included."""
    return (
        f'data: {{"id": "c", "choices": [{{"index": 0, "delta": {{"content": "{content}"}}, '
        f'"logprobs": {raw}, "finish_reason": {json.dumps(finish_reason)}}}]}}\n\n'
    ).encode()


def read(*events: bytes) -> tuple[str, set[str]]:
    decoder, accumulator = SseDecoder(), accumulator_for(CHAT, {})
    accumulator.feed(decoder.feed(b"".join(events)))
    accumulator.feed(decoder.finish())
    text = accumulator.result()["choices"][0]["message"]["content"]
    return text, set(accumulator.altered)


def test_halves_of_a_pair_in_two_chunks_are_joined() -> None:
    assert read(event("Hi \\ud83d"), event("\\ude00!", "stop")) == ("Hi \N{GRINNING FACE}!", set())
    many = [event("a")] * 20
    assert read(*many, event("\\ud83d"), event("\\ude00"), *many, event("", "stop"))[0] == (
        "a" * 20 + "\N{GRINNING FACE}" + "a" * 20
    )


def test_half_of_a_pair_alone_becomes_a_replacement_character() -> None:
    assert read(event("Hi \\ud83d"), event("!", "stop")) == ("Hi \N{REPLACEMENT CHARACTER}!", {"surrogate"})


def test_text_popped_from_a_stream_with_half_a_pair_can_be_written() -> None:
    accumulator = accumulator_for(CHAT, {})
    accumulator.feed(SseDecoder().feed(event("Hi \\ud83d")))
    assert accumulator.pop_text().encode() == "Hi \N{REPLACEMENT CHARACTER}".encode()


def test_invalid_utf8_and_infinity_in_a_stream_are_replaced() -> None:
    broken = event("Hi X there").replace(b"X", b"\xf0\x9f")
    assert read(broken, event("", "stop")) == ("Hi \N{REPLACEMENT CHARACTER} there", {"utf8"})
    assert read(event("a", raw='{"content": [{"logprob": -Infinity}]}'), event("b", "stop")) == ("ab", {"nan"})


def test_events_separated_by_single_line_ends_are_read() -> None:
    events = [event("Hello"), event(" world"), *[event("!")] * 20, event("", "stop"), b"data: [DONE]\n\n"]
    assert read(*(data[:-1] for data in events)) == ("Hello world" + "!" * 20, set())


@pytest.mark.parametrize("end", [b"data: [DONE]", b"data:[DONE]\n", event("", "stop").rstrip(b"\n")])
def test_last_event_without_its_line_end_is_read(end: bytes) -> None:
    assert read(event("Hello"), end)[0] == "Hello"


def test_null_in_the_place_of_an_index_is_read_as_no_index() -> None:
    choice = {"index": None, "delta": {"content": "a", "tool_calls": None}, "logprobs": None, "finish_reason": "stop"}
    data = orjson.dumps({"id": None, "choices": [choice], "usage": None})
    assert read(b"data: %b\n\n" % data)[0] == "a"
    call = {"index": None, "id": "a", "function": {"name": "f", "arguments": "{}"}}
    accumulator = accumulator_for(CHAT, {})
    accumulator.feed([orjson.dumps({"choices": [{"delta": {"tool_calls": [call]}, "finish_reason": "tool_calls"}]})])
    assert accumulator.result()["choices"][0]["message"]["tool_calls"] == [
        {"id": "a", "function": {"name": "f", "arguments": "{}"}}
    ]


def test_choice_without_text_beside_others_is_read() -> None:
    first = {"index": 0, "delta": {"content": "a"}, "finish_reason": "stop"}
    accumulator = accumulator_for(CHAT, {"n": 2})
    accumulator.feed([orjson.dumps({"choices": [first, {"index": 1, "finish_reason": "stop"}]})])
    assert [choice["message"]["content"] for choice in accumulator.result()["choices"]] == ["a", ""]


STREAM = b"".join([event("Hi \\ud83d"), event("\\ude00"), event(" NaN", raw="NaN"), event("", "stop")])


@given(st.integers(0, len(STREAM) - 60), st.binary(max_size=3))
def test_cut_or_broken_stream_is_no_reply_but_an_error_of_this_package(place: int, noise: bytes) -> None:
    try:
        text, _ = read(STREAM[:place] + noise)
    except RequestError:
        return
    assert text is None
