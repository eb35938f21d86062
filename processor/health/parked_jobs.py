"""Holds jobs whose failure may concern the job alone or all jobs, until the requests of other jobs show which.

A response of status 402, 403 or 404, an unknown model, a response that cannot be understood, a stream without its end
marker and a very long wait may be one job's matter, or that of the whole run. Such a job is *parked*, and others are
sent. What they met is a ``Cause``; the jobs of one cause are judged together:

- A success of another job, sent after the parked one, shows that the job itself is at fault: it is released.
- ``MAX_PARKED_PER_CAUSE`` different jobs without such a success show that it is not: the cause is closed, and no
  further job that it concerns is sent in this run.
- Where no other job is left, the caller decides with ``undecided``.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from dataclasses import dataclass, field

from processor.core.errors import RequestError
from processor.core.models import Job
from processor.health.causes import Cause, CauseKind
from processor.retry.policy import FailJob, Retry

MAX_PARKED_JOBS = 256
"""Jobs that are held at a time. A further one is only counted: it is read again at the end of the job file."""
MAX_PARKED_PER_CAUSE = 20
"""So many different jobs that met the same, without a success in between, show that none of them is at fault."""
MAX_LONG_WAITS = 2
"""As ``MAX_PARKED_PER_CAUSE``, for waits: a second request is enough to show that all must wait."""


@dataclass(slots=True, eq=False, kw_only=True)
class ParkedJob:
    """A job that is held. Times are seconds on the event loop's clock."""

    job: Job
    error: RequestError
    sent_at: float
    at_fault: Retry | FailJob
    """What follows once it is known that the job is at fault."""
    cause: Cause
    is_at_fault: asyncio.Future[bool] = field(default_factory=lambda: asyncio.get_running_loop().create_future())
    """Set when that is decided. False: the job is left without a row."""

    def release(self, *, at_fault: bool) -> None:
        if not self.is_at_fault.done():
            self.is_at_fault.set_result(at_fault)


class ParkedJobs:
    """The jobs that are held at one endpoint."""

    def __init__(self) -> None:
        self._by_cause: dict[Cause, dict[int, ParkedJob]] = {}
        """By position."""
        self._met: dict[CauseKind, dict[int, float]] = {}
        """By kind, for the whole endpoint: which positions met it, when they were sent, since the last success."""
        self._count = 0
        self._only_counted: dict[Cause, set[int]] = {}
        """Positions of further jobs that met this since the last success, while no more jobs could be held."""

    def __len__(self) -> int:
        return self._count

    def add(self, parked: ParkedJob) -> bool:
        """Hold the job. False: as many as possible are held, and it is only counted."""
        cause, position = parked.cause, parked.job.position
        self._met.setdefault(cause.kind, {})[position] = parked.sent_at
        if self._count >= MAX_PARKED_JOBS:
            if cause in self._only_counted or len(self._only_counted) < MAX_PARKED_JOBS:
                self._only_counted.setdefault(cause, set()).add(position)
            return False
        self._by_cause.setdefault(cause, {})[position] = parked
        self._count += 1
        return True

    def on_success(self, job: Job, limit_group: str, sent_at: float) -> None:
        """A job has its reply: release those that were sent before it, and to which the same applies."""
        if not (self._count or self._met or self._only_counted):
            return
        for kind, positions in list(self._met.items()):
            left = {position: at for position, at in positions.items() if at >= sent_at}
            if left:
                self._met[kind] = left
            else:
                del self._met[kind]
        for cause in [*self._by_cause, *self._only_counted]:
            if cause.concerns in (None, limit_group if cause.kind is CauseKind.LONG_WAIT else job.model):
                self._only_counted.pop(cause, None)
                earlier = [parked for parked in self.of_cause(cause) if parked.sent_at < sent_at]
                self._remove(parked for parked in earlier if parked.job.position != job.position)

    def is_decided(self, cause: Cause) -> bool:
        """Whether so many jobs met this that none of them is at fault."""
        met = self._by_cause.get(cause, {}).keys() | self._only_counted.get(cause, set())
        return len(met) >= _threshold(cause.kind)

    def is_endpoint_affected(self, kind: CauseKind) -> bool:
        """Whether so many jobs of any model met this without a success that it must concern all."""
        return kind is not CauseKind.LONG_WAIT and len(self._met.get(kind, ())) >= MAX_PARKED_PER_CAUSE

    def of_kind(self, kind: CauseKind) -> list[ParkedJob]:
        return [parked for cause, held in self._by_cause.items() if cause.kind is kind for parked in held.values()]

    def of_cause(self, cause: Cause) -> list[ParkedJob]:
        return list(self._by_cause.get(cause, {}).values())

    def undecided(self) -> list[tuple[Cause, list[ParkedJob]]]:
        return [(cause, list(held.values())) for cause, held in self._by_cause.items()]

    def release(self, cause: Cause, *, at_fault: bool) -> None:
        """Release all jobs of a cause."""
        self._only_counted.pop(cause, None)
        self._remove(self.of_cause(cause), at_fault=at_fault)

    def _remove(self, released: Iterator[ParkedJob] | list[ParkedJob], *, at_fault: bool = True) -> None:
        for parked in list(released):
            held = self._by_cause[parked.cause]
            del held[parked.job.position]
            self._count -= 1
            if not held:
                del self._by_cause[parked.cause]
            parked.release(at_fault=at_fault)


def _threshold(kind: CauseKind) -> int:
    return MAX_LONG_WAITS if kind is CauseKind.LONG_WAIT else MAX_PARKED_PER_CAUSE
