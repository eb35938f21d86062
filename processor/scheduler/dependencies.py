"""What a run consists of, how it is to go, and how it ended: values only."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable, Sequence
from dataclasses import field
from typing import TYPE_CHECKING, Protocol

from processor.core.events import Listener, RequestEvent, Transport
from processor.core.fast_dataclass import dataclass
from processor.core.models import Job, Result
from processor.core.shards import Shard
from processor.cost.price_list import PriceList
from processor.endpoints.pool import EndpointPool
from processor.input.done_job_skipper import SkippedJobs
from processor.input.job_file import InvalidLine
from processor.input.job_files import is_in_shard
from processor.input.job_formats import ParsedJob
from processor.output.sink import Sink
from processor.scheduler.deadline import Deadline
from processor.tokens.counter import TokenCounter

if TYPE_CHECKING:
    from processor.scheduler.reply_validation import ReplyValidation

LOOK_AHEAD = 256
"""Jobs that are read and wait, beside those in flight. With more of them a limit group that is blocked delays the jobs
of other groups less, at the price of memory."""


class ReplyPrinter(Protocol):
    """Shows replies live; see ``terminal.echo``."""

    def begin(self, job: Job) -> None: ...
    def on_event(self, event: RequestEvent) -> None: ...
    def on_invalid(self, problem: str) -> None: ...
    def end(self, result: Result) -> None: ...


@dataclass(frozen=True, slots=True)
class NoJobYet:
    """The source has no job at present, and may have one later."""

    is_over: Callable[[], bool]
    """Whether there is a job by now, or the end. Call ``Scheduler.wake`` when it changes."""


SourceItem = ParsedJob | InvalidLine | SkippedJobs | Job | NoJobYet
"""What a run reads. A ``ParsedJob`` is compared with earlier runs and lines first; a ``Job`` is sent."""


def ignore_job(job: Job) -> None:
    """Do nothing."""


def never_replied(endpoint: str, model: str) -> bool:
    """Return False: the rows of earlier runs alone decide."""
    return False


@dataclass(frozen=True, slots=True, kw_only=True)
class Dependencies:
    """The objects that a run works with."""

    source: AsyncGenerator[Sequence[SourceItem], None]
    """Yields as many as may be handled in one turn of the event loop."""
    read_again: Callable[[], AsyncGenerator[list[ParsedJob | InvalidLine], None]] | None
    """Reads the lines from the beginning once more; None where they can be read only once."""
    source_name: str | None
    """The job file's name, for messages; None where the jobs come from no file."""
    sink: Sink
    endpoints: EndpointPool
    transport: Transport
    counter: TokenCounter
    emit: Listener
    wall_clock: Callable[[], float]
    """Returns Unix seconds."""
    printer: ReplyPrinter | None = None
    deadline: Deadline | None = None
    prices: PriceList = field(default_factory=PriceList)
    validation: ReplyValidation | None = None
    """None where no output is checked."""
    has_replied: Callable[[str, str], bool] = never_replied
    """Whether this run has a reply of an endpoint (scheme, host and path) and model that counts as one of an earlier
    run: it shows that a parked job is at fault where no other job is left."""
    on_job_ended: Callable[[Job], None] = ignore_job
    """Called when nothing more is done for a job in this run: its row is written, or it goes without one."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RunOptions:
    """How the scheduler goes about a run."""

    grace_s: float = 30.0
    """How long requests in flight may continue after a stop."""
    look_ahead: int = LOOK_AHEAD
    limit: int | None = None
    """Only so many lines of the job file are run."""
    shard: Shard | None = None
    """Only the lines of this part are run, of those within the limit; None: all."""
    retry_failed: bool = False
    resend_changed: bool = False
    simulated: bool = False
    stream: bool = True
    """Whether replies are asked for as streams."""

    def includes(self, line: ParsedJob | InvalidLine) -> bool:
        """Whether a line within the limit belongs to this run's shard."""
        return is_in_shard(line, self.shard)


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """How a run ended."""

    exit_code: int
    reason: str | None = None
    """Why the run ended before all its jobs had rows; None if it did not."""
    rows_without_job: int = 0
    """Jobs with a row that are not in the job file; counted where it was read to its end."""
