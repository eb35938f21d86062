"""The whole of a run, in the order in which things are opened and closed."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from contextlib import AsyncExitStack

from processor.access import Access, access
from processor.pipeline import Run
from processor.session import showing, wiring
from processor.session.plan import Plan
from processor.session.signals import signals
from processor.terminal.progress import Progress
from processor.terminal.tally import Tally


def run(plan: Plan, environ: Mapping[str, str]) -> int:
    """Runs on a loop of its own. Returns the exit code; raises ConfigError before anything is sent."""
    door = None if plan.simulate else access(plan.settings, environ)
    with asyncio.Runner(loop_factory=_loop_factory()) as runner:
        return runner.run(_run(plan, door))


def _loop_factory() -> Callable[[], asyncio.AbstractEventLoop] | None:
    try:
        import uvloop
    except ImportError:
        return None
    return uvloop.new_event_loop


async def _run(plan: Plan, access: Access | None) -> int:
    async with AsyncExitStack() as stack:
        source = wiring.source(plan)
        stack.callback(source.close)
        sink = wiring.sink(plan)
        tally = Tally()
        progress = Progress(tally, showing.mode(plan))
        listen = showing.listeners(plan, tally, progress, stack)
        target, stream = await stack.enter_async_context(wiring.transport(plan, access))
        showing.begin(plan, access, source, sink, listen)
        work = Run(wiring.rooms(plan, access, source, sink, stream, target, listen), wiring.terms(plan))
        stack.enter_context(signals(work, tally, progress))
        with progress:
            outcome = await work()
    showing.end(plan, tally, outcome)
    return outcome.exit_code
