"""The hook for notices: what is delivered when, and that no command of a user's can hold up or fail a run."""

from __future__ import annotations

import asyncio
import json
import sys
import time
from collections.abc import Awaitable, Callable
from functools import wraps
from pathlib import Path
from typing import Any

import pytest

from processor.core.events import Notice, OutageStarted, RunEvent, RunFinished, Stopping
from processor.listeners import notice_hook
from processor.listeners.notice_hook import NoticeHook

pytestmark = pytest.mark.process

RECORD = "import sys; open(sys.argv[1], 'a').write(sys.stdin.read())"


def in_loop(test: Callable[..., Awaitable[None]]) -> Callable[..., None]:
    """Runs a test in an event loop of its own."""

    @wraps(test)
    def run(*args: Any, **fixtures: Any) -> None:
        asyncio.run(_awaited(test(*args, **fixtures)))

    return run


async def _awaited(result: Awaitable[None]) -> None:
    await result


class World:
    """A hook whose command records what it gets."""

    def __init__(self, folder: Path, code: str = RECORD, *, timeout_s: float = 10.0) -> None:
        self.path = folder / "events.jsonl"
        self.emitted: list[RunEvent] = []
        args = (sys.executable, "-S", "-c", code, str(self.path))
        self.hook = NoticeHook(args, self.emitted.append, lambda: {"failed": 0}, time.time, timeout_s=timeout_s)

    def names(self) -> list[str]:
        if not self.path.exists():
            return []
        events = [json.loads(line) for line in self.path.read_text().splitlines()]
        return [event.get("text") or event["event"] for event in events]


def done(at: float = 0.0) -> RunFinished:
    return RunFinished(at=at, exit_code=0, reason=None)


@in_loop
async def test_stopping_and_done_are_always_delivered(tmp_path: Path) -> None:
    world = World(tmp_path)
    for event in (Stopping(at=0.0, reason="signal"), done()):
        world.hook(event)
    await world.hook.close()
    assert world.names() == ["stopping", "done"]
    assert world.emitted == []


@in_loop
async def test_of_other_events_one_a_minute_is_delivered_the_newest(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(notice_hook, "MIN_INTERVAL_S", 0.5)
    world = World(tmp_path)
    world.hook(OutageStarted(at=0.0, endpoint="e", message="503"))
    while not world.names():
        await asyncio.sleep(0.01)
    for number in range(5):
        world.hook(Notice(at=0.0, text=f"notice {number}"))
    while len(world.names()) < 2:
        await asyncio.sleep(0.01)
    assert world.names() == ["outage_started", "notice 4"]
    world.hook(Notice(at=0.0, text="left out"))
    world.hook(done())
    await world.hook.close()
    assert world.names() == ["outage_started", "notice 4", "done"]


@in_loop
async def test_command_that_hangs_is_killed_with_what_it_started(tmp_path: Path) -> None:
    child = "import time; time.sleep(60)"
    code = f"import subprocess, sys; subprocess.run([sys.executable, '-S', '-c', {child!r}])"
    world = World(tmp_path, code, timeout_s=0.3)
    world.hook(done())
    started = time.monotonic()
    await world.hook.close()
    assert time.monotonic() - started < 10
    (notice,) = world.emitted
    assert isinstance(notice, Notice)
    assert "did not end within 0.3 s" in notice.text


@in_loop
async def test_first_failure_is_said_once_and_not_to_the_hook_itself(tmp_path: Path) -> None:
    world = World(tmp_path, "import sys; sys.exit(4)")
    for event in (Stopping(at=0.0, reason="signal"), done()):
        world.hook(event)
    await world.hook.close()
    (notice,) = world.emitted
    assert isinstance(notice, Notice)
    assert notice.text.endswith("failed with exit code 4")
    assert str(tmp_path) not in notice.text


@in_loop
async def test_program_that_does_not_exist_is_said(tmp_path: Path) -> None:
    emitted: list[RunEvent] = []
    hook = NoticeHook(("/no/such/program", "an argument"), emitted.append, dict, time.time)
    hook(done())
    await hook.close()
    (notice,) = emitted
    assert isinstance(notice, Notice)
    assert notice.text.startswith("the hook program cannot be started")
    assert "argument" not in notice.text
