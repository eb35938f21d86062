"""The sink of a run whose results are published: the results files of the work folder, and the publication."""

from __future__ import annotations

from processor.core.errors import OutputError
from processor.core.models import Result
from processor.output.closing import ClosedOnce
from processor.output.results_file import ResultsFile
from processor.publishing.publication import Publication


class PublishedResults(ClosedOnce):
    """A ``Sink``. Rows are written to the results files first, and published from there."""

    def __init__(self, results: ResultsFile, publication: Publication) -> None:
        self.job_index = results.job_index
        self.recovered = results.recovered
        self._results = results
        self._publication = publication

    async def append(self, result: Result) -> None:
        """See ``Sink``. A reply is kept also where another machine has taken over: it is paid for."""
        await self._results.append(result)

    def record_in_flight(self, custom_id: str, attempts: int, worst_pico: int | None = None) -> None:
        """See ``Sink``. Raises OutputError also where another machine has taken over."""
        self._publication.raise_if_lost()
        self._results.record_in_flight(custom_id, attempts, worst_pico)

    def add_spent(self, pico: int) -> None:
        """See ``Sink``."""
        self._results.add_spent(pico)

    def clear_in_flight(self, custom_id: str, attempts: int) -> None:
        """See ``Sink``."""
        self._results.clear_in_flight(custom_id, attempts)

    def record_parked(self, custom_id: str, attempts: int) -> None:
        """See ``Sink``."""
        self._results.record_parked(custom_id, attempts)

    async def has_earlier_reply(self, endpoint: str, model: str) -> bool:
        """See ``Sink``."""
        return await self._results.has_earlier_reply(endpoint, model)

    def free_bytes(self) -> int | None:
        """See ``Sink``: of the disk with the work folder."""
        return self._results.free_bytes()

    async def _close(self, lines_read: int | None, nothing_sent: bool) -> None:
        """Raises OutputError also where not all rows could be published."""
        is_published = await self._publication.finish(self._results.sync)
        # Compaction would move the rows that are not published yet.
        await self._results.close(lines_read if is_published else None, nothing_sent=nothing_sent)
        if is_published:
            is_published = await self._publication.finish_errors()
        self._publication.raise_if_lost()
        if not is_published:
            raise OutputError("not all rows could be published")
