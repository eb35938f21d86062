"""How text and values from outside are shown in one line of a message; how long text is in tokens."""

from __future__ import annotations

from processor.core.secrets import mask_text

CHARS_PER_TOKEN = 4
"""OpenAI's rule of thumb for English text: https://platform.openai.com/tokenizer"""


_EXCERPT_BYTES = 4096
"""More than is shown, so that a secret in it is whole when it is masked."""


def one_line(text: str, max_chars: int = 500) -> str:
    """The beginning of a text on one line, with runs of white space as one space.

    Secrets are masked, before anything is cut off. Characters that could move the cursor, change colours or not be
    written at all become U+FFFD. A text that is longer ends in an ellipsis, which counts among ``max_chars``.
    """
    # A bounded prefix, as the text may be of any size; white space in it may collapse.
    words = " ".join(mask_text(text)[: 8 * max_chars].split())
    line = "".join(char if char.isprintable() else "\N{REPLACEMENT CHARACTER}" for char in words)
    return line if len(line) <= max_chars else line[: max_chars - 1].rstrip() + "…"


def excerpt(data: bytes) -> str:
    """The beginning of a payload on one line: at most 80 characters."""
    return one_line(data[:_EXCERPT_BYTES].decode("utf-8", "replace"), 80)


def json_type(value: object) -> str:
    """The JSON type of a value, as it reads in a message: ``a string``, ``an empty array``, ``null``."""
    if value is None:
        return "null"
    names = ((bool, "a boolean"), (str, "a string"), (list, "an array"), (dict, "an object"))
    name = next((name for kind, name in names if isinstance(value, kind)), "a number")
    return f"an empty {name.split()[-1]}" if value in ("", [], {}) else name
