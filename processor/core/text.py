"""Text from outside, made fit for a line of our own; and what a text weighs in tokens."""

from __future__ import annotations

CHARS_PER_TOKEN = 4
"""OpenAI's rule of thumb for English text: https://platform.openai.com/tokenizer"""


def one_line(text: str, max_chars: int = 500) -> str:
    """The beginning of a text on one line: printable characters only, runs of white space as one space.

    A text that is longer ends in an ellipsis, which counts among ``max_chars``.
    """
    # A bounded prefix, as the text may be of any size; white space in it may collapse.
    printable = "".join(char if char.isprintable() else " " for char in text[: 8 * max_chars])
    line = " ".join(printable.split())
    return line if len(line) <= max_chars else line[: max_chars - 1].rstrip() + "…"
