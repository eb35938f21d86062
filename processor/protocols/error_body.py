"""Parses the bodies of error responses, in all the shapes that servers and proxies use."""

from __future__ import annotations

import re
from dataclasses import dataclass
from html import unescape
from typing import Any

import orjson

from processor.core.models import JSON
from processor.core.text import one_line

_MAX_PAGE_BYTES = 8192
"""Enough for a title; the searches below are quadratic in the worst case."""
_INVISIBLE = re.compile(rb"(?is)<(script|style|head)\b.*?</\1\s*>|<!--.*?-->")
_TITLE = re.compile(rb"(?is)<title[^>]*>(.*?)</title")
_TAG = re.compile(rb"(?s)<[^>]*>")


@dataclass(frozen=True, slots=True, kw_only=True)
class ErrorBody:
    message: str
    """One line of at most 500 characters; empty where the body has no readable text."""
    codes: tuple[str, ...] = ()
    """The server's own codes and types for the error, the most specific first."""
    status: int | None = None
    """The HTTP status that the body names."""
    body: JSON | None = None
    """The decoded body; None where it is not a JSON object."""
    request_id: str | None = None


def parse_error_body(data: bytes) -> ErrorBody:
    try:
        decoded = orjson.loads(data)
    except orjson.JSONDecodeError:
        return ErrorBody(message=one_line(_readable_text(data)))
    if isinstance(decoded, list) and decoded and isinstance(decoded[0], dict):  # Gemini
        decoded = decoded[0]
    if isinstance(decoded, dict):
        return from_json(decoded)
    return ErrorBody(message=one_line(decoded if isinstance(decoded, str) else ""))


def from_json(body: JSON) -> ErrorBody:
    """Reads `{"error": {...}}`, `{"error": "..."}`, or the error's fields at the top level."""
    error = body.get("error")
    fields = error if isinstance(error, dict) else body
    request_id = body.get("request_id")
    return ErrorBody(
        message=one_line(error if isinstance(error, str) else _message(fields)),
        codes=tuple(code for code in _codes(fields) if code and not code.isdigit()),
        status=_status(fields),
        body=body,
        request_id=request_id if isinstance(request_id, str) else None,
    )


def _codes(fields: JSON) -> list[str]:
    details = fields.get("details")
    inner = details.get("error_code") if isinstance(details, dict) else None
    codes = (inner, fields.get("code"), fields.get("type"))
    return [code for code in codes if isinstance(code, str)]


def _status(fields: JSON) -> int | None:
    code = fields.get("code")
    status = int(code) if isinstance(code, str) and re.fullmatch(r"[1-5]\d\d", code, re.ASCII) else code
    return status if type(status) is int and 400 <= status <= 599 else None


def _message(fields: JSON) -> str:
    for name in ("message", "detail", "title", "msg"):
        value = fields.get(name)
        if isinstance(value, str) and value:
            return value
        if isinstance(value, list):  # FastAPI: one entry for each invalid field
            return "; ".join(_detail(item) for item in value[:5])
    return ""


def _detail(item: Any) -> str:
    if not isinstance(item, dict):
        return str(item)
    location, message = item.get("loc"), str(item.get("msg", ""))
    return f"{'.'.join(map(str, location))}: {message}" if isinstance(location, list) else message


def _readable_text(data: bytes) -> str:
    """Plain text unchanged; of an HTML page its title, or all its text where it has none."""
    if b"<" not in data:
        return data.decode("utf-8", "replace")
    data = data[:_MAX_PAGE_BYTES]
    title = _TITLE.search(data)
    page = title.group(1) if title else _TAG.sub(b" ", _INVISIBLE.sub(b" ", data))
    return unescape(page.decode("utf-8", "replace"))
