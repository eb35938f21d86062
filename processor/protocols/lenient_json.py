"""Reads JSON that is nearly right, as servers in Python send it. What had to be changed is named.

``nan``: NaN and infinities, which are null. ``utf8``: bytes that are not UTF-8, which are U+FFFD. ``surrogate``: an
escaped half of a pair (`\\ud83d` without `\\ude00`), which is U+FFFD unless the other half follows, in the same text or
in its next chunk.
"""

from __future__ import annotations

import json
import re
from typing import Any

from processor.core import json_bytes

_SURROGATE = re.compile("[\ud800-\udfff]")


def loads_lenient(data: bytes, altered: set[str]) -> Any:
    """The value of ``data``; what was changed is added to ``altered``. Raises ValueError where it is not JSON.

    Halves of pairs are left in the value, for ``join_halves``.
    """
    try:
        text = data.decode()
    except UnicodeDecodeError:
        text = data.decode("utf-8", "replace")
        altered.add("utf8")

    def null(_: str) -> None:
        altered.add("nan")

    try:
        value: Any = json.loads(text, parse_constant=null)
    except RecursionError:
        raise ValueError("nested too deep") from None
    if "\\ud" in text or "\\uD" in text:
        altered.add("surrogate")
    return value


def join_halves(value: Any, altered: set[str]) -> Any:
    """The value with halves of pairs joined, those that stand alone replaced. ``surrogate`` stays in ``altered`` only
    where one was replaced."""
    altered.discard("surrogate")
    return _join(value, altered)


def _join(value: Any, altered: set[str]) -> Any:
    if isinstance(value, str):
        return joined_text(value, altered) if _SURROGATE.search(value) else value
    if isinstance(value, dict):
        return {_join(name, altered): _join(item, altered) for name, item in value.items()}
    return [_join(item, altered) for item in value] if isinstance(value, list) else value


def joined_text(text: str, altered: set[str]) -> str:
    joined = text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")
    if joined.encode("utf-16-le") != text.encode("utf-16-le", "surrogatepass"):
        altered.add("surrogate")
    return joined


def repaired_json(data: bytes, altered: set[str]) -> bytes | None:
    """The same as JSON that every parser reads; None where that is not possible."""
    try:
        value = join_halves(loads_lenient(data, altered), altered)
        return json_bytes.dumps(value)
    except (ValueError, RecursionError):
        return None
