"""Rows of results and errors files, as a report reads them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any


def reply_row(number: int, **changed: Any) -> dict[str, Any]:
    """The row of a reply: 10 prompt tokens, and as many reply tokens as its number says."""
    usage = {"prompt_tokens": 10, "completion_tokens": number, "total_tokens": 10 + number}
    message = {"role": "assistant", "content": f"reply {number}"}
    body = {
        "object": "chat.completion",
        "model": "m",
        "choices": [{"index": 0, "message": message, "finish_reason": "stop"}],
        "usage": usage,
    }
    return {
        "id": f"{number:032x}",
        "custom_id": f"job-{number}",
        "response": {"status_code": 200, "request_id": None, "body": body},
        "error": None,
        "usage": usage,
        "usage_source": "reported",
        "attempts": 1,
        "timing": {
            "started_at": f"2026-01-01T00:{number // 60 % 60:02}:{number % 60:02}Z",
            "queued_s": 0.1,
            "first_token_s": 0.5,
            "total_s": 1.0 + number / 100,
        },
        "cost_usd": 0.001,
        "line": number,
        "endpoint": "https://llm.example/v1",
        "asked_model": "m",
        **changed,
    }


def failed_row(number: int, code: str = "rejected", message: str = "no", **changed: Any) -> dict[str, Any]:
    """The row of a failed job."""
    nothing = {"response": None, "usage": None, "usage_source": None, "cost_usd": None}
    return {**reply_row(number), **nothing, "error": {"code": code, "message": message}, **changed}


def write_rows(path: Path, rows: list[dict[str, Any]], *, end: bytes = b"") -> Path:
    path.write_bytes(b"".join(json.dumps(row).encode() + b"\n" for row in rows) + end)
    return path
