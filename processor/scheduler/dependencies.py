"""What a run is made of, how it goes about it, and how it ended: values only."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable
from dataclasses import dataclass, field
from typing import Protocol

from processor.core.events import Listener, RequestEvent, Transport
from processor.core.models import Job, Result, Target
from processor.input.done_job_skipper import SkippedJobs
from processor.input.job_file import InvalidLine
from processor.input.job_formats import ParsedJob
from processor.output.sink import Sink
from processor.ratelimit.limiter import RateLimiter
from processor.retry.policy import RetryPolicy
from processor.tokens.counter import TokenCounter

LOOK_AHEAD = 256
"""Jobs that are read and wait, beside those in flight: how far a held-up limit group can hide another's jobs."""


class ReplyPrinter(Protocol):
    """Shows replies live; see ``terminal.echo``."""

    def begin(self, job: Job) -> None: ...
    def tell(self, signal: RequestEvent) -> None: ...
    def end(self, result: Result) -> None: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Dependencies:
    source: AsyncGenerator[ParsedJob | InvalidLine | SkippedJobs, None]
    source_name: str
    sink: Sink
    gate: RateLimiter
    stream: Transport
    target: Target
    counter: TokenCounter
    listen: Listener
    wall: Callable[[], float]
    """Unix seconds."""
    echo: ReplyPrinter | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class RunOptions:
    policy: RetryPolicy = field(default_factory=RetryPolicy)
    max_outage_s: float = 6 * 3600.0
    grace_s: float = 30.0
    ahead: int = LOOK_AHEAD
    limit: int | None = None
    """Only so many lines of the job file."""
    retry_failed: bool = False
    resend_changed: bool = False
    simulated: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    exit_code: int
    why: str | None = None
    """What ended the run before its end."""
