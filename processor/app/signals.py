"""How a run is spoken to while it runs."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Iterator
from contextlib import contextmanager

from processor.core import exit_codes
from processor.scheduler import Scheduler
from processor.stats.run_stats import RunStats
from processor.terminal import status_line
from processor.terminal.progress import Progress

MOST_SHOWN = 10
"""Requests in flight that are named to whoever asks."""

_STOPS = {signal.SIGINT: "interrupted (Ctrl-C)", signal.SIGTERM: "interrupted (SIGTERM)"}


@contextmanager
def signals(run: Scheduler, tally: RunStats, progress: Progress) -> Iterator[None]:
    """Ctrl-C and SIGTERM stop the run in order, a second one at once; SIGUSR1 asks what it is doing.

    Afterwards signals do again what they did before.
    """
    loop = asyncio.get_running_loop()
    before = {number: signal.getsignal(number) for number in (*_STOPS, signal.SIGUSR1)}
    for number, why in _STOPS.items():
        loop.add_signal_handler(number, _stop, run, why)
    loop.add_signal_handler(signal.SIGUSR1, _say, run, tally, progress)
    try:
        yield
    finally:
        for number, handler in before.items():
            loop.remove_signal_handler(number)
            signal.signal(number, signal.SIG_DFL if handler is None else handler)


def _stop(run: Scheduler, why: str) -> None:
    if run.is_stopping:
        run.abort()
    else:
        run.stop(why, exit_code=exit_codes.INTERRUPTED)


def _say(run: Scheduler, tally: RunStats, progress: Progress) -> None:
    now = asyncio.get_running_loop().time()
    lines = [status_line.line(tally, now)]
    for group in (group for snapshot in run.limiter_snapshots for group in snapshot.limit_groups):
        cool_down = f", cooling down for {group.cool_down_s:.1f} s" if group.cool_down_s else ""
        lines.append(f"  limit group {group.name}: {group.waiting} waiting{cool_down}")
    oldest = sorted(run.in_flight, key=lambda state: state.attempt_started_at)
    lines += [
        f"  in flight for {now - state.attempt_started_at:.1f} s: {state.job.custom_id} (line {state.job.line})"
        for state in oldest[:MOST_SHOWN]
    ]
    if len(oldest) > MOST_SHOWN:
        lines.append(f"  and {len(oldest) - MOST_SHOWN} younger ones")
    progress.say("\n".join(lines))
