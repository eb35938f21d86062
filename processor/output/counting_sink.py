"""Takes results without keeping them: for a rehearsal."""

from __future__ import annotations

from processor.core.models import Result
from processor.output.sink import UnrecordedSink


class CountingSink(UnrecordedSink):
    """A ``Sink`` that counts rows. ``job_index`` holds what earlier runs have left."""

    rows = 0

    async def append(self, result: Result) -> None:
        """See ``Sink``."""
        self.rows += 1
