"""The structured log: a line of JSON for every attempt, failure, notice and stop."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest

from processor.core.errors import ConfigError
from processor.core.events import (
    AttemptFinished,
    AttemptStarted,
    BottleneckChanged,
    JobFinished,
    LimitsChanged,
    Notice,
    RunEvent,
    RunStarted,
    Stopping,
)
from processor.core.models import Failure, Reply, Result
from processor.listeners.json_log import JsonLog

NOON = 1_780_315_200.0

FAILED = Result(fingerprint="f", custom_id="a", line=3, failure=Failure(code="rejected", message="no"))
REPLIED = Result(fingerprint="f", custom_id="a", line=3, reply=Reply(status_code=200, request_id=None, body={}))


def logged(path: Path, *events: RunEvent) -> list[dict[str, Any]]:
    logbook = JsonLog(path, lambda: NOON)
    for event in events:
        logbook(event)
    logbook.close()
    return [json.loads(line) for line in path.read_text().splitlines()]


@pytest.mark.parametrize(
    ("event", "entry"),
    [
        (RunStarted(at=1.0, jobs=5, done=2), {"event": "started", "jobs": 5, "done": 2}),
        (
            AttemptStarted(at=1.0, custom_id="a", attempt=2, tokens=30, waited_s=0.12345678),
            {"event": "sent", "custom_id": "a", "attempt": 2, "tokens": 30, "waited_s": 0.123457},
        ),
        (
            AttemptFinished(
                at=1.0,
                custom_id="a",
                attempt=2,
                status=500,
                request_id="r",
                code="server_error",
                message="oh",
                then="retry",
                wait_s=1.5,
            ),
            {
                "event": "retry",
                "custom_id": "a",
                "attempt": 2,
                "status": 500,
                "request_id": "r",
                "code": "server_error",
                "message": "oh",
                "wait_s": 1.5,
            },
        ),
        (
            JobFinished(at=1.0, result=FAILED),
            {"event": "failed", "custom_id": "a", "line": 3, "code": "rejected"},
        ),
        (
            LimitsChanged(at=1.0, lane="m", rpm=500.0, tpm=None, source="reported"),
            {"event": "limits", "lane": "m", "rpm": 500.0, "tpm": None, "source": "reported"},
        ),
        (Notice(at=1.0, text="the provider is down"), {"event": "notice", "text": "the provider is down"}),
        (Stopping(at=1.0, why="disk full"), {"event": "stopping", "why": "disk full"}),
    ],
    ids=lambda value: type(value).__name__ if not isinstance(value, dict) else "",
)
def test_each_event_is_a_line(tmp_path: Path, event: RunEvent, entry: dict[str, Any]) -> None:
    assert logged(tmp_path / "log", event) == [{"time": "2026-06-01T12:00:00.000+00:00", **entry}]


def test_what_stands_in_the_results_does_not_stand_here_again(tmp_path: Path) -> None:
    assert (
        logged(tmp_path / "log", JobFinished(at=1.0, result=REPLIED), BottleneckChanged(at=1.0, bound="tokens")) == []
    )


def test_a_log_is_appended_to(tmp_path: Path) -> None:
    logged(tmp_path / "log", Notice(at=1.0, text="one"))
    assert [entry["text"] for entry in logged(tmp_path / "log", Notice(at=2.0, text="two"))] == ["one", "two"]


def test_one_that_cannot_be_opened_says_so(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"^cannot write .*: is a directory$"):
        JsonLog(tmp_path, lambda: NOON)


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="there is no device that is full")
def test_one_that_cannot_be_written_stops_nobody() -> None:
    logbook = JsonLog(Path("/dev/full"), lambda: NOON)
    logbook(Notice(at=1.0, text="the disk is full"))
    logbook.close()
    assert os.stat("/dev/full").st_size == 0
