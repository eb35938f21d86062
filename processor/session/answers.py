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
    """A job without an answer, and who waits for that."""

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
