"""The interface of an output: the results file, or standard output."""

from __future__ import annotations

from collections.abc import Awaitable, Sequence
from dataclasses import field
from types import TracebackType
from typing import Literal, Protocol, Self

from processor.core.fast_dataclass import dataclass
from processor.core.models import Result
from processor.output.job_index import JobIndex
from processor.output.scanner import ScanReport

FsyncMode = Literal["always", "interval", "never"]
"""When rows are synced: before ``append`` returns; within an interval; when the operating system decides."""

END_OF_FILE = 1 << 62
"""``lines_read`` of a job file that was read to its end."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SpentEarlier:
    """What earlier runs have spent for the output, in 1e-12 USD."""

    rows_pico: int = 0
    """By the rows, as they were found when the output was opened."""
    beside_rows_pico: int = 0
    """For rows that were dropped since, and at most for requests that broke off."""
    unknown_rows: int = 0
    """Replies without a cost in their rows."""
    unpriced: frozenset[bytes] = frozenset()
    """Keys of the jobs whose requests were in flight at a kill, where it is not known what they cost at most."""
    is_record_lost: bool = False
    """There are rows, but no state file: what was spent beside the rows is not known."""

    @property
    def pico(self) -> int:
        return self.rows_pico + self.beside_rows_pico


@dataclass(frozen=True, slots=True, kw_only=True)
class RecoveredState:
    """What earlier runs left in the output, as found when it was opened. Empty for standard
    output, which keeps nothing."""

    replied: int = 0
    """Jobs with a reply."""
    failed: int = 0
    """Jobs with a failed row and no reply. Rows of invalid lines do not count."""
    possibly_billed: int = 0
    """Requests that were in flight when the last run was killed: the provider may have billed them."""
    parked: frozenset[bytes] = frozenset()
    """Keys of the jobs that were left parked: this run sends them last."""
    spent: SpentEarlier = SpentEarlier()
    weaknesses: Sequence[str] = ()
    """What the file system cannot do, and which promise is weaker without it; grows while the output is used."""
    replies: ScanReport = field(default_factory=ScanReport)
    failures: ScanReport = field(default_factory=ScanReport)

    @property
    def mean_reply_bytes(self) -> float | None:
        """The mean size of a row in the results file; None where there is none."""
        return self.replies.size / self.replied if self.replied else None


class Sink(Protocol):
    """Takes results. Use it as an asynchronous context manager, so that it is closed.

    Every method but ``clear_in_flight``, ``record_parked`` and ``add_spent`` raises OutputError where the output cannot
    take more: it is full, failing, deleted or closed. After the first such error all later calls raise it, too.
    """

    job_index: JobIndex
    """What is known of each job from rows of earlier runs, and from this run."""
    recovered: RecoveredState

    def append(self, result: Result) -> Awaitable[None]:
        """Have a result's row written. To be awaited: until the write has returned.

        The row then survives the death of the process. It survives a loss of power after the next fsync; with fsync
        mode ``always`` that has happened by then. Cancelling the caller does not undo the write. No row is written
        for a failure of a job that has a reply, nor for an invalid line whose row is in the file already.
        """
        ...

    def record_in_flight(self, custom_id: str, attempts: int, worst_pico: int | None = None) -> None:
        """Record, before the first byte of an attempt is sent, that a request is in flight.

        ``attempts`` counts the requests for this job in all runs, including this one. ``worst_pico``: what it can cost
        at most, in 1e-12 USD; None where that is not kept. ``append`` ends the record. It survives the death of the
        process, not a loss of power.
        """
        ...

    def add_spent(self, pico: int) -> None:
        """Record what was spent, at most, for a request that has no cost in a row. Call it before its record ends."""
        ...

    def clear_in_flight(self, custom_id: str, attempts: int) -> None:
        """Record that an attempt ended without a row, so that nothing of this job is in flight.

        ``attempts`` counts the requests sent so far; where none was sent for this attempt, the number before it.
        """
        ...

    def record_parked(self, custom_id: str, attempts: int) -> None:
        """Record that a job waits for others, or is left without a row: the next run sends it last."""
        ...

    async def has_earlier_reply(self, endpoint: str, model: str) -> bool:
        """Whether a row of an earlier run has a reply of this endpoint (scheme, host and path) and model.

        It may read all rows: call it only where the answer matters.
        """
        ...

    def free_bytes(self) -> int | None:
        """Return the free space of the disk; None where the output is not on a disk."""
        ...

    async def close(self, lines_read: int | None = None, *, nothing_sent: bool = False) -> None:
        """Write and sync what is left, and release the output. Later calls change nothing.

        ``nothing_sent``: the run ends with exit code 2. Files that it created are removed if they are empty.

        ``lines_read`` is given at the orderly end of a run: the number of the last line of the job file that was
        read, or END_OF_FILE. Superseded rows are then dropped, and so are rows of invalid lines up to there that this
        run has not found again.
        """
        ...

    async def __aenter__(self) -> Self: ...

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...


class UnrecordedSink:
    """The part of a ``Sink`` that keeps no record of requests, for outputs that no later run reads."""

    def __init__(self, job_index: JobIndex | None = None, recovered: RecoveredState | None = None) -> None:
        self.job_index = JobIndex() if job_index is None else job_index
        self.recovered = RecoveredState() if recovered is None else recovered

    def record_in_flight(self, custom_id: str, attempts: int, worst_pico: int | None = None) -> None:
        """Do nothing."""

    def add_spent(self, pico: int) -> None:
        """Do nothing."""

    def clear_in_flight(self, custom_id: str, attempts: int) -> None:
        """Do nothing."""

    def record_parked(self, custom_id: str, attempts: int) -> None:
        """Do nothing."""

    async def has_earlier_reply(self, endpoint: str, model: str) -> bool:
        """Return False: nothing is known of earlier runs."""
        return False

    def free_bytes(self) -> None:
        """Return None: nothing is written to a disk."""
        return

    async def close(self, lines_read: int | None = None, *, nothing_sent: bool = False) -> None:
        """Do nothing."""

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()
