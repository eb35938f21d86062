"""Names the jobs of a session, and decides which of them are sent."""

from __future__ import annotations

from collections.abc import Mapping

from processor.core.models import Job
from processor.input.job_file import InvalidLine
from processor.input.job_formats import ParsedJob
from processor.output.job_index import JobIndex
from processor.session.answers import OpenJob


class JobSelection:
    """Without a journal every job is sent, and an id is only a name."""

    def __init__(self, index: JobIndex, open_jobs: Mapping[int, OpenJob]) -> None:
        self._index = index

    def item_to_run(self, parsed: ParsedJob | InvalidLine) -> Job | InvalidLine:
        """Return the job with its id, or the object that is none."""
        if isinstance(parsed, InvalidLine):
            return parsed
        if parsed.custom_id is not None:
            return parsed.with_id(parsed.custom_id)
        custom_id = self._index.assign_id(parsed.fingerprint)
        self._index.classify(custom_id, parsed.fingerprint, names_model=parsed.names_model)
        return parsed.with_id(custom_id)
