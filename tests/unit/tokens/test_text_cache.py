"""Counting with a cache: repeated texts, very long texts, and what a text is split at."""

from __future__ import annotations

import time
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from processor.tokens.encoding_files import ENCODING_FILES, load
from processor.tokens.rules import CountText
from processor.tokens.text_cache import MAX_CACHED_TEXTS, MAX_CACHED_WORDS, MAX_PIECE_CHARS, TextCounter, split_text
from tests.support.slow_cases import slow_except

PROSE = "The harbour was quiet at 5:30, and it's said 'twas foggy...\n\n  Still, 12345 boats  sailed!\t"


def recording_counter() -> tuple[CountText, list[str]]:
    """Return a counter, and the list of the texts that are passed to its encoder."""
    encoded: list[str] = []

    def encode(text: str) -> list[int]:
        encoded.append(text)
        return [0] * len(text)

    return TextCounter(encode).count, encoded


def test_a_repeated_text_is_encoded_once() -> None:
    count, encoded = recording_counter()
    assert [count("x" * 500) for _ in range(3)] == [500, 500, 500]
    assert len(encoded) == 1


def test_a_shared_system_prompt_stays_cached_among_any_number_of_other_texts() -> None:
    count, encoded = recording_counter()
    for other in range(10 * MAX_CACHED_TEXTS):
        count("s" * 500)
        count(f"{other:0300}")
    assert encoded.count("s" * 500) == 1


def test_very_long_texts_are_not_cached() -> None:
    count, encoded = recording_counter()
    count("x" * 50_000)
    count("x" * 50_000)
    assert len(encoded) == 2


@given(st.text(alphabet="ab \n", max_size=60), st.integers(1, 12), st.integers(0, 12))
def test_the_pieces_of_a_split_text_are_bounded_and_join_to_the_text(text: str, size: int, within: int) -> None:
    cut = list(split_text(text, size, min(within, size - 1)))
    assert "".join(cut) == text
    assert all(0 < len(piece) <= size for piece in cut) or text == ""


def test_a_text_is_cut_before_the_first_of_several_spaces() -> None:
    assert list(split_text("12345   90", 8, 8)) == ["12345", "   90"]


@pytest.mark.parametrize("encoding", ENCODING_FILES)
@given(
    text=st.lists(
        st.sampled_from([*PROSE, "’", "é", "漢", " ", " the", " x", "'s", "1 ", "! ", "\n "]), max_size=200
    ).map("".join),
    size=st.integers(20, 90),
)
def test_pieces_cut_between_words_have_as_many_tokens_as_the_text(encoding: str, text: str, size: int) -> None:
    encode = load(encoding).encode_ordinary
    cut = list(split_text(text, size, size - 1))
    if all(piece[0] == " " and not before[-1].isspace() for before, piece in pairwise(cut)):
        assert sum(len(encode(piece)) for piece in cut) == len(encode(text))


TEXT_PARTS = [
    *PROSE,
    *"\n\t\r\u00a0\u2003\x1c",
    "’",
    "é",
    "漢",
    "😀",
    " ",
    "  ",
    " the",
    " x",
    "'s",
    "1 ",
    "! ",
    "\n ",
    "foo\n",
    " \n",
]


@pytest.mark.parametrize("encoding", ENCODING_FILES)
@given(
    texts=st.lists(st.lists(st.sampled_from(TEXT_PARTS) | st.text(max_size=3), max_size=40).map("".join), max_size=6)
)
def test_words_that_have_come_before_are_counted_exactly(encoding: str, texts: list[str]) -> None:
    encode = load(encoding).encode_ordinary
    count = TextCounter(encode).count
    for text in [*texts, *reversed(texts), " ".join(texts)]:
        twice = f"{text} {text}"  # not in the cache of whole texts
        assert count(twice) == len(encode(twice))


def test_words_are_encoded_once() -> None:
    encoded: list[str] = []

    def encode(text: str) -> list[int]:
        encoded.append(text)
        return [0]

    count = TextCounter(encode).count
    assert count("one two three") == 3
    assert count("one three two two") == 4
    assert encoded == ["one", " two", " three"]


def test_a_new_word_is_encoded_once_for_each_text_however_many_words_have_come() -> None:
    count, encoded = recording_counter()
    known = ["the", "order", "of"]
    for number in range(3 * MAX_CACHED_WORDS):
        count(" ".join([*known, f"n{number}", *known, f"n{number}", *known, *known, *known]))
    assert encoded.count(f" n{3 * MAX_CACHED_WORDS - 1}") == 1
    assert encoded.count(" order") == 1


def test_the_first_and_the_last_word_of_texts_are_encoded_once() -> None:
    count, encoded = recording_counter()
    for middle in ("two", "two two", "two two two"):
        assert count(f"one {middle} three\n") == len(f"one {middle} three\n")
    assert encoded == ["one", " three\n", " two"]


def test_texts_whose_words_do_not_repeat_are_encoded_whole() -> None:
    count, encoded = recording_counter()
    texts = [" ".join(f"{text}-{word}" for word in range(1000)) for text in range(60)]
    assert [count(text) for text in texts] == [len(text) for text in texts]
    assert encoded[-10:] == texts[-10:]


@pytest.mark.parametrize("encoding", slow_except(["o200k_base", "cl100k_base", "r50k_base"], "o200k_base"))
@pytest.mark.parametrize("character", slow_except(["a", " ", "\n", "!", "漢"], " "), ids=ascii)
def test_a_million_equal_characters_are_counted_in_seconds(encoding: str, character: str) -> None:
    count = TextCounter(load(encoding).encode_ordinary).count
    before = time.process_time()
    assert count(character * 1_000_000 + "x") > 5_000
    assert time.process_time() - before < 10  # a bound against minutes, not a measurement: about 0.4 s


def test_a_megabyte_of_prose_is_counted_exactly() -> None:
    encode = load("cl100k_base").encode_ordinary
    text = PROSE * 10_000
    assert len(text) > 5 * MAX_PIECE_CHARS
    assert TextCounter(encode).count(text) == len(encode(text))


def test_a_text_without_spaces_is_counted_with_an_error_of_a_few_tokens() -> None:
    encode = load("o200k_base").encode_ordinary
    text = "abcdefghij" * 25_000
    assert TextCounter(encode).count(text) == pytest.approx(len(encode(text)), abs=6)


def test_half_a_surrogate_pair_counts_like_the_replacement_character() -> None:
    count = TextCounter(load("o200k_base").encode_ordinary).count
    assert count("a\ud800b" * 100_000) == pytest.approx(count("a\N{REPLACEMENT CHARACTER}b" * 100_000), abs=9)
