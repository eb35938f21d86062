"""What the panel costs at 500 requests a second: CPU time and bytes for each picture, and for the events between.

python -m tests.benchmarks.panel
"""

from __future__ import annotations

import os
import random
import time
from statistics import mean

from processor.core.events import (
    AttemptFinished,
    AttemptStarted,
    BottleneckChanged,
    JobFinished,
    LimitsChanged,
    RunEvent,
    RunStarted,
)
from processor.core.models import Reply, Result, Timing, Usage
from processor.simulator.virtual_clock import run
from processor.stats.run_stats import RunStats
from processor.terminal.panel_recorder import PanelContext
from processor.terminal.progress import Progress
from tests.support.run_events import attempt_started, attempt_succeeded
from tests.support.terminal import FakeTerminal

REQUESTS_PER_S = 500
SECONDS = 300
SIZES = ((60, 20), (80, 24), (150, 36), (200, 50))


class CountingTerminal(FakeTerminal):
    """Counts what is written, and drops it."""

    def __init__(self) -> None:
        super().__init__()
        self.sizes: list[int] = []

    def write(self, text: str) -> int:
        self.sizes.append(len(text.encode()))
        return len(text)


def events_of_a_period(at: float, period_s: float) -> list[RunEvent]:
    """As many as come between two pictures."""
    number = round(REQUESTS_PER_S * period_s)
    return [event for index in range(number) for event in _events_of_a_job(at + index / REQUESTS_PER_S)]


def _events_of_a_job(at: float) -> tuple[AttemptStarted, AttemptFinished, JobFinished]:
    usage = Usage(prompt_tokens=400, completion_tokens=180)
    total_s = random.lognormvariate(1.4, 0.5)
    timing = Timing(started_at="", queued_s=0.0, first_token_s=total_s / 10, total_s=total_s)
    reply = Reply(status_code=200, request_id=None, body={})
    result = Result(fingerprint="f", custom_id="r", line=1, reply=reply, usage=usage, timing=timing, cost_usd=0.001)
    model = random.choice(("gpt-4o", "gpt-4o-mini"))
    return attempt_started(at, tokens=580), attempt_succeeded(at), JobFinished(at=at, result=result, model=model)


async def measure(stream: CountingTerminal) -> tuple[float, float]:
    """CPU seconds of the pictures, and of the events that only the panel hears."""
    stats = RunStats()
    context = PanelContext(source="jobs.jsonl", destination="api.openai.com", concurrency=2000)
    progress = Progress(stats, "panel", stream, context=context)
    stats(RunStarted(at=0.0, jobs=1_000_000, done=0))
    stats(LimitsChanged(at=0.0, limit_group="", rpm=30_000, tpm=20_000_000, source="configured"))
    pictures_s = events_s = now = 0.0
    while now < SECONDS:
        period_s = progress._display.period_s
        events = [*events_of_a_period(now, period_s), BottleneckChanged(at=now, bottleneck="requests")]
        now += period_s
        for event in events:
            stats(event)
        heard = [event for event in events if isinstance(event, progress.event_types)]
        start = time.process_time()
        for event in heard:
            progress(event)
        events_s += time.process_time() - start
        start = time.process_time()
        progress._display.show(now)
        pictures_s += time.process_time() - start
    return pictures_s, events_s


def main() -> None:
    print(f"{REQUESTS_PER_S} requests a second, {SECONDS} s")
    for columns, rows in SIZES:
        os.environ |= {"COLUMNS": str(columns), "LINES": str(rows)}
        stream = CountingTerminal()
        pictures_s, events_s = run(measure(stream))
        per_picture_ms = pictures_s / len(stream.sizes) * 1000
        share = (pictures_s + events_s) / SECONDS
        print(
            f"{columns:3}x{rows}: {per_picture_ms:.2f} ms and {mean(stream.sizes):,.0f} bytes a picture, "
            f"events {events_s / SECONDS:.2%}, in all {share:.2%} of a core"
        )


if __name__ == "__main__":
    main()
