"""Where rows go: what the pipeline knows of the journal, and of standard output."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Literal, Protocol, TypeVar

from processor.core.models import Result
from processor.output.job_index import JobIndex

T = TypeVar("T")

FsyncMode = Literal["always", "interval", "never"]

END_OF_FILE = 1 << 62
"""``lines_read`` for a job file that was read to its end."""


class RunInThread(Protocol):
    """Does blocking work elsewhere: ``asyncio.to_thread``, or inline on a virtual clock."""

    def __call__(self, work: Callable[[], T], /) -> Awaitable[T]: ...


class Sink(Protocol):
    """Takes results. Every method but ``clear_in_flight`` raises OutputError where the output cannot take more."""

    job_index: JobIndex

    async def append(self, result: Result) -> None:
        """Return when the row is written; the write is not undone by cancelling the caller."""
        ...

    def record_in_flight(self, custom_id: str, attempts: int) -> None:
        """To be called before the first byte of an attempt is sent.

        ``attempts`` counts the requests for this job in all runs, with this one. ``append`` takes it back.
        """
        ...

    def clear_in_flight(self, custom_id: str, attempts: int) -> None:
        """The attempt has ended without a row, and nothing of this job is in flight until it is tried again.

        ``attempts``: how many requests there have been; where nothing was sent after all, as many as before.
        """
        ...

    async def close(self, lines_read: int | None = None) -> None:
        """Write what is left, and tidy up if the run came to an orderly end.

        ``lines_read`` is then the number of the last line of the job file that was read, END_OF_FILE for all of it:
        rows of lines that are no jobs and were not found again up to there are dropped. None only closes.
        """
        ...
