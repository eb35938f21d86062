"""The whole of a run, in the order in which things are opened and closed."""

from __future__ import annotations

import asyncio
import gc
import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import AsyncExitStack, contextmanager

from processor.app import factory, run_reporter
from processor.app.run_options import Plan, check_files
from processor.app.signals import signals
from processor.config.endpoint_resolution import EndpointAccess, resolve_endpoint
from processor.config.settings import environment
from processor.core.events import RunFinished
from processor.scheduler import Scheduler
from processor.stats.run_stats import RunStats
from processor.terminal.progress import Progress

GC_THRESHOLD = 10_000
"""Objects between two looks of the garbage collector. Hardly anything here refers to itself, and with Python's own 700
it looks at the same jobs in flight again and again."""


def run(plan: Plan, environ: Mapping[str, str] | None = None) -> int:
    """Runs on a loop of its own, in the main thread: Ctrl-C stops it in order. Returns the exit code.

    ``environ``: where the key is found; None: the environment and ``.env``. Raises ConfigError before anything is sent.
    """
    with _fewer_sweeps(), asyncio.Runner(loop_factory=_loop_factory()) as runner:
        return runner.run(_run(plan, _access(plan, environ), listen_to_signals=True))


async def run_async(plan: Plan, environ: Mapping[str, str] | None = None) -> int:
    """As ``run``, inside a running loop, and deaf to signals: cancelling it breaks off what is in flight."""
    return await _run(plan, _access(plan, environ), listen_to_signals=False)


@contextmanager
def _fewer_sweeps() -> Iterator[None]:
    before = gc.get_threshold()
    gc.set_threshold(GC_THRESHOLD, *before[1:])
    try:
        yield
    finally:
        gc.set_threshold(*before)


def _access(plan: Plan, environ: Mapping[str, str] | None) -> EndpointAccess | None:
    if plan.simulate:
        return None
    return resolve_endpoint(plan.settings, environment(os.environ) if environ is None else environ)


def _loop_factory() -> Callable[[], asyncio.AbstractEventLoop] | None:
    try:
        import uvloop
    except ImportError:
        return None
    return uvloop.new_event_loop


async def _run(plan: Plan, resolve_endpoint: EndpointAccess | None, *, listen_to_signals: bool) -> int:
    check_files(plan)
    async with AsyncExitStack() as stack:
        source = factory.source(plan)
        stack.callback(source.close)
        sink = factory.sink(plan)
        stack.push_async_exit(sink)
        tally = RunStats()
        progress = Progress(tally, run_reporter.mode(plan))
        listen = run_reporter.listeners(plan, tally, progress, stack)
        target, stream = await stack.enter_async_context(factory.transport(plan, resolve_endpoint))
        rooms = factory.rooms(plan, resolve_endpoint, source, sink, stream, target, listen)
        run_reporter.begin(plan, resolve_endpoint, source, sink, listen)
        work = Scheduler(rooms, factory.terms(plan))
        if listen_to_signals:
            stack.enter_context(signals(work, tally, progress))
        with progress:
            outcome = await work.run()
        listen(RunFinished(at=asyncio.get_running_loop().time(), exit_code=outcome.exit_code, reason=outcome.reason))
    run_reporter.end(plan, tally, outcome)
    return outcome.exit_code
