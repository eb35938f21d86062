"""The history: a first line of each run, then a line a minute with what happened since the line before."""

from __future__ import annotations

import asyncio
import json
import stat
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from processor.core import exit_codes
from processor.core.events import (
    AttemptFinished,
    AttemptStarted,
    BottleneckChanged,
    ConcurrencyChanged,
    JobFinished,
    LimitsChanged,
    Notice,
    OutageEnded,
    OutageStarted,
    RunEvent,
    RunFinished,
    RunStarted,
)
from processor.core.models import JSON, Reply, Result, Timing, Usage
from processor.core.secrets import Secret
from processor.core.worker_events import WorkerEnded
from processor.simulator import virtual_clock
from processor.stats.history import RunDescription
from processor.stats.history_file import HistoryFile, read_history
from processor.stats.run_stats import RunStats

REQUEST: Any = {"custom_id": "a", "line": 1, "model": "m", "endpoint": "http://h/v1", "limit_group": "*", "attempt": 1}
DESCRIPTION = RunDescription(
    run="0" * 16,
    version="1",
    started_at="2026-01-01T00:00:00+00:00",
    command="process a",
    process=7,
    host="here",
    settings={},
    limits={},
)


class History:
    """A history that hears events on a virtual clock, after the statistics."""

    def __init__(self, path: Path) -> None:
        self.stats = RunStats()
        self.file = HistoryFile(path, self.stats, lambda: DESCRIPTION, asyncio.get_running_loop().time)

    def emit(self, event: RunEvent) -> None:
        self.stats(event)
        if type(event) in self.file.event_types:
            self.file(event)

    def send(self) -> None:
        self.emit(AttemptStarted(at=now(), tokens=50, waited_s=0.0, **REQUEST))

    def end(self, *, status: int | None = 200, code: str | None = None) -> None:
        outcome = "success" if code is None else "retry"
        more: Any = {"message": code, "outcome": outcome, "retry_delay_s": None, "request_id": None}
        self.emit(AttemptFinished(at=now(), status=status, code=code, **more, **REQUEST))

    def reply(self, total_s: float) -> None:
        self.end()
        timing = Timing(started_at="", queued_s=0.0, first_token_s=total_s / 2, total_s=total_s)
        usage = Usage(prompt_tokens=10, completion_tokens=5)
        reply = Reply(status_code=200, request_id=None, body={})
        result = Result(fingerprint="0" * 32, custom_id="a", line=1, reply=reply, usage=usage, timing=timing)
        self.emit(JobFinished(at=now(), result=result, model="m", endpoint=REQUEST["endpoint"]))


def now() -> float:
    return asyncio.get_running_loop().time()


def play(path: Path, work: Callable[[History], object], *, exit_code: int = 0) -> list[JSON]:
    async def main() -> None:
        history = History(path)
        history.emit(RunStarted(at=now(), jobs=3, done=0))
        await work(history)  # type: ignore[misc]
        history.emit(RunFinished(at=now(), exit_code=exit_code, reason=None))

    virtual_clock.run(main())
    return list(read_history(path)) if path.is_file() else []


async def busy_minutes(history: History) -> None:
    history.emit(LimitsChanged(at=now(), limit_group="*", rpm=60, tpm=None, source="configured"))
    history.emit(BottleneckChanged(at=now(), bottleneck="requests"))
    history.send()
    await asyncio.sleep(30)
    history.end(status=429, code="rate_limited")
    history.emit(Notice(at=now(), text="look"))
    history.emit(OutageStarted(at=now(), endpoint="http://h/v1", message="503"))
    await asyncio.sleep(40)
    history.emit(OutageEnded(at=now(), endpoint="http://h/v1"))
    history.emit(ConcurrencyChanged(at=now(), limit_group="*", limit=8, reason="throughput follows"))
    history.send()
    history.reply(2.0)
    await asyncio.sleep(60)
    history.send()
    history.reply(2.0)


def test_each_line_holds_what_happened_since_the_line_before(tmp_path: Path) -> None:
    first, *minutes = play(tmp_path / "h", busy_minutes)
    assert first == DESCRIPTION.as_json()
    assert [round(line["seconds"]) for line in minutes] == [60, 60, 10]
    assert [line["requests"] for line in minutes] == [1, 1, 1]
    assert [line["done"] for line in minutes] == [0, 1, 1]
    assert [line["refused"] for line in minutes] == [{"429": 1}, {}, {}]
    assert [line["retried"] for line in minutes] == [{"rate_limited": 1}, {}, {}]
    assert [line["notices"] for line in minutes] == [["look"], [], []]
    assert [line["outages"] for line in minutes] == [{"http://h/v1": "503"}, {"http://h/v1": "503"}, {}]
    shares = [line["endpoints"][REQUEST["endpoint"]] for line in minutes]
    assert [(share["requests"], share["done"]) for share in shares] == [(1, 0), (1, 1), (1, 1)]
    assert [len(line["concurrency"]) for line in minutes] == [0, 1, 0]
    assert minutes[0]["tokens"] == {"reserved": 50, "prompt": 0, "completion": 0}
    assert minutes[1]["tokens"] == {"reserved": 50, "prompt": 10, "completion": 5}
    assert minutes[0]["limits"] == {
        "*": {"rpm": 60, "tpm": None, "source": "configured", "server_rpm": None, "server_tpm": None, "counters": {}}
    }
    assert round(minutes[1]["bound_by_s"]["requests"]) == 60
    assert [sum(count for _, count in line["total_s"]) for line in minutes] == [0, 1, 1]
    assert all(1.6 < upper_s < 3.2 for line in minutes for upper_s, _ in line["total_s"])
    assert {line["cost_usd"] for line in minutes} == {None}


def test_line_holds_the_workers_where_the_run_has_some(tmp_path: Path) -> None:
    async def with_workers(history: History) -> None:
        await asyncio.sleep(61)
        history.stats.in_flight_by_worker = lambda: {"worker 1": 3, "worker 2": 4}
        lost = WorkerEnded(at=now(), worker="worker 0", node="n", requests=1, lost_requests=2, reason="killed")
        history.emit(lost)
        history.send()
        await asyncio.sleep(60)

    _, *minutes = play(tmp_path / "h", with_workers)
    assert "workers" not in minutes[0]
    assert minutes[1]["workers"] == {"in_flight": {"worker 1": 3, "worker 2": 4}, "lost": 1}


def test_lines_of_a_second_run_follow_those_of_the_first_also_after_a_torn_line(tmp_path: Path) -> None:
    path = tmp_path / "h"
    before = play(path, busy_minutes)
    with path.open("ab") as file:
        file.write(b'{"run":"000')
    assert play(path, busy_minutes) == before * 2
    assert path.read_bytes().count(b'{"run":"000\n') == 1
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


async def nothing(history: History) -> None:
    await asyncio.sleep(5)


async def send_one(history: History) -> None:
    history.send()
    await asyncio.sleep(5)


def test_run_that_sends_nothing_leaves_no_file(tmp_path: Path) -> None:
    assert play(tmp_path / "h", nothing) == []
    assert not (tmp_path / "h").exists()


@pytest.mark.parametrize("before", [b"", b"earlier\n"])
def test_run_that_ends_with_nothing_sent_takes_its_lines_back(tmp_path: Path, before: bytes) -> None:
    path = tmp_path / "h"
    if before:
        path.write_bytes(before)
    play(path, send_one, exit_code=exit_codes.NOTHING_SENT)
    assert (path.read_bytes() if path.exists() else b"") == before


def test_run_that_is_killed_has_its_first_line_after_a_second(tmp_path: Path) -> None:
    async def killed() -> None:
        history = History(tmp_path / "h")
        history.emit(RunStarted(at=now(), jobs=3, done=0))
        await send_one(history)
        history.file.close()  # without a RunFinished, as a kill closes it

    virtual_clock.run(killed())
    assert list(read_history(tmp_path / "h")) == [DESCRIPTION.as_json()]


def test_history_masks_secrets(tmp_path: Path) -> None:
    key = Secret("a-key-that-a-server-repeats")

    async def repeat_key(history: History) -> None:
        history.send()
        history.emit(Notice(at=now(), text=f"wrong key {key.value}"))

    lines = play(tmp_path / "h", repeat_key)
    assert lines[1]["notices"] == ["wrong key •••"]
    assert key.value not in (tmp_path / "h").read_text()


def test_history_survives_a_disk_that_takes_nothing(tmp_path: Path) -> None:
    (tmp_path / "h").symlink_to("/dev/full")
    play(tmp_path / "h", busy_minutes)


def test_lines_are_json_that_any_reader_takes(tmp_path: Path) -> None:
    play(tmp_path / "h", busy_minutes)
    for line in (tmp_path / "h").read_text().splitlines():
        assert json.loads(line)["run"]
