"""What a run through the batch API works with, its options, and how it ends."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable
from dataclasses import field
from pathlib import Path

from processor.batch.batch_budget import BatchBudget
from processor.batch.batch_log import BatchLog
from processor.batch.provider_batches import ProviderBatches
from processor.batch.sizes import BatchLimits
from processor.core.events import Listener
from processor.core.fast_dataclass import dataclass
from processor.core.models import RunInThread
from processor.cost.price_list import PriceList
from processor.input.job_file import InvalidLine
from processor.input.job_files import JobItems
from processor.input.job_formats import ParsedJob
from processor.output.results_file import ResultsFile
from processor.output.storage import Storage
from processor.scheduler import Outcome, RunOptions
from processor.scheduler.reply_validation import ReplyValidation
from processor.tokens.counter import TokenCounter


@dataclass(frozen=True, slots=True, kw_only=True)
class BatchDependencies:
    """The objects of a run."""

    read_jobs: Callable[[], JobItems]
    """Reads the job file from its beginning, without what is done."""
    read_again: Callable[[], AsyncGenerator[list[ParsedJob | InvalidLine], None]]
    """Reads all of it once more."""
    source_name: str
    """The job file's name, for messages."""
    sink: ResultsFile
    log: BatchLog
    storage: Storage
    api: ProviderBatches
    base_url: str
    upload_path: Callable[[str], Path]
    """Returns where the jobs of the batch with this name are kept until they are uploaded."""
    counter: TokenCounter
    prices: PriceList
    emit: Listener
    wall_clock: Callable[[], float]
    """Returns Unix seconds."""
    run_in_thread: RunInThread
    budget: BatchBudget | None = None
    validation: ReplyValidation | None = None
    """Checks the output of replies against one schema; None: nothing does."""


@dataclass(frozen=True, slots=True, kw_only=True)
class BatchOptions:
    """How a run goes about it."""

    run: RunOptions
    limits: BatchLimits
    paths: frozenset[str]
    """The API paths whose jobs may be in a batch."""
    detach: bool = False
    """End as soon as nothing more can be submitted."""
    stream_at: float | None = None
    """Unix seconds at which the batches are cancelled, and what is left is streamed; None: never."""
    end_at: float | None = None
    """Unix seconds at which the run ends; None: when it is done."""
    enqueued_tokens: int | None = None
    max_submissions: int = 3
    poll_min_s: float = 10.0
    poll_max_s: float = 300.0
    max_outage_s: float = 21_600.0
    keep_remote_files: bool = False
    price_factor: float | None = None
    output: str = "RESULTS"
    """The results file, for the commands in messages."""
    connection_flags: str = ""
    """What the command that cancels needs to reach the provider, with a space before it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class BatchOutcome:
    """How a run through the batch API ended."""

    outcome: Outcome
    stream_rest: bool = False
    """What is left is to be streamed now."""


@dataclass(slots=True)
class Counts:
    """What a run has counted."""

    failed: int = 0
    """Jobs that got a failed row."""
    failed_earlier: int = 0
    """Jobs with a failed row of an earlier run that stands."""
    jobs: int = 0
    left: int = 0
    """Jobs that wait for room at the provider, or are left to be streamed."""
    submitted: int = 0
    """Batches that this run has submitted."""
    lines: int = 0
    last_line: int = 0
    refused: list[str] = field(default_factory=list)
    """Why the account was refused, in the provider's words."""
