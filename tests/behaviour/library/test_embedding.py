"""A program that runs ``processor`` inside itself gets its process back as it was."""

from __future__ import annotations

import asyncio
import gc
import os
import resource
import signal
import socket
import sys
import warnings
import weakref
from collections.abc import Iterator
from dataclasses import fields
from pathlib import Path
from typing import Any

import pytest

import processor
from processor.core.errors import AccessDenied
from processor.core.events import RequestListener, RunEvent, RunFinished
from processor.core.fd_limit import RESERVED_FILES
from processor.core.models import Job, Reply, Target
from processor.simulator.memory_transport import MemoryTransport
from processor.simulator.provider import SimulatedProvider
from processor.simulator.settings import INSTANT
from tests.support.cli_world import Server
from tests.support.slow_cases import slow_except

JOBS = "".join(f'{{"id": "{name}", "model": "gpt-4o", "prompt": "hello"}}\n' for name in "abc")

SOFT_LIMIT = 300


def plan(folder: Path, **changes: Any) -> processor.Plan:
    jobs = folder / "jobs.jsonl"
    jobs.write_text(JOBS)
    usual: dict[str, Any] = {"jobs": str(jobs), "out": str(folder / "results.jsonl"), "settings": processor.Settings()}
    return processor.Plan(**usual | {"simulate": True, "quiet": True} | changes)


def snapshot() -> dict[str, object]:
    """What belongs to the whole process and a run may need otherwise."""
    wakeup_fd = signal.set_wakeup_fd(-1)
    signal.set_wakeup_fd(wakeup_fd, warn_on_full_buffer=False)
    umask = os.umask(0o077)
    os.umask(umask)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # policies end with Python 3.16
        policy = asyncio.get_event_loop_policy()
    return {
        "open files": resource.getrlimit(resource.RLIMIT_NOFILE),
        "collector": (gc.get_threshold(), gc.isenabled(), gc.get_freeze_count()),
        "handlers": {number: signal.getsignal(number) for number in signal.valid_signals()},
        "wake-up descriptor": wakeup_fd,
        "environment": dict(os.environ),
        "policy": policy,
        "folder": Path.cwd(),
        "umask": umask,
        "hooks": (sys.excepthook, sys.unraisablehook, sys.getprofile(), sys.gettrace()),
        "recursion": sys.getrecursionlimit(),
        "switch interval": sys.getswitchinterval(),
    }


@pytest.fixture(autouse=True)
def _host() -> Iterator[None]:
    """A program with settings of its own: a low limit on open files, handlers, thresholds, a wake-up descriptor."""
    limits = resource.getrlimit(resource.RLIMIT_NOFILE)
    thresholds = gc.get_threshold()
    numbers = (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1, signal.SIGHUP)
    handlers = {number: signal.signal(number, lambda *_: None) for number in numbers}
    reader, writer = socket.socketpair()
    writer.setblocking(False)
    wakeup_fd = signal.set_wakeup_fd(writer.fileno(), warn_on_full_buffer=False)
    resource.setrlimit(resource.RLIMIT_NOFILE, (SOFT_LIMIT, limits[1]))
    gc.set_threshold(123, 45, 6)
    gc.unfreeze()  # the number of frozen objects falls when one of them is no longer used
    yield
    gc.freeze()
    resource.setrlimit(resource.RLIMIT_NOFILE, limits)
    gc.set_threshold(*thresholds)
    signal.set_wakeup_fd(wakeup_fd)
    for number, handler in handlers.items():
        signal.signal(number, handler)
    reader.close()
    writer.close()


class LimitRecorder:
    """A listener that records the limit on open files during a run."""

    def __init__(self) -> None:
        self.soft_limits: set[int] = set()

    def __call__(self, event: RunEvent) -> None:
        self.soft_limits.add(resource.getrlimit(resource.RLIMIT_NOFILE)[0])


@pytest.mark.usefixtures("quick_simulator")
@pytest.mark.parametrize("settings", [processor.Settings(), processor.Settings(concurrency=200)])
def test_run_async_gives_the_process_back(tmp_path: Path, settings: processor.Settings) -> None:
    recorder = LimitRecorder()

    async def embedded() -> tuple[dict[str, object], dict[str, object]]:
        before = snapshot()
        assert await processor.run_async(plan(tmp_path, settings=settings), listeners=[recorder]) == 0
        return before, snapshot()

    before, after = asyncio.run(embedded())
    assert after == before
    assert min(recorder.soft_limits) > SOFT_LIMIT


def test_run_async_that_raises_gives_the_process_back(tmp_path: Path) -> None:
    async def embedded() -> tuple[dict[str, object], dict[str, object]]:
        before = snapshot()
        with pytest.raises(processor.ConfigError):
            await processor.run_async(plan(tmp_path, jobs=str(tmp_path / "missing.jsonl")))
        return before, snapshot()

    before, after = asyncio.run(embedded())
    assert after == before


@pytest.mark.parametrize("after_s", [0.0, 0.02, 0.15])
def test_cancelled_run_async_gives_the_process_back(tmp_path: Path, after_s: float) -> None:
    async def embedded() -> tuple[dict[str, object], dict[str, object]]:
        before = snapshot()
        task = asyncio.ensure_future(processor.run_async(plan(tmp_path)))
        await asyncio.sleep(after_s)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        return before, snapshot()

    before, after = asyncio.run(embedded())
    assert after == before


@pytest.mark.usefixtures("quick_simulator")
def test_two_runs_at_a_time_keep_the_raised_limit_until_both_have_ended(tmp_path: Path) -> None:
    """The first run that ends must not take the limit from the other."""
    at_end_of_the_long_run: list[int] = []

    def record(event: RunEvent) -> None:
        if isinstance(event, RunFinished):
            at_end_of_the_long_run.append(resource.getrlimit(resource.RLIMIT_NOFILE)[0])

    async def both() -> tuple[dict[str, object], dict[str, object]]:
        for name in ("long", "short"):
            (tmp_path / name).mkdir()
        before = snapshot()
        long_settings = processor.Settings(concurrency=1)
        long = plan(tmp_path / "long", settings=long_settings)
        short = plan(tmp_path / "short", limit=1)
        codes = await asyncio.gather(processor.run_async(long, listeners=[record]), processor.run_async(short))
        assert tuple(codes) == (0, 0)
        return before, snapshot()

    before, after = asyncio.run(both())
    assert after == before
    assert at_end_of_the_long_run[0] > SOFT_LIMIT


@pytest.mark.usefixtures("quick_simulator")
@pytest.mark.parametrize("has_uvloop", [True, False])
@pytest.mark.parametrize("jobs", ["present", "missing"])
def test_run_gives_the_process_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, jobs: str, has_uvloop: bool
) -> None:
    if not has_uvloop:
        monkeypatch.setitem(sys.modules, "uvloop", None)
    before = snapshot()
    if jobs == "present":
        assert processor.run(plan(tmp_path)) == 0
    else:
        with pytest.raises(processor.ConfigError):
            processor.run(plan(tmp_path, jobs=str(tmp_path / "missing.jsonl")))
    assert snapshot() == before


@pytest.mark.usefixtures("quick_simulator")
def test_run_leaves_the_current_event_loop_of_the_program(tmp_path: Path) -> None:
    loop = asyncio.new_event_loop()
    asyncio.set_event_loop(loop)
    try:
        assert processor.run(plan(tmp_path)) == 0
        assert asyncio.get_event_loop() is loop
    finally:
        asyncio.set_event_loop(None)
        loop.close()


def test_reading_properties_changes_nothing(tmp_path: Path) -> None:
    before = snapshot()
    embedded = plan(tmp_path)
    for owner in (embedded, embedded.settings, embedded.settings.limits, embedded.settings.waiting):
        names = {item.name for item in fields(owner)} | {name for name in dir(owner) if not name.startswith("_")}
        for name in names:
            getattr(owner, name)
    assert snapshot() == before


@pytest.mark.parametrize("refused", slow_except([False, True], True))
def test_run_that_has_ended_is_not_kept(tmp_path: Path, refused: bool) -> None:
    """Not even until the grace period of a run that was stopped is over."""

    async def refuse(job: Job, target: Target, on_event: RequestListener) -> Reply:
        raise AccessDenied("invalid key", status=401)

    class Listener:
        def __call__(self, event: RunEvent) -> None: ...

    async def scenario() -> tuple[int, bool]:
        gc.freeze()  # so that only what comes from now on is collected
        listener = Listener()
        kept = weakref.ref(listener)
        transport = {"transport": refuse} if refused else {}
        code = await processor.run_async(plan(tmp_path, simulate=not refused), {}, listeners=[listener], **transport)
        del listener
        await asyncio.sleep(0)
        gc.collect()
        return code, kept() is not None

    assert asyncio.run(scenario()) == (3 if refused else 0, False)


@pytest.fixture
def server() -> Iterator[Server]:
    server = Server(INSTANT)
    yield server
    server.close()


def test_session_changes_nothing_of_the_process_also_while_it_works(tmp_path: Path, server: Server) -> None:
    settings = processor.Settings(base_url=server.base_url, model="m", encoding="p50k_base")

    async def embedded() -> list[dict[str, object]]:
        snapshots = [snapshot()]
        async with processor.Session(settings, journal=tmp_path / "rows.jsonl", environ={}) as session:
            snapshots.append(snapshot())
            assert (await session.result({"prompt": "hello"}))["error"] is None
            snapshots.append(snapshot())
        return [*snapshots, snapshot()]

    before, *later = asyncio.run(embedded())
    assert all(snapshot == before for snapshot in later)


def test_session_sends_no_more_at_a_time_than_the_limit_on_open_files_allows() -> None:
    """Without a server, whose own connections would count against the limit of this process."""
    settings = processor.Settings(base_url="http://127.0.0.1:9/v1", model="m", encoding="p50k_base", concurrency=5000)
    send = MemoryTransport(SimulatedProvider(INSTANT), latency_s=(0.05, 0.05))
    in_flight = most = 0

    async def counted(job: Job, target: Target, on_event: RequestListener) -> Reply:
        nonlocal in_flight, most
        in_flight += 1
        most = max(most, in_flight)
        try:
            return await send(job, target, on_event)
        finally:
            in_flight -= 1

    async def embedded() -> int:
        async with processor.Session(settings, environ={}, transport=counted) as session:
            calls = [session.result({"prompt": f"hello {number}"}) for number in range(SOFT_LIMIT + 200)]
            return sum(row["error"] is None for row in await asyncio.gather(*calls))

    assert asyncio.run(embedded()) == SOFT_LIMIT + 200
    assert most == SOFT_LIMIT - RESERVED_FILES


def test_results_gives_the_process_back(server: Server) -> None:
    settings = processor.Settings(base_url=server.base_url, model="m", encoding="p50k_base")
    before = snapshot()
    (row,) = processor.results([{"prompt": "hello"}], settings, environ={})
    assert (row["error"], snapshot()) == (None, before)


def test_session_that_has_ended_is_not_kept(server: Server) -> None:
    settings = processor.Settings(base_url=server.base_url, model="m", encoding="p50k_base")

    async def scenario() -> bool:
        gc.freeze()  # so that only what comes from now on is collected
        async with processor.Session(settings, environ={}) as session:
            async for _ in session.results({"prompt": f"hello {number}"} for number in range(100)):
                break
        kept = weakref.ref(session)
        del session
        await asyncio.sleep(0)
        gc.collect()
        return kept() is not None

    assert not asyncio.run(scenario())
