"""Writes and reads JSON of any value: fast with orjson, and exactly where orjson would change or refuse it. Pure.

orjson reads an integer beyond 64 bits as a float, and writes neither such an integer, nor half a surrogate pair, nor
nesting beyond 254. These are rare, so that they are looked for where a look costs least, and left to ``json``.
"""

from __future__ import annotations

import json
import math
import re
from typing import Any

import orjson

MAX_DEPTH = 300
"""Arrays and objects inside each other. Deeper values are written as null: no parser may be able to read them."""

_NUMBER_STARTS = bytes(
    ord("0") if chr(byte) in "123456789" else ord(",") if chr(byte) in "[:- \t\r\n" else byte for byte in range(256)
)
"""Digits as zeros, and what may stand before a number as a comma: a search for bytes then finds long integers. On the
fractions of an embedding a regular expression takes ten times as long."""
_MANY_DIGITS = b"0" * 19
_LONG_INTEGER = b"," + _MANY_DIGITS
"""Every integer beyond 64 bits has at least 19 digits."""
_SAMPLED = 6
"""Of 19 bytes in a row, three are sampled where each sixth is."""
_LARGE_FLOAT = re.compile(rb"[0-9]e\+[0-9]")


class NotExact(Exception):
    """orjson may have changed an integer of this value, or cannot write it. Decode it with ``json``."""


def dumps(value: Any, option: int = 0) -> bytes:
    """Return the value as compact JSON in UTF-8. ``option``: of orjson.

    NaN and infinities become null, and so does what is nested deeper than MAX_DEPTH.
    """
    try:
        return orjson.dumps(value, option=option)
    except TypeError:
        return _dumps_slowly(value, option)


def _dumps_slowly(value: Any, option: int) -> bytes:
    value, sort_keys = _readable(value, 0), bool(option & orjson.OPT_SORT_KEYS)
    end = b"\n" if option & orjson.OPT_APPEND_NEWLINE else b""
    try:
        return _dump(value, sort_keys, ensure_ascii=False).encode() + end
    except UnicodeEncodeError:  # half a surrogate pair, which can only be escaped
        return _dump(value, sort_keys, ensure_ascii=True).encode() + end


def _dump(value: Any, sort_keys: bool, *, ensure_ascii: bool) -> str:
    return json.dumps(value, separators=(",", ":"), sort_keys=sort_keys, ensure_ascii=ensure_ascii)


def _readable(value: Any, depth: int) -> Any:
    """Return a copy that every parser can read once it is written."""
    if isinstance(value, dict | list | tuple):
        if depth == MAX_DEPTH:
            return None
        if isinstance(value, dict):
            return {key: _readable(item, depth + 1) for key, item in value.items()}
        return [_readable(item, depth + 1) for item in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value


def may_have_long_integer(data: bytes) -> bool:
    """Whether an integer in this JSON could be beyond 64 bits. Also true for some texts with so many digits."""
    if b"000" not in data[::_SAMPLED].translate(_NUMBER_STARTS):  # most JSON: a look at some of the bytes is enough
        return False
    starts = data.translate(_NUMBER_STARTS)
    return _LONG_INTEGER in starts or starts.startswith(_MANY_DIGITS)


def has_large_float(written: bytes) -> bool:
    """Whether JSON that orjson wrote holds a float from 1e16 on, and so, perhaps, an integer that it read as a float.

    Only such floats are written with ``e+``. Few texts have a plus sign: ``0x2B in written`` is the first thing to ask.
    """
    return b"e+" in written and _LARGE_FLOAT.search(written) is not None


def loads_exactly(data: bytes) -> Any:
    """Parse JSON with integers of any size. Raises ValueError."""
    try:
        return json.loads(data)
    except RecursionError:
        raise ValueError("nested too deeply") from None


def is_nested_deeper(value: Any, depth: int = MAX_DEPTH) -> bool:
    """Whether more than ``depth`` arrays and objects stand inside each other."""
    level = [value]
    for _ in range(depth + 1):
        level = [item for item in level if isinstance(item, dict | list)]
        if not level:
            return False
        level = [child for item in level for child in (item.values() if isinstance(item, dict) else item)]
    return True
