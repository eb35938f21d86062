"""Run events with usual values, for tests that care about some of their fields only."""

from __future__ import annotations

from typing import Any

from processor.core.events import AttemptFinished, AttemptStarted

REQUEST: dict[str, Any] = {
    "custom_id": "r-1",
    "line": 1,
    "model": "gpt-4o-mini",
    "endpoint": "https://api.openai.com/v1",
    "limit_group": "gpt-4o-mini",
    "attempt": 1,
}


def attempt_started(at: float, **changes: Any) -> AttemptStarted:
    return AttemptStarted(at=at, **(REQUEST | {"tokens": 100, "waited_s": 0.0} | changes))


def attempt_succeeded(at: float, **changes: Any) -> AttemptFinished:
    usual = {
        "status": 200,
        "request_id": None,
        "code": None,
        "message": None,
        "outcome": "success",
        "retry_delay_s": None,
    }
    return AttemptFinished(at=at, **(REQUEST | usual | changes))


def attempt_failed(code: str, *, at: float = 1.0, **changes: Any) -> AttemptFinished:
    """By default with no response, and tried again."""
    return attempt_succeeded(at, **({"code": code, "status": None, "outcome": "retry"} | changes))
