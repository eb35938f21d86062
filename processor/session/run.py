"""The whole of a run, in the order in which things are opened and closed."""

from __future__ import annotations

import asyncio
import gc
import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import AsyncExitStack, contextmanager

from processor.access import Access, access
from processor.config import environment
from processor.pipeline import Run
from processor.session import showing, wiring
from processor.session.plan import Plan, check_files
from processor.session.signals import signals
from processor.terminal.progress import Progress
from processor.terminal.tally import Tally

SWEEP_AFTER = 10_000
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
    gc.set_threshold(SWEEP_AFTER, *before[1:])
    try:
        yield
    finally:
        gc.set_threshold(*before)


def _access(plan: Plan, environ: Mapping[str, str] | None) -> Access | None:
    if plan.simulate:
        return None
    return access(plan.settings, environment(os.environ) if environ is None else environ)


def _loop_factory() -> Callable[[], asyncio.AbstractEventLoop] | None:
    try:
        import uvloop
    except ImportError:
        return None
    return uvloop.new_event_loop


async def _run(plan: Plan, access: Access | None, *, listen_to_signals: bool) -> int:
    check_files(plan)
    async with AsyncExitStack() as stack:
        source = wiring.source(plan)
        stack.callback(source.close)
        sink = wiring.sink(plan)
        stack.push_async_exit(sink)
        tally = Tally()
        progress = Progress(tally, showing.mode(plan))
        listen = showing.listeners(plan, tally, progress, stack)
        target, stream = await stack.enter_async_context(wiring.transport(plan, access))
        rooms = wiring.rooms(plan, access, source, sink, stream, target, listen)
        showing.begin(plan, access, source, sink, listen)
        work = Run(rooms, wiring.terms(plan))
        if listen_to_signals:
            stack.enter_context(signals(work, tally, progress))
        with progress:
            outcome = await work()
    showing.end(plan, tally, outcome)
    return outcome.exit_code
