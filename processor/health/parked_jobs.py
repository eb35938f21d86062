"""Models and addresses that the provider says it does not have, while nothing has succeeded yet.

It may be a job's mistake, or the run's. Until a first success tells, whatever asks for the same waits, so that a
mistyped model costs one request and leaves no failed rows, while jobs that ask for something else try their luck.
"""

from __future__ import annotations

import asyncio
from typing import NamedTuple

from processor.core.errors import ModelNotFound, NotFound
from processor.core.models import Job

MAX_PARKED_JOBS = 256
"""Jobs that wait in doubt: how far what is not there can hide a job that asks for something else."""
MAX_DISTINCT_NOT_FOUND = 20
"""So many different ones not there, and not one success: it is the run that is wrong, not the jobs. Fewer jobs than
that, at the end of a file whose others have been answered by an earlier run: it is they."""
MAX_NAMES_SHOWN = 3


class MissingResource(NamedTuple):
    """What may not be there."""

    kind: str
    name: str


class ParkedJobs:
    def __init__(self) -> None:
        self._heard: dict[MissingResource, NotFound] = {}
        """What the provider said of each, the first time."""
        self._success = asyncio.Event()

    @property
    def is_over(self) -> bool:
        return self._success.is_set()

    @property
    def is_despair(self) -> bool:
        return not self.is_over and len(self._heard) >= MAX_DISTINCT_NOT_FOUND

    def hear(self, error: NotFound, job: Job) -> None:
        subject = _model(job) if isinstance(error, ModelNotFound) else _address(job)
        self._heard.setdefault(subject, error)

    def covers(self, job: Job) -> bool:
        return bool(self._heard) and not self.is_over and (_model(job) in self._heard or _address(job) in self._heard)

    def succeeded(self) -> None:
        """Something was there after all. Whoever waits goes on; there is no doubt any more in this run."""
        self._success.set()

    async def success(self) -> None:
        await self._success.wait()

    def why(self) -> str:
        """What a person should read where no success can come."""
        models = [subject.name for subject in self._heard if subject.kind == "model"]
        said = next(iter(self._heard.values()))
        if models:
            return f"the provider does not know the model{'s' if len(models) > 1 else ''} {_listed(models)}: {said}"
        return f"there is nothing at {_listed([subject.name for subject in self._heard])}: {said}; is --base-url right?"


def _model(job: Job) -> MissingResource:
    return MissingResource("model", job.model)


def _address(job: Job) -> MissingResource:
    return MissingResource("address", job.path)


def _listed(names: list[str]) -> str:
    more = f" and {len(names) - MAX_NAMES_SHOWN} more" if len(names) > MAX_NAMES_SHOWN else ""
    return ", ".join(names[:MAX_NAMES_SHOWN]) + more
