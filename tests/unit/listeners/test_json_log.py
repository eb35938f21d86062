"""The structured log: a JSON object a line for each event."""

from __future__ import annotations

import json
import os
import re
from pathlib import Path
from typing import Any, get_args

import pytest

from processor.core.errors import ConfigError
from processor.core.events import (
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
from processor.core.models import Failure, Reply, Result
from processor.core.secrets import Secret
from processor.core.worker_events import WorkerEnded, WorkerStarted
from processor.listeners.json_log import LOGGED_FIELDS, JsonLog
from tests.support.run_events import attempt_failed, attempt_started

NOON = 1_780_315_200.0

FAILED = Result(fingerprint="f", custom_id="a", line=3, failure=Failure(code="rejected", message="no"), attempts=1)
REPLIED = Result(
    fingerprint="f", custom_id="a", line=3, reply=Reply(status_code=200, request_id=None, body={}), attempts=2
)
JOB: dict[str, Any] = {"custom_id": "a", "line": 3, "model": "m"}
REQUEST: dict[str, Any] = {**JOB, "endpoint": "https://host/v1", "limit_group": "g"}

ENTRIES: list[tuple[RunEvent, dict[str, Any]]] = [
    (
        RunStarted(at=1.0, jobs=5, done=2),
        {"event": "run_started", "jobs": 5, "done": 2, "simulated": False},
    ),
    (
        JobSkipped(reason="changed", **JOB),
        {"event": "job_skipped", "reason": "changed", "count": 1, **JOB},
    ),
    (
        JobSkipped(reason="done", count=700),
        {"event": "job_skipped", "reason": "done", "count": 700, "custom_id": None, "line": None, "model": None},
    ),
    (
        attempt_started(1.0, **REQUEST, attempt=2, tokens=30, waited_s=0.12345678),
        {"event": "attempt_started", **REQUEST, "attempt": 2, "tokens": 30, "waited_s": 0.123457},
    ),
    (
        attempt_failed(
            "server_error", **REQUEST, attempt=2, status=500, request_id="r", message="oh", retry_delay_s=1.5
        ),
        {
            "event": "attempt_finished",
            **REQUEST,
            "attempt": 2,
            "outcome": "retry",
            "status": 500,
            "request_id": "r",
            "code": "server_error",
            "message": "oh",
            "retry_delay_s": 1.5,
            "unconfirmed_cost_usd": None,
        },
    ),
    (
        JobFinished(at=1.0, result=REPLIED, model="m", endpoint="https://host/v1", limit_group="g"),
        {"event": "job_finished", **REQUEST, "attempts": 2, "cost_usd": None},
    ),
    (
        JobFinished(at=1.0, result=FAILED),
        {
            "event": "job_failed",
            **{"custom_id": "a", "line": 3, "model": None, "endpoint": None, "limit_group": None},
            **{"attempts": 1, "code": "rejected", "message": "no"},
        },
    ),
    (
        LimitsChanged(
            at=1.0,
            limit_group="m",
            rpm=500.0,
            tpm=None,
            source="reported",
            counters={"requests": {"kind": "window"}},
        ),
        {"event": "limits_changed", "limit_group": "m", "rpm": 500.0, "tpm": None, "source": "reported"}
        | {"counters": {"requests": {"kind": "window"}}},
    ),
    (
        ConcurrencyChanged(at=1.0, limit_group="m", limit=16, reason="throughput follows"),
        {"event": "concurrency_changed", "limit_group": "m", "limit": 16, "reason": "throughput follows"},
    ),
    (
        BottleneckChanged(at=1.0, bottleneck="tokens"),
        {"event": "bottleneck_changed", "bottleneck": "tokens"},
    ),
    (
        OutageStarted(at=1.0, endpoint="https://host/v1", message="503"),
        {"event": "outage_started", "endpoint": "https://host/v1", "message": "503"},
    ),
    (
        OutageContinues(at=61.0, endpoint="https://host/v1", down_s=60.0),
        {"event": "outage_continues", "endpoint": "https://host/v1", "down_s": 60.0},
    ),
    (
        OutageEnded(at=1.0, endpoint="https://host/v1"),
        {"event": "outage_ended", "endpoint": "https://host/v1"},
    ),
    (
        ReplyInvalid(
            at=1.0, custom_id="a", line=7, asks=2, problems=("/score: this value is too small",), is_asked_again=True
        ),
        {
            "event": "reply_invalid",
            "custom_id": "a",
            "line": 7,
            "asks": 2,
            "problems": ["/score: this value is too small"],
            "is_asked_again": True,
        },
    ),
    (
        Notice(at=1.0, text="the limit is lower"),
        {"event": "notice", "text": "the limit is lower"},
    ),
    (
        WorkerStarted(at=1.0, worker="worker 1", node="host"),
        {"event": "worker_started", "worker": "worker 1", "node": "host"},
    ),
    (
        WorkerEnded(at=1.0, worker="worker 1", node="host", requests=7, lost_requests=2, reason="killed"),
        {
            "event": "worker_ended",
            **{"worker": "worker 1", "node": "host", "requests": 7, "lost_requests": 2, "reason": "killed"},
        },
    ),
    (
        Stopping(at=1.0, reason="disk full", grace_s=30.0),
        {"event": "stopping", "reason": "disk full", "grace_s": 30.0},
    ),
    (
        RunFinished(at=1.0, exit_code=3, reason="disk full"),
        {"event": "run_finished", "exit_code": 3, "reason": "disk full"},
    ),
]


def logged(path: Path, *events: RunEvent) -> list[dict[str, Any]]:
    log = JsonLog(path, lambda: NOON)
    for event in events:
        log(event)
    log.close()
    return [json.loads(line) for line in path.read_text().splitlines()]


@pytest.mark.parametrize(("event", "entry"), ENTRIES, ids=[entry["event"] for _, entry in ENTRIES])
def test_each_event_is_logged_as_one_json_line(tmp_path: Path, event: RunEvent, entry: dict[str, Any]) -> None:
    (found,) = logged(tmp_path / "log", event)
    assert found == {"time": "2026-06-01T12:00:00.000+00:00", **entry}
    assert tuple(found) == ("time", "event", *LOGGED_FIELDS[entry["event"]])


def test_every_run_event_is_covered_by_these_tests() -> None:
    assert {type(event) for event, _ in ENTRIES} == set(get_args(RunEvent))
    assert {entry["event"] for _, entry in ENTRIES} == set(LOGGED_FIELDS)


def test_operations_page_documents_the_fields_of_every_logged_event() -> None:
    page = (Path(__file__).parents[3] / "docs" / "operations.md").read_text(encoding="utf-8")
    section = page.partition("\n## The JSON log\n")[2].partition("\n## ")[0]
    rows = [line.strip("|").split("|") for line in section.splitlines() if line.startswith("| `")]
    documented = {
        re.findall(r"`(\w+)`", row[0])[0]: tuple(re.findall(r"`(\w+)`", row[2])) for row in rows if len(row) == 3
    }
    assert documented == LOGGED_FIELDS
    meanings = {name for row in rows if len(row) == 2 for name in re.findall(r"`(\w+)`", row[0])}
    assert meanings == {field for fields in LOGGED_FIELDS.values() for field in fields}


def test_an_existing_log_is_appended_to(tmp_path: Path) -> None:
    logged(tmp_path / "log", Notice(at=1.0, text="one"))
    assert [entry["text"] for entry in logged(tmp_path / "log", Notice(at=2.0, text="two"))] == ["one", "two"]


def test_a_log_that_cannot_be_opened_is_a_config_error(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"^cannot write .*: is a directory$"):
        JsonLog(tmp_path, lambda: NOON)


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="this system has no /dev/full")
def test_a_write_error_of_the_log_is_ignored() -> None:
    log = JsonLog(Path("/dev/full"), lambda: NOON)
    log(Notice(at=1.0, text="the disk is full"))
    log.close()
    assert os.stat("/dev/full").st_size == 0


def test_text_that_is_no_unicode_and_secrets_are_no_problem(tmp_path: Path) -> None:
    log = JsonLog(tmp_path / "log", lambda: 0.0)
    log(Notice(at=0.0, text="a file \udcff and a key not-a-key-of-anyone"))
    log.close()
    Secret("not-a-key-of-anyone")
    log = JsonLog(tmp_path / "log", lambda: 0.0)
    log(Notice(at=0.0, text="a file \udcff and a key not-a-key-of-anyone"))
    log.close()
    last = (tmp_path / "log").read_bytes().splitlines()[-1]
    assert json.loads(last)["text"] == "a file \udcff and a key \u2022\u2022\u2022"


def test_named_pipe_without_a_reader_is_an_error_and_not_a_wait(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(ConfigError, match="it is a pipe that nothing reads"):
        JsonLog(tmp_path / "pipe", lambda: 0.0)


def test_full_named_pipe_does_not_hold_up_the_run(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    reader = os.open(tmp_path / "pipe", os.O_RDONLY | os.O_NONBLOCK)
    log = JsonLog(tmp_path / "pipe", lambda: 0.0)
    for _ in range(1000):
        log(Notice(at=0.0, text="x" * 200))
    log.close()
    os.close(reader)
