"""What follows for a job, and for an endpoint, where one of several endpoints fails it.

| the verdict at one endpoint      | with several                                                             |
|----------------------------------|--------------------------------------------------------------------------|
| ``StopRun``                      | the endpoint is stopped; its jobs go elsewhere                            |
| ``LeaveJob``                     | the job goes elsewhere                                                    |
| ``Retry`` after a wait           | at once, since another endpoint may have room                             |
| ``FailJob``, not the job's fault | the job goes elsewhere                                                    |
| ``FailJob``                      | the row is written, unless ``retry_elsewhere`` names the reason           |
| ``Park``                         | as with one endpoint; if the job is at fault, as ``FailJob``              |

Elsewhere is an endpoint that has not given the job up. Where none is left, the job goes without a row, and where none
is left for any job, the run is stopped.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import replace

from processor.core.errors import ConnectError, RequestError, ServerError, Throttled
from processor.core.models import Job
from processor.endpoints.endpoint import Endpoint
from processor.retry.policy import FailJob, LeaveJob, Park, Retry, StopRun, Verdict

RefusalReason = Callable[[RequestError], str | None]
"""Returns why a server refused a job, in the words of ``retry_elsewhere``; None for all other errors."""

_AT_ONCE = Retry(delay_s=0.0)


class Exclusions(set[Endpoint]):
    """The endpoints that have given a job up."""

    # No ``__init__``: every job has one of these, and nearly all stay empty.
    _for_now: tuple[Endpoint, ...] = ()
    """Those that ask this job alone to wait."""

    def add_for_now(self, endpoint: Endpoint) -> None:
        """Exclude an endpoint while another one is up."""
        self._for_now = (*self._for_now, endpoint)
        self.add(endpoint)

    def admit_again(self) -> None:
        """Ask those again that were excluded for now."""
        self.difference_update(self._for_now)
        self._for_now = ()


class Failover:
    """Of the endpoints of one run. ``retry_elsewhere``: for which reasons a refused job goes to another endpoint."""

    def __init__(
        self,
        endpoints: Sequence[Endpoint],
        *,
        retry_elsewhere: AbstractSet[str] = frozenset(),
        refusal_reason: RefusalReason = lambda error: None,
    ) -> None:
        self._endpoints = tuple(endpoints)
        self._retry_elsewhere = retry_elsewhere
        self._refusal_reason = refusal_reason

    def verdict(
        self,
        endpoint: Endpoint,
        job: Job,
        verdict: Verdict,
        error: RequestError,
        excluded: Exclusions,
        *,
        is_singled_out: bool,
    ) -> Verdict:
        """Return what follows from a failure at one endpoint. ``excluded``: those that have given the job up; this adds
        to it. ``is_singled_out``: the endpoint asks this job to wait, and answers others."""
        if isinstance(error, ConnectError) and all(one.health.is_unreachable for one in self._endpoints):
            return StopRun(reason=f"{error}; no endpoint can be reached: are the addresses right, and the servers up?")
        if isinstance(verdict, StopRun):
            return self._stop(endpoint, job, verdict, excluded)
        if isinstance(verdict, LeaveJob):
            return self.leave(endpoint, job, excluded)
        if isinstance(verdict, Retry):
            return self._retry(endpoint, job, verdict, error, excluded, is_singled_out=is_singled_out)
        failed = verdict.at_fault if isinstance(verdict, Park) else verdict
        if isinstance(failed, FailJob) and self._may_go_elsewhere(failed, error):
            excluded.add(endpoint)
            if self.is_open(job, excluded):
                return replace(verdict, at_fault=_AT_ONCE) if isinstance(verdict, Park) else _AT_ONCE
        return verdict

    def _retry(
        self,
        endpoint: Endpoint,
        job: Job,
        verdict: Retry,
        error: RequestError,
        excluded: Exclusions,
        *,
        is_singled_out: bool,
    ) -> Retry:
        if endpoint.health.is_down and not self._is_up(job, excluded):
            excluded.admit_again()
        others = {*excluded, endpoint}
        if not _asks_to_wait(error) or not self.is_open(job, others):
            return verdict
        if is_singled_out:  # nothing else holds it back from being sent there again
            if not self._is_up(job, others):
                return verdict
            excluded.add_for_now(endpoint)
        return replace(verdict, delay_s=0.0)

    def leave(self, endpoint: Endpoint, job: Job, excluded: Exclusions) -> Retry | LeaveJob:
        """The job is not answered at this endpoint in this run: return whether it goes elsewhere."""
        excluded.add(endpoint)
        return _AT_ONCE if self.is_open(job, excluded) else LeaveJob()

    def is_open(self, job: Job, excluded: AbstractSet[Endpoint]) -> bool:
        """Whether an endpoint takes this job that has not given it up."""
        return any(endpoint not in excluded and self._takes(endpoint, job) for endpoint in self._endpoints)

    def _is_up(self, job: Job, excluded: AbstractSet[Endpoint]) -> bool:
        """Whether an endpoint takes this job that is up, as far as is known."""
        return any(
            endpoint not in excluded and not endpoint.health.is_down and self._takes(endpoint, job)
            for endpoint in self._endpoints
        )

    def _takes(self, endpoint: Endpoint, job: Job) -> bool:
        return endpoint.answers(job.model) and endpoint.closed_reason(job) is None

    def _stop(self, endpoint: Endpoint, job: Job, verdict: StopRun, excluded: Exclusions) -> Verdict:
        endpoint.health.stop(f"{endpoint.name}: {verdict.reason}")
        reasons = [one.health.stopped_reason for one in self._endpoints]
        if None in reasons:
            return self.leave(endpoint, job, excluded)
        return replace(verdict, reason="; ".join(reason for reason in reasons if reason))

    def _may_go_elsewhere(self, failed: FailJob, error: RequestError) -> bool:
        """Whether another endpoint may answer the job although this one does not."""
        if isinstance(error, Throttled):
            return True
        return bool(self._retry_elsewhere) and self._refusal_reason(error) in self._retry_elsewhere


def _asks_to_wait(error: RequestError) -> bool:
    """Whether the limit group of the request is held back."""
    return isinstance(error, Throttled) or (isinstance(error, ServerError) and bool(error.retry_after_s))
