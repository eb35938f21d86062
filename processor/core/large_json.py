"""Decodes large JSON in pieces. Pure.

orjson takes a whole value in one step: no other thread runs meanwhile, and what it builds beside the result takes up to
four times the bytes of dense JSON. Here only small values are left to it; those that hold them are taken apart.
"""

from __future__ import annotations

import re
from typing import Any

import orjson

from processor.core.lazy_pattern import LazyPattern

PIECE_BYTES = 64 * 1024
"""A value that is not larger, and neighbours that together are not, are left to orjson."""
MAX_DEPTH = 100
"""Values that are nested deeper are not decoded here."""
_MAX_NESTED = 8
"""A value in which others are nested deeper is taken apart even if it is small."""
_BACKSLASH = ord("\\")

_STRING = rb'"[^"\\]*+(?:\\.[^"\\]*+)*+"'
_WHITE = rb"[ \t\r\n]*+"


def _container(depth: int) -> bytes:
    """A pattern of balanced brackets. What is between them is left to orjson, which is strict."""
    inner = b"" if depth == 1 else b"|" + _container(depth - 1)
    return rb'[\[{](?:[^\[\]{}"]++|' + _STRING + inner + rb")*+[\]}]"


def _run_of(member: bytes, end: bytes) -> LazyPattern[bytes]:
    """Members of a list or an object that lie wholly within the searched bytes, and what follows them."""
    member = _WHITE + member + rb"(?=[,\%b])" % end
    return LazyPattern(member + rb"(?:," + member + rb")*+", re.DOTALL)


_VALUE = rb"(?:" + _STRING + rb"|" + _container(_MAX_NESTED) + rb'|[^\[\]{}",\s]++)' + _WHITE
_ITEMS = _run_of(_VALUE, b"]")
_FIELDS = _run_of(_STRING + _WHITE + b":" + _WHITE + _VALUE, b"}")
_NUMBER = re.compile(rb'[^\[\]{}",\s]++')
_SPACE = re.compile(_WHITE)


class NotDecoded(Exception):
    """The value is not JSON, or nested deeper than MAX_DEPTH. orjson says what is wrong."""


def loads(data: bytes) -> Any:
    """The same as ``orjson.loads``. Raises NotDecoded."""
    try:
        value, end = _value(data, _skip_space(data, 0), 0)
    except orjson.JSONDecodeError:
        raise NotDecoded from None
    if _skip_space(data, end) < len(data):
        raise NotDecoded
    return value


def _skip_space(data: bytes, start: int) -> int:
    found = _SPACE.match(data, start)
    assert found is not None  # it matches nothing at least
    return found.end()


def _value(data: bytes, start: int, depth: int) -> tuple[Any, int]:
    """The value that begins here, which may be large, and where it ends."""
    first = data[start : start + 1]
    if depth >= MAX_DEPTH - _MAX_NESTED:
        raise NotDecoded
    if first == b"[":
        return _list(data, start + 1, depth)
    if first == b"{":
        return _object(data, start + 1, depth)
    if first == b'"':
        return _string(data, start)
    found = _NUMBER.match(data, start)
    if found is None:
        raise NotDecoded
    return orjson.loads(found[0]), found.end()


def _string(data: bytes, start: int) -> tuple[str, int]:
    if data[start : start + 1] != b'"':
        raise NotDecoded
    end = start
    while (end := data.find(b'"', end + 1)) >= 0:
        before = end - 1
        while data[before] == _BACKSLASH:
            before -= 1
        if (end - before) % 2:  # an even number of backslashes
            return orjson.loads(data[start : end + 1]), end + 1
    raise NotDecoded


def _list(data: bytes, start: int, depth: int) -> tuple[list[Any], int]:
    items: list[Any] = []
    start = _skip_space(data, start)
    if data[start : start + 1] == b"]":
        return items, start + 1
    while True:
        found = _ITEMS.match(data, start, start + PIECE_BYTES)
        if found is not None:
            items.extend(orjson.loads(b"[%b]" % found[0]))
            start = found.end()
        else:
            item, start = _value(data, _skip_space(data, start), depth + 1)
            items.append(item)
            start = _skip_space(data, start)
        if data[start : start + 1] == b"]":
            return items, start + 1
        start = _expect(data, start, b",")


def _object(data: bytes, start: int, depth: int) -> tuple[dict[str, Any], int]:
    fields: dict[str, Any] = {}
    start = _skip_space(data, start)
    if data[start : start + 1] == b"}":
        return fields, start + 1
    while True:
        found = _FIELDS.match(data, start, start + PIECE_BYTES)
        if found is not None:
            fields.update(orjson.loads(b"{%b}" % found[0]))
            start = found.end()
        else:
            name, start = _string(data, _skip_space(data, start))
            start = _skip_space(data, _expect(data, _skip_space(data, start), b":"))
            fields[name], start = _value(data, start, depth + 1)
            start = _skip_space(data, start)
        if data[start : start + 1] == b"}":
            return fields, start + 1
        start = _expect(data, start, b",")


def _expect(data: bytes, start: int, mark: bytes) -> int:
    if data[start : start + 1] != mark:
        raise NotDecoded
    return start + 1
