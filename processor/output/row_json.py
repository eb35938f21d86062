"""Writes a result as one line of JSON. Pure.

A row has the keys of an OpenAI Batch output row and more, in a fixed order. ``simulated``, ``usage_estimated``,
``endpoint``, ``asked_model``, ``streamed``, ``altered``, ``complete`` and ``own_fault`` stand between ``line`` and
``metadata``, each only where it applies.
"""

from __future__ import annotations

import json
import math
from typing import Any

import orjson

from processor.core.models import JSON, Failure, Reply, Result

MAX_DEPTH = 300
"""Deeper values become null: a row that no parser can read would be sent, and paid for, again in every run."""


def encode_row(result: Result) -> bytes:
    """Return the row of a result as one line, with its line feed."""
    row = to_row(result)
    try:
        return orjson.dumps(row, option=orjson.OPT_APPEND_NEWLINE)
    except TypeError:
        # orjson refuses integers above 64 bits, unpaired surrogates and deep nesting. They are rare.
        return json.dumps(_readable(row, 0), separators=(",", ":")).encode() + b"\n"


def to_row(result: Result) -> JSON:
    """Return the row of a result, with its keys in the order of the contract."""
    row: JSON = {
        "id": result.fingerprint,
        "custom_id": result.custom_id,
        "response": _response(result),
        "error": _error(result.failure),
        "usage": result.usage.as_json() if result.usage else None,
        "usage_source": result.usage_source,
        "attempts": result.attempts,
        "timing": _timing(result),
        "cost_usd": result.cost_usd,
        "line": result.line,
    }
    if result.simulated:
        row["simulated"] = True
    if result.usage_estimated:
        row["usage_estimated"] = list(result.usage_estimated)
    if result.endpoint is not None:
        row["endpoint"] = result.endpoint
        row["asked_model"] = result.asked_model
    if result.streamed is not None:
        row["streamed"] = result.streamed
    if result.reply and result.reply.altered:
        row["altered"] = list(result.reply.altered)
    if result.is_unconfirmed:
        row["complete"] = "unconfirmed"
    if result.failure and result.failure.permanent:
        row["own_fault"] = True
    if result.has_metadata:
        row["metadata"] = result.metadata
    return row


def _response(result: Result) -> JSON | None:
    reply = result.reply
    if reply is None:
        return None
    return {"status_code": reply.status_code, "request_id": reply.request_id, "body": _body(result, reply)}


def _body(result: Result, reply: Reply) -> Any:
    if result.failure is None and result.usage_source == "computed" and result.usage:
        return {**reply.body, "usage": result.usage.as_json()}
    return reply.body


def _error(failure: Failure | None) -> JSON | None:
    return {"code": failure.code, "message": failure.message} if failure else None


def _timing(result: Result) -> JSON | None:
    timing = result.timing
    if timing is None:
        return None
    return {
        "started_at": timing.started_at,
        "queued_s": timing.queued_s,
        "first_token_s": timing.first_token_s,
        "total_s": timing.total_s,
    }


def _readable(value: Any, depth: int) -> Any:
    """Return a value that every JSON parser reads: NaN, infinity and nesting beyond MAX_DEPTH become null."""
    if depth > MAX_DEPTH:
        return None
    if isinstance(value, dict):
        return {key: _readable(item, depth + 1) for key, item in value.items()}
    if isinstance(value, list):
        return [_readable(item, depth + 1) for item in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value
