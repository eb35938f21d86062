"""What signals do while a run is working."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Protocol

from processor.core import exit_codes, platform
from processor.core.text import one_line, place_of
from processor.ratelimit.snapshot import LimiterSnapshot
from processor.scheduler.job_state import JobState
from processor.stats.run_stats import RunStats
from processor.terminal import status_line
from processor.terminal.formatting import MAX_LINE_CHARS
from processor.terminal.progress import Progress

MAX_REQUESTS_SHOWN = 10
"""Requests in flight that a status report names."""

_STOP_REASONS = {signal.SIGINT: "interrupted (Ctrl-C)", signal.SIGTERM: "interrupted (SIGTERM)"}


class StoppableRun(Protocol):
    """What signals do something to."""

    @property
    def is_stopping(self) -> bool: ...

    @property
    def limiter_snapshots(self) -> Sequence[LimiterSnapshot]: ...

    @property
    def in_flight(self) -> Sequence[JobState]: ...

    def stop(self, reason: str, *, exit_code: int) -> None: ...

    def abort(self) -> None: ...


@contextmanager
def handle_signals(scheduler: StoppableRun, stats: RunStats, progress: Progress) -> Iterator[None]:
    """SIGINT, SIGTERM and SIGHUP stop the run in order, a second SIGINT or SIGTERM at once. SIGUSR1 prints what the run
    is doing; SIGWINCH redraws the progress. SIGHUP stays ignored where it was when the program started. Restores the
    previous handlers at the end.
    """
    callbacks: dict[int, Callable[[], object]] = {
        number: partial(_stop, scheduler, reason) for number, reason in _STOP_REASONS.items()
    }
    if platform.SIGHUP is not None and not platform.is_ignored(platform.SIGHUP):
        callbacks[platform.SIGHUP] = partial(_hang_up, scheduler)
    if platform.SIGUSR1 is not None:
        callbacks[platform.SIGUSR1] = partial(_print_status, scheduler, stats, progress)
    if platform.SIGWINCH is not None and progress.is_redrawn:
        callbacks[platform.SIGWINCH] = progress.redraw
    with platform.signal_handlers(callbacks):
        yield


def _stop(scheduler: StoppableRun, reason: str) -> None:
    if scheduler.is_stopping:
        scheduler.abort()
    else:
        scheduler.stop(reason, exit_code=exit_codes.INTERRUPTED)


def _hang_up(scheduler: StoppableRun) -> None:
    """Stop in order. Of a terminal that closes, the shell and the system each send a signal: the second says nothing
    new."""
    if not scheduler.is_stopping:
        scheduler.stop("interrupted (SIGHUP: the terminal was closed)", exit_code=exit_codes.INTERRUPTED)


def _print_status(scheduler: StoppableRun, stats: RunStats, progress: Progress) -> None:
    now = asyncio.get_running_loop().time()
    lines = [status_line.status_text(stats, now)]
    for group in (group for snapshot in scheduler.limiter_snapshots for group in snapshot.limit_groups):
        cool_down = f", cooling down for {group.cool_down_s:.1f} s" if group.cool_down_s else ""
        lines.append(f"  limit group {_shown(group.name)}: {group.waiting} waiting{cool_down}")
    oldest_first = sorted(scheduler.in_flight, key=lambda state: state.attempt_started_at)
    lines += [
        f"  in flight for {now - state.attempt_started_at:.1f} s: {_shown(state.job.custom_id)} "
        f"({_shown(place_of(state.job.line, state.job.source))})"
        for state in oldest_first[:MAX_REQUESTS_SHOWN]
    ]
    if len(oldest_first) > MAX_REQUESTS_SHOWN:
        lines.append(f"  and {len(oldest_first) - MAX_REQUESTS_SHOWN} more")
    progress.say("\n".join(lines))


def _shown(name: str) -> str:
    return one_line(name, MAX_LINE_CHARS)
