"""What becomes of a job that was handed over: a row, or the reason why it goes without one."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from processor.core.errors import ProcessorError
from processor.core.models import JSON


class RunStopped(ProcessorError):
    """A session does not send this job, or has stopped before its reply. The message says why."""

    code = "stopped"


@dataclass(frozen=True, slots=True)
class Left:
    """The job goes without a row, because nothing like it is sent any more."""

    reason: str


Answer = JSON | Left
OnAnswer = Callable[[Answer], None]


@dataclass(slots=True, eq=False, kw_only=True)
class OpenJob:
    """A job without an answer, and who waits for it."""

    number: int
    """Jobs are numbered from 1 in the order in which they are handed over."""
    custom_id: str | None = None
    """None for an object that is no job."""
    fingerprint: str
    waiters: list[OnAnswer] = field(default_factory=list)

    def answer(self, answer: Answer) -> None:
        waiters, self.waiters = self.waiters, []
        for on_answer in waiters:
            on_answer(answer)


class OpenJobs:
    """All jobs of a session that have no answer yet."""

    def __init__(self) -> None:
        self._by_number: dict[int, OpenJob] = {}
        self._by_id: dict[str, OpenJob] = {}

    def __len__(self) -> int:
        return len(self._by_number)

    def __contains__(self, number: int) -> bool:
        return number in self._by_number

    def numbers(self) -> list[int]:
        return list(self._by_number)

    def with_id(self, custom_id: str) -> OpenJob | None:
        """Return the last job that was added with this id."""
        return self._by_id.get(custom_id)

    def add(self, job: OpenJob) -> None:
        self._by_number[job.number] = job
        if job.custom_id is not None:
            self._by_id[job.custom_id] = job

    def remove(self, number: int) -> OpenJob | None:
        job = self._by_number.pop(number, None)
        if job is not None and job.custom_id is not None and self._by_id.get(job.custom_id) is job:
            del self._by_id[job.custom_id]
        return job
