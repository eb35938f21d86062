"""Counts the tokens of a text: cached for texts that repeat, with bounded work for very long texts."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import lru_cache

MAX_PIECE_CHARS = 100_000
"""tiktoken splits words with a backtracking regular expression. About a million spaces in a row overflow its stack,
which ends in a Rust panic that is not an ``Exception``. A piece of this size takes 3 to 80 ms, for any text."""

BREAK_WITHIN_CHARS = 2_000
"""How far before the end of a piece a harmless place to cut is looked for."""

CACHED_TEXT_CHARS = range(1, 20_000)
"""Lengths of texts that are cached. Roles, system prompts and tools repeat: a lookup of 500 characters takes 0.4 µs,
encoding them 20 µs, and a role 2 µs. Longer texts would need too much memory."""

MAX_CACHED_TEXTS = 64


class TextCounter:
    """Counts with one encoding. Text that looks like a special token is counted as text."""

    def __init__(self, encode_ordinary: Callable[[str], list[int]]) -> None:
        self._encode = encode_ordinary
        self._cached = lru_cache(maxsize=MAX_CACHED_TEXTS)(self._count)

    def __call__(self, text: str) -> int:
        if len(text) in CACHED_TEXT_CHARS:
            return self._cached(text)
        if len(text) <= MAX_PIECE_CHARS:
            return len(self._encode(text))
        return sum(map(self._count, split_text(text)))

    def _count(self, text: str) -> int:
        return len(self._encode(text))


def split_text(text: str, max_chars: int = MAX_PIECE_CHARS, within: int = BREAK_WITHIN_CHARS) -> Iterator[str]:
    """Split a text into pieces of at most ``max_chars`` characters whose tokens add up to those of the whole.

    In every encoding a word includes the space before it, and none ends with a space: a cut before a single space is
    exact. Where there is no such place in the last ``within`` characters, the sum is off by a few tokens at most.
    """
    start = 0
    while len(text) - start > max_chars:
        end = _last_break(text, start + max_chars - within, start + max_chars)
        yield text[start:end]
        start = end
    yield text[start:]


def _last_break(text: str, low: int, high: int) -> int:
    """The place to cut in (low, high]: the last space that follows no space, else ``high``."""
    at = text.rfind(" ", low + 1, high)
    while at != -1 and text[at - 1].isspace():
        at = text.rfind(" ", low + 1, at)
    return high if at == -1 else at
