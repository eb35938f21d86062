"""The structured log of ``--log-file``: one JSON object a line for each event of a run."""

from __future__ import annotations

import errno
import json
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, BinaryIO

import orjson

from processor.core.errors import ConfigError, reason
from processor.core.events import (
    AttemptFinished,
    AttemptStarted,
    BottleneckChanged,
    ConcurrencyChanged,
    JobFinished,
    JobSkipped,
    LimitsChanged,
    Notice,
    OutageContinues,
    OutageEnded,
    OutageStarted,
    ReplyInvalid,
    RunEvent,
    RunFinished,
    RunStarted,
    Stopping,
)
from processor.core.private_files import pipe_opener
from processor.core.secrets import holds_secret, mask_values
from processor.core.worker_events import WorkerEnded, WorkerStarted

_JOB = ("custom_id", "line", "model")
_REQUEST = (*_JOB, "endpoint", "limit_group")

LOGGED_FIELDS: dict[str, tuple[str, ...]] = {
    "run_started": ("jobs", "done", "simulated"),
    "job_skipped": ("reason", "count", *_JOB),
    "attempt_started": (*_REQUEST, "attempt", "tokens", "waited_s"),
    "attempt_finished": (
        *(*_REQUEST, "attempt", "outcome"),
        *("status", "request_id", "code", "message", "retry_delay_s", "unconfirmed_cost_usd"),
    ),
    "job_finished": (*_REQUEST, "attempts", "cost_usd"),
    "job_failed": (*_REQUEST, "attempts", "code", "message"),
    "reply_invalid": ("custom_id", "line", "asks", "problems", "is_asked_again"),
    "limits_changed": ("limit_group", "rpm", "tpm", "source", "counters"),
    "concurrency_changed": ("limit_group", "limit", "reason"),
    "bottleneck_changed": ("bottleneck",),
    "outage_started": ("endpoint", "message"),
    "outage_continues": ("endpoint", "down_s"),
    "outage_ended": ("endpoint",),
    "notice": ("text",),
    "worker_started": ("worker", "node"),
    "worker_ended": ("worker", "node", "requests", "lost_requests", "reason"),
    "stopping": ("reason", "grace_s"),
    "run_finished": ("exit_code", "reason"),
}
"""The fields of each logged event, beside ``time`` and ``event``. ``docs/operations.md`` describes them."""

_NAMES: dict[type[RunEvent], str] = {
    RunStarted: "run_started",
    JobSkipped: "job_skipped",
    AttemptStarted: "attempt_started",
    AttemptFinished: "attempt_finished",
    LimitsChanged: "limits_changed",
    ReplyInvalid: "reply_invalid",
    ConcurrencyChanged: "concurrency_changed",
    BottleneckChanged: "bottleneck_changed",
    OutageStarted: "outage_started",
    OutageContinues: "outage_continues",
    OutageEnded: "outage_ended",
    Notice: "notice",
    WorkerStarted: "worker_started",
    WorkerEnded: "worker_ended",
    Stopping: "stopping",
    RunFinished: "run_finished",
}
"""Of the events whose attributes are their fields."""


class JsonLog:
    """A listener that appends each event to a file.

    Raises ConfigError if the file cannot be opened. A later write error is ignored: a full disk under the log does not
    stop the run.
    """

    def __init__(self, path: Path, unix_time: Callable[[], float]) -> None:
        self._unix_time = unix_time
        try:
            self._file: BinaryIO = open(path, "ab", buffering=0, opener=pipe_opener)  # noqa: SIM115
        except OSError as error:
            why = "it is a pipe that nothing reads" if error.errno == errno.ENXIO else reason(error)
            raise ConfigError(f"cannot write the log {path}: {why}") from None

    def __call__(self, event: RunEvent) -> None:
        time = datetime.fromtimestamp(self._unix_time(), UTC).isoformat(timespec="milliseconds")
        entry = {"time": time, **event_fields(event)}
        line = _dumps(entry)
        if holds_secret(line):
            mask_values(entry)
            line = _dumps(entry)
        try:
            self._file.write(line + b"\n")
        except OSError:
            return

    def close(self) -> None:
        self._file.close()


def _dumps(entry: dict[str, Any]) -> bytes:
    try:
        return orjson.dumps(entry, default=str)
    except TypeError:  # half a surrogate pair, as in the name of a file that is not UTF-8
        return json.dumps(entry, default=str).encode()


def event_fields(event: RunEvent) -> dict[str, Any]:
    """Return the name and the logged fields of an event."""
    if isinstance(event, JobFinished):
        return _finished_job(event)
    name = _NAMES[type(event)]
    return {"event": name, **{field: _value(field, getattr(event, field)) for field in LOGGED_FIELDS[name]}}


def _finished_job(event: JobFinished) -> dict[str, Any]:
    result = event.result
    entry = {
        "event": "job_finished",
        "custom_id": result.custom_id,
        "line": result.line,
        "model": event.model,
        "endpoint": event.endpoint,
        "limit_group": event.limit_group,
        "attempts": result.attempts,
    }
    if result.failure is None:
        return {**entry, "cost_usd": result.cost_usd}
    return {**entry, "event": "job_failed", "code": result.failure.code, "message": result.failure.message}


def _value(field: str, value: Any) -> Any:
    """Times are rounded, amounts of money are not: most are small."""
    return round(value, 6) if isinstance(value, float) and not field.endswith("_usd") else value
