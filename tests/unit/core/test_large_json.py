"""JSON that is decoded in pieces gives what orjson makes of it as a whole."""

from __future__ import annotations

from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from processor.core import large_json

TEXTS = st.text(st.sampled_from('ab"\\{}[],: \n\u00e9\U0001f600'), max_size=30)
SCALARS = st.one_of(TEXTS, st.integers(-(2**63), 2**64 - 1), st.floats(allow_nan=False), st.none(), st.booleans())


def nested(inner: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    return st.one_of(st.lists(inner, max_size=6), st.dictionaries(TEXTS, inner, max_size=6))


VALUES = st.recursive(SCALARS, nested, max_leaves=60)


@pytest.fixture(autouse=True)
def small_pieces(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(large_json, "PIECE_BYTES", 24)


def decoded(data: bytes) -> Any:
    try:
        return large_json.loads(data)
    except large_json.NotDecoded:
        return "not decoded"


def decoded_whole(data: bytes) -> Any:
    try:
        return orjson.loads(data)
    except orjson.JSONDecodeError:
        return "not decoded"


@given(VALUES, st.booleans())
def test_value_is_that_of_orjson(value: Any, indented: bool) -> None:
    data = orjson.dumps(value, option=orjson.OPT_INDENT_2 if indented else 0)
    assert decoded(data) == orjson.loads(data)


@given(VALUES, st.integers(0, 10_000), st.sampled_from([bytes((byte,)) for byte in b'[]{},:"\\0a \x01\xff'] + [b""]))
def test_damaged_value_is_refused_as_by_orjson(value: Any, place: int, damage: bytes) -> None:
    data = orjson.dumps(value)
    place %= len(data)
    data = data[:place] + damage + data[place + 1 :]
    assert decoded(data) == decoded_whole(data)


@pytest.mark.parametrize(
    "data",
    [
        b"[%b]" % b",".join([b"12345"] * 40),
        b'{"a":1,"b":{"c":"%b"},"a":[]}' % (b"x" * 100),
        b" [ [ ] , { } , [ [ 1 ] ] ] ",
        b'["%b"]' % (b'\\\\\\"' * 30),
        b"[" * 60 + b'"%b"' % (b"y" * 50) + b"]" * 60,
        b"1" * 100,
        b'"' + b"z" * 100 + b'"',
        b"[1,]",
        b'{"a"}',
        b"[1" * 20,
        b"[1]]",
        b"",
    ],
)
def test_edges_are_those_of_orjson(data: bytes) -> None:
    assert decoded(data) == decoded_whole(data)


def test_value_that_is_nested_too_deep_is_left_to_others() -> None:
    with pytest.raises(large_json.NotDecoded):
        large_json.loads(b"[" * 101 + b"]" * 101)
