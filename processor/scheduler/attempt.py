"""The present attempt of a job: what the transport reports of it, and what it can lead to."""

from __future__ import annotations

from collections.abc import Mapping

from processor.core.durations import in_microseconds, iso_second
from processor.core.errors import StatusError, Throttled
from processor.core.events import (
    FirstToken,
    RequestEvent,
    RequestListener,
    ResponseStarted,
    Sent,
)
from processor.core.fast_dataclass import constructor_of, dataclass
from processor.core.models import Result, Timing
from processor.cost.price_list import PriceList
from processor.endpoints.endpoint import EndpointPermit
from processor.retry.policy import Defer, LeaveJob, Park, Retry, StopRun
from processor.scheduler.job_state import JobRefusals, JobState

_new_timing = constructor_of(Timing)


@dataclass(frozen=True, slots=True, kw_only=True)
class ParkedAttempt:
    """The attempt failed in a way that may concern all jobs: the requests of others show what follows."""

    park: Park
    result: Result | None
    """The failed row to write if the job is at fault; None: it is sent again."""


@dataclass(frozen=True, slots=True)
class AskAgain:
    """The reply is not valid: the job, whose request is now another one, is to be sent again."""


AttemptResult = Retry | StopRun | ParkedAttempt | Defer | LeaveJob | AskAgain | None
"""What an attempt leads to. None: the job has its row."""


class Attempt:
    """Follows one request: keeps its times, and reports them to the permit and to the endpoint's health."""

    __slots__ = (
        "_forward_to",
        "_headers_of_429",
        "_permit",
        "_prices",
        "_state",
        "first_token_at",
        "sent_at",
        "status",
    )

    def __init__(
        self, state: JobState, permit: EndpointPermit, prices: PriceList, forward_to: RequestListener | None
    ) -> None:
        self.sent_at: float | None = None
        self.first_token_at: float | None = None
        self.status: int | None = None
        self._state = state
        self._permit = permit
        self._prices = prices
        self._forward_to = forward_to
        self._headers_of_429: Mapping[str, str] = {}

    def on_event(self, event: RequestEvent) -> None:
        if isinstance(event, Sent):
            self.sent_at = event.at
            self._state.streamed = event.streamed
            self._permit.sent(event.at)
            self._prices.ask(self._permit.endpoint.target.base_url, self._permit.job.model)
        elif isinstance(event, ResponseStarted):
            self.status = event.status
            if event.status == 429:
                self._on_429(event)
            else:
                self._permit.responded(event.status, event.headers, event.at)
        elif isinstance(event, FirstToken):
            self.first_token_at = event.at
            self._permit.first_token(event.at)
            state = self._state
            self._permit.endpoint.health.on_first_token(state.job.position, state.attempt_started_at, event.at)
        if self._forward_to is not None:
            self._forward_to(event)

    def _on_429(self, event: ResponseStarted) -> None:
        self._headers_of_429 = event.headers
        if self._may_be_singled_out():
            self._permit.refused_alone()
        else:
            self._permit.responded(event.status, event.headers, event.at)

    def on_wait_requested(self, error: StatusError, at: float, *, is_too_long: bool) -> None:
        """Report to the rate limiter how long it must wait: that is known once the body of the response has been read.

        A job that holds back only itself, and a wait that other jobs must confirm first, hold nobody back.
        """
        if not self._may_be_singled_out():
            wait_s = None if is_too_long else error.retry_after_s
            if isinstance(error, Throttled):
                self._permit.throttled(error.status, self._headers_of_429, wait_s, at)
            elif wait_s:
                self._permit.hold_back(wait_s, at)
        refusal, refusals = self._permit.refusal(at), self._refusals()
        if refusals.first is None:
            refusals.first = refusal
        else:
            refusals.later += 1

    def _may_be_singled_out(self) -> bool:
        refusals = self._refusals()
        if refusals.first is not None and not refusals.is_singled_out:
            refusals.is_singled_out = self._permit.is_singled_out(refusals.first, refusals.later)
        return refusals.is_singled_out

    def _refusals(self) -> JobRefusals:
        """Return those of the permit's limit group. With those of another endpoint they are not compared."""
        refusals, limit_group = self._state.refusals, self._permit.limit_group
        if refusals is None or refusals.limit_group != limit_group:
            refusals = self._state.refusals = JobRefusals(limit_group)
        return refusals

    def timing(self, now: float, unix_now_s: float) -> Timing | None:
        """The times that stand in the job's row; None if nothing was sent."""
        if self.sent_at is None:
            return None
        started_ms = int(1000 * (unix_now_s - (now - self.sent_at)) + 0.5)
        first_token_s = None if self.first_token_at is None else in_microseconds(self.first_token_at - self.sent_at)
        return _new_timing(
            started_at=f"{iso_second(started_ms // 1000)}.{started_ms % 1000:03d}Z",
            queued_s=in_microseconds(self.sent_at - self._state.enqueued_at),
            first_token_s=first_token_s,
            total_s=in_microseconds(now - self.sent_at),
        )
