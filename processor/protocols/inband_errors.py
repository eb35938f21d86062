"""Errors that come inside a response with a good status: in a stream's events and lines, or as a whole body.

Known shapes: `{"error": ...}`, `[{"error": ...}]` (Gemini), `{"errors": [...]}`, `{"code", "message"}`, `{"detail"}`
(FastAPI), `{"error_code", "error_msg"}` (Baidu), `x_groq.error`, MiniMax's `base_resp`, and llama.cpp's `error:` line.
"""

from __future__ import annotations

from typing import Any

import orjson

from processor.core.errors import StatusError
from processor.core.models import JSON
from processor.protocols.error_body import parse_error_body
from processor.protocols.error_mapping import error_from_event
from processor.protocols.lenient_json import join_halves

_MINIMAX_STATUS = {
    1002: 429,
    1004: 401,
    1008: 402,
    1026: 400,
    1027: 400,
    1039: 429,
    1041: 429,
    1042: 400,
    2013: 400,
    2049: 401,
    2056: 402,
}
"""https://platform.minimaxi.com/document/error-code; any other code is a failure of the server."""
_GOOD_CODES = frozenset({None, "", 0, "0", 200, "200", "ok", "OK", "success", "Success"})
_MESSAGE_FIELDS = ("message", "msg", "error_msg", "error_message", "detail")
_CODE_FIELDS = ("code", "error_code", "status_code", "status")
_CHUNK_FIELDS = frozenset({"id", "object", "created", "model", "usage"})
_ORDINARY_FIELDS = _CHUNK_FIELDS | {"choices", "obfuscation", "service_tier", "system_fingerprint"}
"""What has only these fields tells no error: nearly every event, so that it is asked first."""
_KEEP_ALIVE_TYPES = frozenset({"ping", "heartbeat", "keepalive", "keep-alive", "keep_alive"})


def raise_error_in(value: object, *, is_altered: bool = False) -> None:
    """Raise the StatusError that a value tells, if it tells one. ``is_altered``: its text may hold surrogate halves."""
    if isinstance(value, dict) and _ORDINARY_FIELDS.issuperset(value) and value.get("object") != "error":
        return
    error = error_in_value(value)
    if error is None:
        return
    if is_altered:
        error.body = join_halves(error.body, set())
    try:
        raise error
    finally:
        del error  # the error's traceback holds this frame: each would keep the other alive


def error_in_value(value: Any) -> StatusError | None:
    """The error that an event or a whole body tells, if it tells one."""
    if isinstance(value, list) and value and isinstance(value[0], dict):
        value = value[0]
    if not isinstance(value, dict):
        return None
    fields = _error_fields(value)
    if fields is None:
        return None
    error = error_from_event(fields)
    error.body = value
    return error


def error_in_line(data: bytes) -> StatusError:
    """The error of an `error:` line, or of an event of that name."""
    try:
        value: Any = orjson.loads(data)
    except orjson.JSONDecodeError:
        value = None
    error = error_in_value(value)
    if error is None and isinstance(value, dict):
        error = error_from_event(value)
    return error or error_from_event({"error": parse_error_body(data).message})


def _error_fields(event: JSON) -> JSON | None:
    """The event in one of the shapes that ``error_from_event`` reads; None where it tells no error."""
    if event.get("error") or event.get("object") == "error":
        return event
    groq, base = event.get("x_groq"), event.get("base_resp")
    if isinstance(groq, dict) and groq.get("error"):
        return {"error": groq["error"]}
    if isinstance(base, dict) and _is_code(base.get("status_code")):
        return {"error": _minimax_error(base)}
    return None if event.get("choices") else _flat_error_fields(event)


def _flat_error_fields(event: JSON) -> JSON | None:
    """As ``_error_fields``, for an event without choices whose own fields are those of an error."""
    if errors := event.get("errors"):
        return {"error": errors[0] if isinstance(errors, list) else errors}
    message = next((event[name] for name in _MESSAGE_FIELDS if event.get(name)), None)
    code = next((event[name] for name in _CODE_FIELDS if _is_code(event.get(name))), None)
    kind = event.get("type")
    is_named = kind == "error" or event.get("status") in ("error", "failed") or event.get("success") is False
    if not is_named and (message is None or (isinstance(kind, str) and kind in _KEEP_ALIVE_TYPES)):
        return None
    if is_named or code is not None or _CHUNK_FIELDS.isdisjoint(event):
        texts = {"detail": message} if isinstance(message, list) else {"message": message}
        return {**event, **texts, "code": code if code is not None else event.get("code")}
    return None


def _is_code(value: Any) -> bool:
    return isinstance(value, str | int) and type(value) is not bool and value not in _GOOD_CODES


def _minimax_error(base: JSON) -> JSON:
    code = base["status_code"]
    status = _MINIMAX_STATUS.get(code, 500) if type(code) is int else 500
    kind = "insufficient_balance" if status == 402 else None
    return {"message": base.get("status_msg"), "code": status, "type": kind}
