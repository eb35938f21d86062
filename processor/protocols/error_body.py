"""Parses the bodies of error responses, in all the shapes that servers and proxies use.

| shape | sent by |
| --- | --- |
| `{"error": {"message", "type", "param", "code"}}` | OpenAI and most others |
| `{"error": "..."}`, `{"code", "error": "..."}` | Ollama, xAI |
| `{"object": "error", "message": {"detail": [...]}}` | Mistral |
| `[{"error": {"code", "message", "status", "details"}}]` | Gemini |
| `{"detail": "..."}`, `{"detail": [{"loc", "msg", "type"}]}` | FastAPI |
| `{"base_resp": {"status_code", "status_msg"}}` | MiniMax |
| `{"error": {"metadata": {"raw"}}}` | OpenRouter: what its upstream said |
| `{"code", "message"}`, `{"error_code", "error_msg"}`, `{"errors": [...]}` | many |
| a line of text, a page of HTML | proxies |
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

import orjson

from processor.core.fast_dataclass import dataclass
from processor.core.lazy_pattern import LazyPattern
from processor.core.models import JSON
from processor.core.text import one_line

_MAX_PAGE_BYTES = 8192
"""Enough for a title; the searches below are quadratic in the worst case."""
_INVISIBLE = LazyPattern(rb"(?is)<(script|style|head)\b.*?</\1\s*>|<!--.*?-->")
_TITLE = LazyPattern(rb"(?is)<title[^>]*>(.*?)</title")
_TAG = LazyPattern(rb"(?s)<[^>]*>")

_MAX_DEPTH = 50
"""What lies deeper in a body is dropped: it is not shown, and some JSON libraries could not read it again."""
_MAX_MESSAGE_DEPTH = 6
_MAX_ITEMS = 5
_MESSAGE_FIELDS = (
    "message",
    "detail",
    "details",
    "error_msg",
    "error_message",
    "status_msg",
    "msg",
    "title",
    "error",
    "errors",
)
_CODE_FIELDS = ("code", "error_code", "type", "status", "reason", "kind")
_DETAIL_CODE_FIELDS = ("error_code", "reason")
"""Anthropic, Google."""
_FIELD_IN_TEXT = LazyPattern(r"['\"`]([a-z][\w.]{1,60})['\"`]")


@dataclass(frozen=True, slots=True, kw_only=True)
class ErrorBody:
    message: str
    """One line of at most 500 characters; empty where the body has no readable text."""
    codes: tuple[str, ...] = ()
    """The server's own codes and types for the error, the most specific first."""
    fields: frozenset[str] = frozenset()
    """Names of request fields that the error is said to be about."""
    status: int | None = None
    """The HTTP status that the body names."""
    body: JSON | None = None
    """The decoded body; None where it is not a JSON object."""
    request_id: str | None = None
    error: JSON | None = None
    """The object in the body that describes the error."""


def parse_error_body(data: bytes) -> ErrorBody:
    try:
        decoded = orjson.loads(data)
    except orjson.JSONDecodeError:
        return ErrorBody(message=one_line(readable_text(data)))
    if data.count(b"{") + data.count(b"[") > _MAX_DEPTH:
        decoded = _pruned(decoded, _MAX_DEPTH)
    if isinstance(decoded, list) and decoded and isinstance(decoded[0], dict):
        decoded = decoded[0]
    if isinstance(decoded, dict):
        return from_json(decoded)
    return ErrorBody(message=one_line(_text_in(decoded, _MAX_MESSAGE_DEPTH)))


def from_json(body: JSON) -> ErrorBody:
    """Reads the error of a decoded body, wherever in it the error is."""
    error = _error_in(body)
    message = _text_in(error, _MAX_MESSAGE_DEPTH)
    raw = _upstream_text(error)
    if raw and raw not in message:
        message = f"{message}: {raw}" if message else raw
    request_id = body.get("request_id")
    return ErrorBody(
        message=one_line(message),
        codes=tuple(dict.fromkeys(_codes(body, error))),
        fields=frozenset(_named_fields(error, message)),
        status=_status(error),
        body=body,
        request_id=request_id if isinstance(request_id, str) else None,
        error=error,
    )


def readable_text(data: bytes) -> str:
    """Plain text unchanged; of an HTML page its title, or all its text where it has none."""
    if b"<" not in data:
        return data.decode("utf-8", "replace")
    from html import unescape  # its tables take a millisecond to import

    data = data[:_MAX_PAGE_BYTES]
    title = _TITLE.search(data)
    page = title.group(1) if title else _TAG.sub(b" ", _INVISIBLE.sub(b" ", data))
    return unescape(page.decode("utf-8", "replace"))


def objects_in(error: JSON | None, name: str) -> Iterator[JSON]:
    """The objects in a list, or the one object, under ``name``."""
    value = error.get(name) if error else None
    for item in value[:_MAX_ITEMS] if isinstance(value, list) else (value,):
        if isinstance(item, dict):
            yield item


def _error_in(body: JSON) -> JSON:
    """The object that describes the error: under `error`, in a list, in MiniMax's `base_resp`, or the body itself."""
    for name in ("error", "errors", "base_resp"):
        value = body.get(name)
        if isinstance(value, list):
            value = next((item for item in value if isinstance(item, dict)), None)
        if isinstance(value, dict) and (name != "base_resp" or value.get("status_msg") or not body.get("message")):
            return value
    return body


# ---------------------------------------------------------------- message


def _text_in(value: Any, depth: int) -> str:
    """The words of an error in any shape; several are joined."""
    if isinstance(value, str):
        return _text_of_string(value, depth)
    if depth == 0:
        return ""
    if isinstance(value, list):
        texts = [_text_in(item, depth - 1) or _as_text(item) for item in value[:_MAX_ITEMS]]
        return "; ".join(text for text in texts if text)
    if not isinstance(value, dict):
        return ""
    text = next((text for name in _MESSAGE_FIELDS if (text := _text_in(value.get(name), depth - 1))), "")
    location = value.get("loc")
    if isinstance(location, list) and all(isinstance(part, str | int) for part in location):
        return f"{'.'.join(map(str, location))}: {text}"
    return text


def _text_of_string(text: str, depth: int) -> str:
    """The text, or the message of the JSON object that it holds: proxies wrap the answer of the server behind them."""
    if depth and text[:1] == "{" and text.rstrip()[-1:] == "}" and len(text) < _MAX_PAGE_BYTES:
        try:
            return _text_in(_pruned(orjson.loads(text), _MAX_DEPTH), depth - 1) or text
        except orjson.JSONDecodeError:
            return text
    return text


def _as_text(value: Any) -> str:
    return str(value) if isinstance(value, int | float) else ""


def _upstream_text(error: JSON) -> str:
    """What the provider behind OpenRouter said: `metadata.raw`, as text or JSON."""
    for metadata in objects_in(error, "metadata"):
        return _text_in(metadata.get("raw"), _MAX_MESSAGE_DEPTH)
    return ""


# ---------------------------------------------------------------- codes


def _codes(body: JSON, error: JSON) -> Iterator[str]:
    details = [(place, _DETAIL_CODE_FIELDS) for place in objects_in(error, "details")]
    outer = [] if error is body else [(body, _CODE_FIELDS)]
    for place, names in (*details, (error, _CODE_FIELDS), *outer):
        for name in names:
            code = place.get(name)
            if isinstance(code, str) and code and not code.isdigit() and code != "error" and len(code) <= 200:
                yield code
    inner = [error.get("innererror"), error.get("inner_error")]  # Azure
    for place in (*objects_in(error, "metadata"), *(item for item in inner if isinstance(item, dict))):
        code = place.get("error_type", place.get("code"))
        if isinstance(code, str) and code:
            yield code


def _status(error: JSON) -> int | None:
    for name in ("code", "status", "status_code", "statusCode"):
        code = error.get(name)
        if isinstance(code, str) and re.fullmatch(r"[1-5]\d\d", code, re.ASCII):
            code = int(code)
        if type(code) is int and 400 <= code <= 599:
            return code
    return None


def _named_fields(error: JSON, message: str) -> Iterator[str]:
    """Fields under `param`, in a FastAPI location, or quoted in the message."""
    param = error.get("param")
    if isinstance(param, str):
        yield param
    for name in ("detail", "details"):
        yield from _located_fields(error.get(name))
    inner = error.get("message")
    if isinstance(inner, dict):
        yield from _located_fields(inner.get("detail"))
    yield from _FIELD_IN_TEXT.findall(message)


def _located_fields(details: Any) -> Iterator[str]:
    for detail in details[:_MAX_ITEMS] if isinstance(details, list) else ():
        location = detail.get("loc") if isinstance(detail, dict) else None
        for part in location if isinstance(location, list) else ():
            if isinstance(part, str):
                yield part


def _pruned(value: Any, depth: int) -> Any:
    """The value, with null in place of what lies deeper."""
    if not isinstance(value, dict | list):
        return value
    if depth == 0:
        return None
    if isinstance(value, list):
        return [_pruned(item, depth - 1) for item in value]
    return {name: _pruned(item, depth - 1) for name, item in value.items()}
