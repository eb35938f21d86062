"""Holds back jobs whose model or URL was not found, until one request succeeds.

An unknown model may be one job's mistake or that of the whole run. Until a first request succeeds, all jobs that name
the same model or URL are *parked*, and jobs that name another one are sent. A mistyped ``--model`` therefore costs
only one request and leaves no failed rows.
"""

from __future__ import annotations

import asyncio
from typing import NamedTuple

from processor.core.errors import ModelNotFound, NotFound
from processor.core.models import Job

MAX_PARKED_JOBS = 256
"""Jobs that may be parked at a time. Beyond it no further job is read that might name another model."""
MAX_DISTINCT_NOT_FOUND = 20
"""Stop the run after so many different models and URLs that were not found, without a success. If fewer jobs remain at
the end of the file and an earlier run had replies, the jobs are wrong and not the run: they get failed rows."""
MAX_NAMES_SHOWN = 3


class MissingResource(NamedTuple):
    """A model or a URL that the endpoint did not find."""

    kind: str
    name: str


class ParkedJobs:
    """The resources that one endpoint did not find before its first success. Resolved by that success, for good."""

    def __init__(self) -> None:
        self._errors: dict[MissingResource, NotFound] = {}
        """The first error about each."""
        self._success = asyncio.Event()

    @property
    def is_resolved(self) -> bool:
        """Whether a request has succeeded: from then on no job is parked."""
        return self._success.is_set()

    @property
    def is_hopeless(self) -> bool:
        """Whether so many resources were not found that the run must be misconfigured."""
        return not self.is_resolved and len(self._errors) >= MAX_DISTINCT_NOT_FOUND

    def record(self, error: NotFound, job: Job) -> None:
        resource = _model(job) if isinstance(error, ModelNotFound) else _url(job)
        self._errors.setdefault(resource, error)

    def blocks(self, job: Job) -> bool:
        """Whether the job names what was not found for another one, so that it must not be sent for now."""
        return (
            bool(self._errors) and not self.is_resolved and (_model(job) in self._errors or _url(job) in self._errors)
        )

    def resolve(self) -> None:
        """Release all parked jobs."""
        self._success.set()

    async def wait_for_success(self) -> None:
        await self._success.wait()

    def reason(self) -> str:
        """Why the run stops if no parked job can be released. For the user."""
        models = [resource.name for resource in self._errors if resource.kind == "model"]
        error = next(iter(self._errors.values()))
        if models:
            return f"the provider does not know the model{'s' if len(models) > 1 else ''} {_listed(models)}: {error}"
        urls = _listed([resource.name for resource in self._errors])
        return f"there is nothing at {urls}: {error}; is --base-url right?"


def _model(job: Job) -> MissingResource:
    return MissingResource("model", job.model)


def _url(job: Job) -> MissingResource:
    return MissingResource("url", job.path)


def _listed(names: list[str]) -> str:
    more = f" and {len(names) - MAX_NAMES_SHOWN} more" if len(names) > MAX_NAMES_SHOWN else ""
    return ", ".join(names[:MAX_NAMES_SHOWN]) + more
