"""Jobs that failed as parked ones do, while no more could be held: the job file is read again for them at its end."""

from __future__ import annotations

from array import array
from bisect import bisect
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing

from processor.core.errors import InputError
from processor.core.models import LINE_BITS, Job
from processor.input.job_file import InvalidLine
from processor.input.job_files import each_item
from processor.input.job_formats import ParsedJob


class DeferredJobs:
    """Remembers 16 bytes of each job."""

    def __init__(self) -> None:
        self._positions = array("Q")
        """In ascending order."""
        self._copies = array("I")
        """Of jobs without an id of their own: the number behind the fingerprint, from 2 on."""
        self._attempts = array("I")
        """Requests sent for the job in this run."""

    def __len__(self) -> int:
        return len(self._positions)

    def add(self, job: Job, attempts: int) -> None:
        at = bisect(self._positions, job.position)
        copy = job.custom_id.removeprefix(f"{job.fingerprint}-")
        self._positions.insert(at, job.position)
        self._copies.insert(at, int(copy) if copy != job.custom_id and copy.isdecimal() else 0)
        self._attempts.insert(at, attempts)

    async def read_again(
        self, lists: AsyncGenerator[list[ParsedJob | InvalidLine], None]
    ) -> AsyncIterator[tuple[Job, int]]:
        """Yield each job with its attempts. ``lists`` are those of the lines of the job file, from its beginning.

        Raises InputError if the file has changed.
        """
        at = 0
        async with aclosing(lists):
            async for item in each_item(lists):
                if at == len(self._positions) or item.position > self._positions[at]:
                    break
                if item.position == self._positions[at]:
                    if isinstance(item, InvalidLine):
                        break
                    yield item.with_id(self._custom_id(item, self._copies[at])), self._attempts[at]
                    at += 1
        if at < len(self._positions):
            line = self._positions[at] % (1 << LINE_BITS)
            raise InputError(f"the job file was changed while it was read: line {line} is another one")

    @staticmethod
    def _custom_id(parsed: ParsedJob, copy: int) -> str:
        if parsed.custom_id is not None:
            return parsed.custom_id
        return f"{parsed.fingerprint}-{copy}" if copy else parsed.fingerprint
