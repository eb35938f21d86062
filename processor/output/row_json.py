"""Writes a result as one line of JSON. Pure.

A row has the keys of an OpenAI Batch output row and more, in a fixed order. ``simulated``, ``usage_estimated``,
``unconfirmed_cost_usd``, ``file``, ``endpoint``, ``asked_model``, ``streamed``, ``altered``, ``served_by``,
``validation``, ``complete`` and ``own_fault`` stand between ``line`` and ``metadata``, each only where it applies.
"""

from __future__ import annotations

import orjson

from processor.core import json_bytes
from processor.core.models import JSON, Failure, Result

_LINE_ENDS = ((b"\xe2\x80\xa8", rb"\u2028"), (b"\xe2\x80\xa9", rb"\u2029"), (b"\xc2\x85", rb"\u0085"))
"""Characters at which some readers end a line, though JSON does not, and their escapes."""


def encode_row(result: Result) -> bytes:
    """Return the row of a result as one line, with its line feed: one line for every reader."""
    row = to_row(result)
    try:
        raw = orjson.dumps(row, option=orjson.OPT_APPEND_NEWLINE)
    except TypeError:
        raw = json_bytes.dumps(row, orjson.OPT_APPEND_NEWLINE)
    if 0xA8 in raw or 0xA9 in raw or 0x85 in raw:  # their last bytes: a byte is found much faster than a character
        for character, escape in _LINE_ENDS:
            raw = raw.replace(character, escape)
    return raw


def to_row(result: Result) -> JSON:
    """Return the row of a result, with its keys in the order of the contract."""
    row: JSON = {
        "id": result.fingerprint,
        "custom_id": result.custom_id,
        "response": _response(result),
        "error": _error(result.failure) if result.failure else None,
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
    if result.unconfirmed_cost_usd is not None:
        row["unconfirmed_cost_usd"] = result.unconfirmed_cost_usd
    if result.source is not None:
        row["file"] = result.source.name
    if result.endpoint is not None:
        row["endpoint"] = result.endpoint
        row["asked_model"] = result.asked_model
    if result.streamed is not None:
        row["streamed"] = result.streamed
    if result.altered or (result.reply and result.reply.altered):
        row["altered"] = _altered(result)
    _add_verdicts(row, result)
    if result.has_metadata:
        row["metadata"] = result.metadata
    return row


def _add_verdicts(row: JSON, result: Result) -> None:
    """Add what was found out about the reply, or about the job."""
    if result.served_by is not None:
        row["served_by"] = result.served_by
    if result.validation is not None:
        row["validation"] = {
            "asks": result.validation.asks,
            "schema": result.validation.schema,
            "billed_usage": result.validation.billed_usage.as_json(),
        }
    if result.is_unconfirmed:
        row["complete"] = "unconfirmed"
    if result.failure and result.failure.permanent:
        row["own_fault"] = True


def _response(result: Result) -> JSON | None:
    reply = result.reply
    if reply is None:
        return None
    return {"status_code": reply.status_code, "request_id": reply.request_id, "body": reply.body}


def _altered(result: Result) -> list[str]:
    of_reply = result.reply.altered if result.reply else ()
    return list(dict.fromkeys((*result.altered, *of_reply)))


def _error(failure: Failure) -> JSON:
    return {"code": failure.code, "message": failure.message}


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
