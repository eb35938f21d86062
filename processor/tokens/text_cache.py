"""Counts the tokens of a text: cached for texts and words that repeat, with bounded work for very long texts.

Encoding a word with tiktoken takes ten times as long as looking it up, and most words of a job file have come before.
In every encoding a word includes the space before it, and none ends with a space. So the tokens of a text are those of
its words, where each space follows something else than white space.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import lru_cache

MAX_PIECE_CHARS = 100_000
"""tiktoken splits words with a backtracking regular expression. About a million spaces in a row overflow its stack,
which ends in a Rust panic that is not an ``Exception``. A piece of this size takes 3 to 80 ms, for any text."""

BREAK_WITHIN_CHARS = 2_000
"""How far before the end of a piece a harmless place to cut is looked for."""

MAX_CACHED_TEXT_CHARS = 20_000
"""Texts that are not longer are cached. Roles, system prompts and tools repeat: a lookup of 500 characters takes
0.4 µs, encoding them 20 µs, and a role 2 µs. Longer texts would need too much memory."""

MAX_CACHED_TEXTS = 64

MAX_CACHED_WORDS = 1 << 13
"""Then the words become the older half of the table, in place of those before: about 2 MB in all."""

MAX_CACHED_WORD_CHARS = 32

MAX_CACHED_ENDS = 1 << 10
"""First words of texts, which have no space before them, and last words with the white space behind them."""

MAX_MISSED_SHARE = 0.25
"""Where more words than this have to be encoded, encoding whole texts takes less time."""

TRIAL_WORDS = 1 << 15
"""Words after which the share counts: at first none is known."""

_NOT_SEPARATE = 1 << 60
"""Count of a word that cannot be counted by itself: more than any text has."""


class WordTokens(dict[str, int]):
    """The number of tokens of each word with a space before it.

    Words that have not come for a while are forgotten, so that the table never fills up with numbers and names: without
    that, a new name that stands ten times in a text would be encoded ten times.
    """

    def __init__(self, encode_ordinary: Callable[[str], list[int]]) -> None:
        super().__init__()
        self._encode = encode_ordinary
        self._cached_end = lru_cache(maxsize=MAX_CACHED_ENDS)(lambda text: len(encode_ordinary(text)))
        self._older: dict[str, int] = {}
        """The words that were in the table when it was last full. One that comes again is taken over."""
        self.missed = 0
        """Words that were encoded."""

    def __missing__(self, word: str) -> int:
        if not word or word[-1].isspace():
            return _NOT_SEPARATE  # the space behind it belongs to a run of white space
        tokens = self._older.get(word)
        if tokens is None:
            return self.add(word)
        self._keep(word, tokens)
        return tokens

    def add(self, word: str) -> int:
        """Count a word that is not in the table, and does not end with white space."""
        self.missed += 1
        tokens = len(self._encode(f" {word}"))
        if 0 < len(word) <= MAX_CACHED_WORD_CHARS:
            self._keep(word, tokens)
        return tokens

    def of_end(self, text: str) -> int:
        """Count what is separate only at the beginning of a text, or at its end: elsewhere text may go on with it."""
        return self._cached_end(text) if len(text) <= MAX_CACHED_WORD_CHARS else len(self._encode(text))

    def _keep(self, word: str, tokens: int) -> None:
        if len(self) >= MAX_CACHED_WORDS:
            self._older = self.copy()
            self.clear()
        self[word] = tokens

    def _of_unfinished(self, words: list[str]) -> int:
        """As ``of_all``, for a text that ends with white space."""
        last = len(words) - 1
        while last and (not words[last - 1] or words[last - 1][-1].isspace()):
            last -= 1
        tokens = self.of_end(" " + " ".join(words[last:]))
        return tokens + self.of_all(words[:last]) if last else tokens

    def of_all(self, words: list[str]) -> int:
        """The tokens of words of which each has a space before it."""
        if not words[-1] or words[-1][-1].isspace():
            return self._of_unfinished(words)
        tokens = sum(map(self.__getitem__, words))
        if tokens < _NOT_SEPARATE:
            return tokens
        joined = _join_at_white_space(words)
        return sum(self.get(word) or self.add(word) for word in joined)


def _join_at_white_space(words: list[str]) -> Iterator[str]:
    """The words, with those joined again between which a run of white space stands."""
    joined = words[0]
    for word in words[1:]:
        if joined and not joined[-1].isspace():
            yield joined
            joined = word
        else:
            joined = f"{joined} {word}"
    yield joined


class TextCounter:
    """Counts with one encoding. Text that looks like a special token is counted as text."""

    def __init__(self, encode_ordinary: Callable[[str], list[int]]) -> None:
        self._encode = encode_ordinary
        self._cached = lru_cache(maxsize=MAX_CACHED_TEXTS)(self._count)
        self._words = WordTokens(encode_ordinary)
        self._looked_up = 0
        """Words of all texts."""

    def count(self, text: str) -> int:
        if len(text) <= MAX_CACHED_TEXT_CHARS:
            return self._cached(text)
        if len(text) <= MAX_PIECE_CHARS:
            return self._count(text)
        return sum(map(self._count, split_text(text)))

    def _count(self, text: str) -> int:
        if self._words.missed > TRIAL_WORDS + MAX_MISSED_SHARE * self._looked_up:
            return len(self._encode(text))
        first, *words = text.split(" ")
        if not words or first[-1:].isspace():
            return len(self._encode(text))
        self._looked_up += len(words)
        return (self._words.of_end(first) if first else 0) + self._words.of_all(words)


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
