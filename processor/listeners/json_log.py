"""The structured log: one JSON line for every attempt, failure, notice and stop, for whoever asks what happened."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, BinaryIO

import orjson

from processor.core.errors import ConfigError, reason
from processor.core.events import (
    AttemptFinished,
    AttemptStarted,
    JobFinished,
    LimitsChanged,
    Notice,
    RunEvent,
    RunStarted,
    Stopping,
)


class JsonLog:
    """A listener that appends to a file. Raises ConfigError where it cannot be opened; later failures are let go:
    a log that cannot be written is no reason to stop a night's work."""

    def __init__(self, path: Path, wall: Callable[[], float]) -> None:
        self._wall = wall
        try:
            self._file: BinaryIO = path.open("ab", buffering=0)
        except OSError as error:
            raise ConfigError(f"cannot write {path}: {reason(error)}") from None

    def __call__(self, event: RunEvent) -> None:
        if (entry := _entry(event)) is None:
            return
        time = datetime.fromtimestamp(self._wall(), UTC).isoformat(timespec="milliseconds")
        try:
            self._file.write(orjson.dumps({"time": time, **entry}, default=str) + b"\n")
        except OSError:
            return

    def close(self) -> None:
        self._file.close()


def _entry(event: RunEvent) -> dict[str, Any] | None:
    match event:
        case AttemptStarted():
            return {
                "event": "sent",
                "custom_id": event.custom_id,
                "attempt": event.attempt,
                "tokens": event.tokens,
                "waited_s": round(event.waited_s, 6),
            }
        case AttemptFinished():
            return {
                "event": event.then,
                "custom_id": event.custom_id,
                "attempt": event.attempt,
                "status": event.status,
                "request_id": event.request_id,
                "code": event.code,
                "message": event.message,
                "wait_s": event.wait_s,
            }
        case JobFinished(result=result) if result.failure is not None:
            failure = result.failure
            return {"event": "failed", "custom_id": result.custom_id, "line": result.line, "code": failure.code}
        case LimitsChanged():
            limits = {"rpm": event.rpm, "tpm": event.tpm, "source": event.source}
            return {"event": "limits", "lane": event.lane, **limits}
        case Notice():
            return {"event": "notice", "text": event.text}
        case Stopping():
            return {"event": "stopping", "why": event.why}
        case RunStarted():
            return {"event": "started", "jobs": event.jobs, "done": event.done}
    return None
