"""Takes results without keeping them: for a rehearsal."""

from __future__ import annotations

from types import TracebackType
from typing import Self

from processor.core.models import Result
from processor.output.job_index import JobIndex
from processor.output.sink import RecoveredState


class CountingSink:
    """A ``Sink`` that counts rows. ``job_index`` holds what earlier runs have left."""

    def __init__(self, job_index: JobIndex) -> None:
        self.job_index = job_index
        self.recovered = RecoveredState()
        self.rows = 0

    async def append(self, result: Result) -> None:
        """See ``Sink``."""
        self.rows += 1

    def record_in_flight(self, custom_id: str, attempts: int) -> None:
        """Do nothing."""

    def clear_in_flight(self, custom_id: str, attempts: int) -> None:
        """Do nothing."""

    def record_parked(self, custom_id: str, attempts: int) -> None:
        """Do nothing."""

    async def has_earlier_reply(self, endpoint: str, model: str) -> bool:
        """Return False: the simulated provider has answered nothing before."""
        return False

    def free_bytes(self) -> None:
        """Return None: nothing is written."""
        return

    async def close(self, lines_read: int | None = None, *, nothing_sent: bool = False) -> None:
        """Do nothing."""

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()
