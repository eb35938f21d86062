"""What the displays of a run's progress write, on a virtual clock."""

from __future__ import annotations

import asyncio
import io
from collections.abc import Callable
from datetime import datetime

from processor.core.events import BottleneckChanged, JobFinished, LimitsChanged, RunEvent, RunStarted
from processor.core.models import Failure, Reply, Result, Timing, Usage
from processor.simulator.virtual_clock import run
from processor.stats.run_stats import RunStats
from processor.terminal.panel_recorder import PanelContext, RunDetails
from processor.terminal.progress import Mode, Progress
from tests.support.run_events import attempt_started, attempt_succeeded

NOON = datetime(2026, 11, 29, 12).timestamp()
"""The local time at which a test begins."""


def half_a_run(at: float = 0.0, *, cost_usd: float | None = None) -> list[RunEvent]:
    """2,000 jobs: 999 done in the first 100 s, one failed, 64 in flight, limited by tokens."""
    usage = Usage(prompt_tokens=900, completion_tokens=100)
    reply = Reply(status_code=200, request_id=None, body={})
    timing = Timing(started_at="", queued_s=0.0, first_token_s=0.42, total_s=4.1)
    done = Result(fingerprint="f", custom_id="r", line=1, reply=reply, usage=usage, timing=timing, cost_usd=cost_usd)
    failed = Result(fingerprint="f", custom_id="r", line=1, failure=Failure(code="timeout", message="slow"))
    return [
        RunStarted(at=at, jobs=2000, done=0),
        LimitsChanged(at=at, limit_group="", rpm=500, tpm=200_000, source="configured"),
        *(JobFinished(at=at + n / 10, result=done, model="gpt-4o-mini") for n in range(999)),
        JobFinished(at=at + 99.9, result=failed),
        *(attempt_started(at + 95.0, tokens=400) for _ in range(487)),
        *(attempt_succeeded(at + 99.9) for _ in range(423)),
        BottleneckChanged(at=at + 99.9, bottleneck="tokens"),
    ]


def output_of(
    mode: Mode,
    stream: io.StringIO,
    for_s: float,
    *events: RunEvent,
    context: PanelContext | None = None,
    prepare: Callable[[RunStats, RunDetails], None] = lambda stats, details: None,
    is_closed: bool = True,
) -> str:
    """What is written in ``for_s`` seconds after these events. ``is_closed``: the end of the display included."""

    async def main() -> str:
        stats, loop = RunStats(), asyncio.get_running_loop()
        unix_time = lambda: NOON + loop.time()  # noqa: E731
        with Progress(stats, mode, stream, context=context, unix_time=unix_time) as progress:
            prepare(stats, progress.details)
            for event in events:
                stats(event)
                if isinstance(event, progress.event_types):
                    progress(event)
            await asyncio.sleep(for_s)
            before_the_end = stream.getvalue()
        return stream.getvalue() if is_closed else before_the_end

    return run(main())
