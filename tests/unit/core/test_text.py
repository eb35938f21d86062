"""How text and values from outside are shown in a message."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from processor.core.text import excerpt, json_type, one_line


@given(st.text(st.characters()), st.integers(1, 50))
def test_any_text_becomes_one_bounded_printable_line(text: str, max_chars: int) -> None:
    line = one_line(text, max_chars)
    assert len(line) <= max_chars
    assert line.isprintable()
    assert line == " ".join(line.split(" "))


def test_white_space_becomes_one_space_and_what_cannot_be_printed_the_replacement_character() -> None:
    assert one_line("two\nlines\x1b[31m\x00 \t here\u2028\ud800!") == "two lines�[31m� here �!"


def test_a_cut_text_ends_in_an_ellipsis_without_a_space_before_it() -> None:
    assert one_line("a  b\n c" * 100, 9) == "a b ca b…"
    assert one_line("123456789 " * 10, 11) == "123456789…"
    assert one_line("1234567890", 10) == "1234567890"


@given(st.binary(max_size=1000))
def test_the_excerpt_of_any_payload_is_a_printable_line_of_at_most_80_characters(data: bytes) -> None:
    assert len(excerpt(data)) <= 80
    assert excerpt(data).isprintable()


def test_the_excerpt_of_a_short_payload_is_its_text() -> None:
    assert excerpt("Gruß\n\xff".encode("latin-1")[:3]) == "Gru"
    assert excerpt(b"Internal error\n") == "Internal error"


@pytest.mark.parametrize(
    ("value", "name"),
    [
        (None, "null"),
        (True, "a boolean"),
        (0, "a number"),
        (1.5, "a number"),
        ("x", "a string"),
        ("", "an empty string"),
        ([1], "an array"),
        ([], "an empty array"),
        ({"a": 1}, "an object"),
        ({}, "an empty object"),
    ],
)
def test_a_json_value_is_named_by_its_type(value: Any, name: str) -> None:
    assert json_type(value) == name
