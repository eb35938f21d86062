"""Pieces of tool calls are assembled to the calls that the server meant."""

from __future__ import annotations

import json
import time
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.support.protocol_jobs import CHAT, accumulator_for
from tests.support.slow_cases import slow_except


def calls(*deltas: list[dict[str, Any]]) -> list[tuple[Any, Any, Any]]:
    """Id, name and arguments of the calls assembled of the ``tool_calls`` of these deltas."""
    accumulator = accumulator_for(CHAT, {})
    for pieces in deltas:
        accumulator.feed([orjson.dumps({"choices": [{"index": 0, "delta": {"tool_calls": pieces}}]})])
    accumulator.feed([b'{"choices": [{"index": 0, "finish_reason": "tool_calls"}]}'])
    made = accumulator.result()["choices"][0]["message"]["tool_calls"]
    return [(call.get("id"), call["function"].get("name"), call["function"].get("arguments")) for call in made]


def piece(call_id: Any = None, name: Any = None, arguments: Any = None, **fields: Any) -> dict[str, Any]:
    function = {key: value for key, value in (("name", name), ("arguments", arguments)) if value is not None}
    return {**fields, **({} if call_id is None else {"id": call_id}), "function": function}


INDEXES = pytest.mark.parametrize("index", [{"index": 0}, {"index": None}, {}])


@INDEXES
@pytest.mark.parametrize("in_one_chunk", [True, False])
def test_new_id_begins_a_new_call_whatever_the_index(index: dict[str, Any], in_one_chunk: bool) -> None:
    first, second = piece("a", "f", '{"x": 1}', **index), piece("b", "f", '{"x": 2}', **index)
    deltas = [[first, second]] if in_one_chunk else [[first], [second]]
    assert calls(*deltas) == [("a", "f", '{"x": 1}'), ("b", "f", '{"x": 2}')]


@INDEXES
@pytest.mark.parametrize("name", ["f", "g"])
def test_name_after_complete_arguments_begins_a_new_call(index: dict[str, Any], name: str) -> None:
    deltas = [piece(None, "f", '{"x"', **index), piece(None, None, ": 1}", **index), piece(None, name, "{}", **index)]
    assert calls(*([delta] for delta in deltas)) == [(None, "f", '{"x": 1}'), (None, name, "{}")]


@INDEXES
def test_repeated_name_is_not_glued(index: dict[str, Any]) -> None:
    for call_id in ("a", None):
        deltas = [[piece(call_id, "read_file", text, **index)] for text in ("", '{"path"', ': "x"}')]
        assert calls(*deltas) == [(call_id, "read_file", '{"path": "x"}')]


def test_name_in_pieces_is_concatenated() -> None:
    assert calls([piece("a", "read_", index=0)], [piece(None, "file", "{}", index=0)]) == [("a", "read_file", "{}")]


@INDEXES
def test_pieces_without_id_go_to_the_last_call_begun_on_their_index(index: dict[str, Any]) -> None:
    deltas = [
        [piece("a", "f", "", **index)],
        [piece(None, None, "{}", **index)],
        [piece("b", "g", "", **index)],
        [piece("", None, '{"y"', **index)],
        [piece(None, None, ": 2}", **index)],
    ]
    assert calls(*deltas) == [("a", "f", "{}"), ("b", "g", '{"y": 2}')]


def test_pieces_of_parallel_calls_may_alternate() -> None:
    by_index = [[piece("a", "f", "", index=0), piece("b", "g", "", index=1)]]
    by_index += [
        [piece(None, None, "[1", index=1)],
        [piece(None, None, "[0", index=0)],
        [piece(arguments="]", index=1)],
    ]
    assert calls(*by_index, [piece(arguments="]", index=0)]) == [("a", "f", "[0]"), ("b", "g", "[1]")]
    by_id = [[piece("a", "f", "[")], [piece("b", "g", "[")], [piece("a", None, "0]")], [piece("b", None, "1]")]]
    assert calls(*by_id) == [("a", "f", "[0]"), ("b", "g", "[1]")]


def test_same_id_under_two_indexes_is_two_calls() -> None:
    assert calls([piece("x", "f", "{}", index=0), piece("x", "g", "{}", index=1)]) == [
        ("x", "f", "{}"),
        ("x", "g", "{}"),
    ]


def test_id_made_anew_for_each_piece_of_arguments_begins_no_call() -> None:
    deltas = [
        [piece("r1", "f", '{"x"', index=0)],
        [piece("r2", None, ": 1", index=0)],
        [piece("r3", None, "}", index=0)],
    ]
    assert calls(*deltas) == [("r1", "f", '{"x": 1}')]


def test_arguments_sent_as_an_object_are_kept() -> None:
    assert calls([piece("a", "f", {"x": 1}), piece("b", "g", {"y": 2})]) == [("a", "f", {"x": 1}), ("b", "g", {"y": 2})]


ARGUMENTS = st.dictionaries(st.text(max_size=3), st.integers() | st.text(max_size=5), max_size=3).map(json.dumps)


@given(
    st.lists(st.tuples(st.sampled_from(["f", "g"]), ARGUMENTS), min_size=1, max_size=4),
    st.integers(1, 4),
    st.sampled_from([{"index": 0}, {"index": None}, {}]),
)
def test_calls_are_the_same_however_their_arguments_are_cut(
    wanted: list[tuple[str, str]], size: int, index: dict[str, Any]
) -> None:
    deltas = []
    for number, (name, arguments) in enumerate(wanted):
        deltas.append([piece(f"id-{number}", name, "", **index)])
        deltas += [[piece(arguments=arguments[at : at + size], **index)] for at in range(0, len(arguments), size)]
    assert calls(*deltas) == [(f"id-{number}", *call) for number, call in enumerate(wanted)]


@pytest.mark.parametrize("fields", slow_except([{"id": "a"}, {}, {"name": "f"}], {}))
def test_many_tool_calls_take_linear_time(fields: dict[str, Any]) -> None:
    began = time.process_time()
    pieces = [piece(f"{number}", "f", "{}") for number in range(20_000)]
    assert len(calls(pieces)) == 20_000
    repeated = [piece(fields.get("id"), fields.get("name"), '"}') for _ in range(20_000)]
    assert len(calls([piece("a", "f", '{"x')], repeated)) >= 1
    assert time.process_time() - began < 5


# ---------------------------------------------------------------- a whole message in a stream


def content(*choices: dict[str, Any]) -> Any:
    accumulator = accumulator_for(CHAT, {})
    accumulator.feed([orjson.dumps({"choices": [{"index": 0, **choice}]}) for choice in choices])
    (made,) = accumulator.result()["choices"]
    assert list(made) == ["index", "message", "finish_reason"]
    return made["message"]["content"]


@pytest.mark.parametrize("message", [None, {}, {"role": "assistant", "content": ""}, {"content": "other"}, "x", 1])
def test_message_beside_deltas_never_replaces_them(message: Any) -> None:
    deltas = [{"delta": {"content": text}, "message": message} for text in ("Hello", " world")]
    assert content(*deltas, {"delta": {}, "message": message, "finish_reason": "stop"}) == "Hello world"


def test_message_in_the_place_of_deltas_is_the_reply() -> None:
    assert content({"message": {"role": "assistant", "content": "Hi"}, "finish_reason": "stop"}) == "Hi"


@pytest.mark.parametrize("name", ["f", ["g"], [1], 3, {}, None])
@pytest.mark.parametrize("arguments", [[1, 2], [None], ["x"], {"a": 1}, 5, "", None])
def test_fields_of_odd_types_are_kept(name: Any, arguments: Any) -> None:
    first, second, third = ({"id": call_id, "function": {"name": name, "arguments": arguments}} for call_id in "abc")
    del third["id"]
    assert calls([first], [second], [third])[0][0] == "a"
    assert calls([{**first, "index": 0}], [{**second, "index": 0}, {**third, "index": 0}])[0][0] == "a"


@given(st.permutations(range(6)))
def test_calls_are_listed_by_their_index_and_otherwise_as_they_came(order: list[int]) -> None:
    pieces = [piece(str(number), "f", "{}", index=number // 2) for number in order]
    expected = sorted(order, key=lambda number: number // 2)
    assert [call_id for call_id, _, _ in calls(pieces)] == [str(number) for number in expected]
