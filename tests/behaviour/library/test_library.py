"""Runs from a program, through the names that ``processor`` exports."""

from __future__ import annotations

import asyncio
import json
import logging
from pathlib import Path
from typing import Any, get_args

import pytest

import processor
from processor.core.events import (
    FirstToken,
    JobFinished,
    Notice,
    RequestListener,
    ResponseStarted,
    RunEvent,
    RunFinished,
    RunStarted,
    Sent,
)
from processor.core.models import Job, Reply, Target

JOBS = '{"id": "a", "model": "m", "prompt": "hello"}\n{"id": "b", "model": "m", "prompt": "bye"}\n'


def plan(folder: Path, **changes: Any) -> processor.Plan:
    jobs = folder / "jobs.jsonl"
    jobs.write_text(JOBS)
    usual: dict[str, Any] = {
        "jobs": str(jobs),
        "out": str(folder / "results.jsonl"),
        "settings": processor.Settings(),
        "simulate": True,
        "quiet": True,
    }
    return processor.Plan(**usual | changes)


def rows(folder: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (folder / "results.jsonl").read_text().splitlines()]


@pytest.mark.usefixtures("quick_simulator")
def test_run_writes_a_row_for_each_job_and_returns_the_exit_code(tmp_path: Path) -> None:
    assert processor.run(plan(tmp_path)) == 0
    assert len(rows(tmp_path)) == 2


@pytest.mark.usefixtures("quick_simulator")
def test_run_async_works_inside_a_running_loop(tmp_path: Path) -> None:
    assert asyncio.run(processor.run_async(plan(tmp_path))) == 0
    assert len(rows(tmp_path)) == 2


def test_cancelled_run_async_leaves_whole_lines_and_an_unlocked_output(tmp_path: Path) -> None:
    async def cancelled_soon() -> None:
        async with asyncio.timeout(0.15):
            await processor.run_async(plan(tmp_path))

    with pytest.raises(TimeoutError):
        asyncio.run(cancelled_soon())
    assert processor.run(plan(tmp_path)) == 0
    assert len(rows(tmp_path)) == 2


def test_run_without_a_key_sends_nothing(tmp_path: Path) -> None:
    with pytest.raises(processor.ConfigError, match="no key: OPENAI_API_KEY is not set"):
        processor.run(plan(tmp_path, simulate=False, out="-"), environ={})


def test_every_exported_name_can_be_loaded_and_no_other() -> None:
    with pytest.raises(AttributeError, match="no attribute 'walk'"):
        processor.walk  # noqa: B018
    aliases = {"ModelLimits": "RateLimits"}
    for name in processor.__all__:
        assert getattr(processor, name).__name__ == aliases.get(name, name)


# ---------------------------------------------------------------- listeners


class Recorder:
    """A listener that keeps every event."""

    def __init__(self) -> None:
        self.events: list[RunEvent] = []

    def __call__(self, event: RunEvent) -> None:
        self.events.append(event)


@pytest.mark.usefixtures("quick_simulator")
def test_each_listener_gets_every_event_of_a_run_in_order(tmp_path: Path) -> None:
    first, second = Recorder(), Recorder()
    assert processor.run(plan(tmp_path), listeners=[first, second]) == 0
    assert first.events == second.events
    assert isinstance(first.events[0], RunStarted)
    assert isinstance(first.events[-1], RunFinished)
    finished = [event for event in first.events if isinstance(event, JobFinished)]
    assert {(event.result.custom_id, event.model, event.result.line) for event in finished} == {
        ("a", "m", 1),
        ("b", "m", 2),
    }
    assert all(event.endpoint and event.limit_group for event in finished)
    assert {type(event) for event in first.events} <= set(get_args(RunEvent))


@pytest.mark.usefixtures("quick_simulator")
def test_listener_that_raises_is_dropped_with_a_notice_and_the_run_goes_on(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    calls: list[RunEvent] = []

    def broken(event: RunEvent) -> None:
        calls.append(event)
        raise ZeroDivisionError("bug of the caller")

    recorder = Recorder()
    with caplog.at_level(logging.ERROR, logger="processor"):
        assert processor.run(plan(tmp_path), listeners=[broken, recorder]) == 0
    assert len(rows(tmp_path)) == 2
    assert len(calls) == 1
    (notice,) = (event for event in recorder.events if isinstance(event, Notice))
    assert notice.text.endswith("broken raised ZeroDivisionError: bug of the caller; it is not called again")
    assert recorder.events.index(notice) < len(recorder.events) - 1
    (record,) = caplog.records
    assert record.exc_info and record.exc_info[0] is ZeroDivisionError


# ---------------------------------------------------------------- a transport from outside


async def echo_transport(job: Job, target: Target, on_event: RequestListener) -> Reply:
    """Answers every prompt with itself."""
    now = asyncio.get_running_loop().time
    on_event(Sent(now()))
    on_event(ResponseStarted(200, {}, now()))
    on_event(FirstToken(now()))
    message = {"role": "assistant", "content": job.body["messages"][0]["content"]}
    choices = [{"index": 0, "message": message, "finish_reason": "stop"}]
    return Reply(status_code=200, request_id=None, body={"object": "chat.completion", "choices": choices})


def test_transport_from_outside_sends_the_requests_and_needs_no_key(tmp_path: Path) -> None:
    assert processor.run(plan(tmp_path, simulate=False), environ={}, transport=echo_transport) == 0
    answers = {row["custom_id"]: row["response"]["body"]["choices"][0]["message"]["content"] for row in rows(tmp_path)}
    assert answers == {"a": "hello", "b": "bye"}


def test_transport_from_outside_excludes_the_simulator(tmp_path: Path) -> None:
    with pytest.raises(processor.ConfigError, match="a run has one transport"):
        processor.run(plan(tmp_path), transport=echo_transport)
