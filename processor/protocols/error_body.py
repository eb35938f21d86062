"""What an error answer says, in any of the shapes that servers and proxies give it."""

from __future__ import annotations

import re
from dataclasses import dataclass
from html import unescape
from typing import Any

import orjson

from processor.core.models import JSON

_MAX_MESSAGE = 500
_MAX_PAGE = 8192
"""Enough for a title; the searches below are quadratic in the worst page."""
_INVISIBLE = re.compile(rb"(?is)<(script|style|head)\b.*?</\1\s*>|<!--.*?-->")
_TITLE = re.compile(rb"(?is)<title[^>]*>(.*?)</title")
_TAG = re.compile(rb"(?s)<[^>]*>")


@dataclass(frozen=True, slots=True, kw_only=True)
class ErrorBody:
    message: str
    """One line of at most 500 characters; empty where nothing readable was said."""
    kinds: tuple[str, ...] = ()
    """The server's own codes and types for it, the most telling first."""
    status: int | None = None
    """The HTTP status named inside the body."""
    body: JSON | None = None
    request_id: str | None = None


def parse_error_body(data: bytes) -> ErrorBody:
    try:
        decoded = orjson.loads(data)
    except orjson.JSONDecodeError:
        return ErrorBody(message=one_line(_readable(data)))
    if isinstance(decoded, list) and decoded and isinstance(decoded[0], dict):  # Gemini
        decoded = decoded[0]
    if isinstance(decoded, dict):
        return saying_of(decoded)
    return ErrorBody(message=one_line(decoded if isinstance(decoded, str) else ""))


def saying_of(body: JSON) -> ErrorBody:
    """The same for a decoded body: `{"error": {...}}`, `{"error": "..."}`, or the error's fields at the top."""
    error = body.get("error")
    fields = error if isinstance(error, dict) else body
    request = body.get("request_id")
    return ErrorBody(
        message=one_line(error if isinstance(error, str) else _message(fields)),
        kinds=tuple(kind for kind in _kinds(fields) if kind and not kind.isdigit()),
        status=_status(fields),
        body=body,
        request_id=request if isinstance(request, str) else None,
    )


def one_line(text: str) -> str:
    """At most 500 printable characters of it."""
    visible = (char if char.isprintable() else " " for char in text[: 8 * _MAX_MESSAGE])
    line = " ".join("".join(visible).split())
    return line if len(line) <= _MAX_MESSAGE else line[: _MAX_MESSAGE - 1] + "…"


def _kinds(fields: JSON) -> list[str]:
    details = fields.get("details")
    inner = details.get("error_code") if isinstance(details, dict) else None
    named = (inner, fields.get("code"), fields.get("type"))
    return [kind for kind in named if isinstance(kind, str)]


def _status(fields: JSON) -> int | None:
    code = fields.get("code")
    status = int(code) if isinstance(code, str) and re.fullmatch(r"[1-5]\d\d", code, re.ASCII) else code
    return status if type(status) is int and 400 <= status <= 599 else None


def _message(fields: JSON) -> str:
    for name in ("message", "detail", "title", "msg"):
        value = fields.get(name)
        if isinstance(value, str) and value:
            return value
        if isinstance(value, list):  # FastAPI's list of what is wrong with the request
            return "; ".join(_detail(item) for item in value[:5])
    return ""


def _detail(item: Any) -> str:
    if not isinstance(item, dict):
        return str(item)
    where, what = item.get("loc"), str(item.get("msg", ""))
    return f"{'.'.join(map(str, where))}: {what}" if isinstance(where, list) else what


def _readable(data: bytes) -> str:
    """Plain text as it is; of a page its title, or its text where it has none."""
    if b"<" not in data:
        return data.decode("utf-8", "replace")
    data = data[:_MAX_PAGE]
    title = _TITLE.search(data)
    page = title.group(1) if title else _TAG.sub(b" ", _INVISIBLE.sub(b" ", data))
    return unescape(page.decode("utf-8", "replace"))
