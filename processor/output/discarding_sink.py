"""Takes results without keeping them: for a rehearsal, and for a session without a journal."""

from __future__ import annotations

from processor.core.models import Result
from processor.output.sink import UnrecordedSink


class DiscardingSink(UnrecordedSink):
    """A ``Sink`` that writes nothing. ``job_index`` holds what earlier runs have left."""

    async def append(self, result: Result) -> None:
        """Do nothing."""
