"""The health of one endpoint, and the verdict on every failed request: is it the job, the run, or the endpoint?

| Question                                             | Answered by                                           |
|------------------------------------------------------|-------------------------------------------------------|
| May more than one request be sent yet?               | ``Canary``                                            |
| Is the run misconfigured (key, model, URL, options)? | ``EndpointHealth._misconfiguration``, ``stop_reason`` |
| Which jobs must not be sent for now (404)?           | ``ParkedJobs``                                        |
| Is the endpoint down?                                | ``OutageDetector``                                    |
| Is the job sent again, and when?                     | ``RetryPolicy``                                       |

The state is kept for one endpoint. What was not found (404) is kept for each model and URL as well.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import replace
from datetime import datetime
from math import inf

from processor.core.errors import (
    AccessDenied,
    AddressError,
    BadRequest,
    ConnectError,
    NotFound,
    Redirected,
    RequestError,
)
from processor.core.events import Bottleneck, BottleneckChanged, Listener, OutageEnded, OutageStarted, RunEvent
from processor.core.models import Job
from processor.health.canary import Canary
from processor.health.outage_detector import OutageDetector, indicates_outage
from processor.health.parked_jobs import MAX_DISTINCT_NOT_FOUND, ParkedJobs
from processor.retry.policy import (
    AttemptHistory,
    Park,
    Retry,
    RetryPolicy,
    StopRun,
    Verdict,
    counts_against_job,
    permanent_failure,
)

MAX_REJECTIONS = 20
"""Stop the run after so many rejections of one kind (status and error code), without a success."""


class EndpointHealth:
    """Follows the requests to one endpoint. Jobs are known by their line; times are the event loop's."""

    def __init__(self, policy: RetryPolicy, emit: Listener, *, endpoint: str, max_outage_s: float) -> None:
        """``endpoint``: the address, for events."""
        self._policy = policy
        self._emit = emit
        self._endpoint = endpoint
        self.canary = Canary()
        self.parked = ParkedJobs()
        self.outages = OutageDetector(max_outage_s=max_outage_s)
        self._limiter_bottleneck: Bottleneck | None = None
        """What the rate limiter reported last."""
        self._probe_turn = asyncio.Lock()
        self._has_succeeded = False
        self._has_responded = False
        """Something other than a failed connection came back."""
        self._rejections: dict[str, int] = {}
        """How many requests were rejected, by kind."""
        self._unresolved_since: dict[int, float] = {}
        """By line, oldest first: when those requests were sent that have neither failed nor begun to be answered."""

    @property
    def is_down(self) -> bool:
        return self.outages.down_since is not None

    # ------------------------------------------------------------ what happens to requests

    def on_sent(self, line: int, at: float) -> None:
        """A request for the job on this line is being sent."""
        self._unresolved_since[line] = at

    def on_response(self, status: int) -> None:
        """A response has started. It clears the canary. A 3xx or 4xx does not, as the next requests may fail the same
        way."""
        if not 300 <= status < 500 and not self.canary.is_cleared:
            self.canary.allow_all()

    def on_first_token(self, line: int, sent_at: float, now: float) -> None:
        self._unresolved_since.pop(line, None)
        self._emit_recovery(self.outages.on_first_token(sent_at), now)

    def on_success(self, line: int, sent_at: float, now: float) -> None:
        """A reply is complete. Parked jobs are released later, by ``on_reply_written``."""
        self._has_succeeded = True
        self._unresolved_since.pop(line, None)
        self._emit_recovery(self.outages.on_answer(sent_at), now)

    def on_reply_written(self) -> None:
        """The row of a reply is on disk. The run is not misconfigured: release the parked jobs."""
        self.parked.resolve()

    def on_failure(
        self,
        error: RequestError,
        job: Job,
        history: AttemptHistory,
        *,
        sent_at: float,
        now: float,
        local_time: datetime,
        had_first_token: bool,
    ) -> Verdict:
        """Return what follows from a failed request for its job or for the run, and add it to the job's history."""
        self._has_responded |= not isinstance(error, ConnectError)
        self._unresolved_since.pop(job.line, None)
        self._watch_for_outage(error, job.line, sent_at, now, had_first_token=had_first_token)
        verdict = self._verdict(error, job, history, now, local_time)
        history.record(verdict, error, now)
        return verdict

    # ------------------------------------------------------------ is it the job or the run?

    def parked_jobs_stop_reason(self, *, stuck_jobs: int, has_earlier_replies: Callable[[], bool]) -> str | None:
        """Return why the run must stop because of its parked jobs, or None.

        ``stuck_jobs``: the number of parked jobs if no other job can be sent any more, else 0.
        ``has_earlier_replies``: whether an earlier run of the same file had replies. Then a few stuck jobs are at
        fault, and not the run: they are released, and get their failed rows. Slow, so it is called only when the answer
        matters.
        """
        if self.parked.is_resolved or not (stuck_jobs or self.parked.is_hopeless):
            return None
        if 0 < stuck_jobs < MAX_DISTINCT_NOT_FOUND and has_earlier_replies():
            self.parked.resolve()
            return None
        return self.parked.reason()

    def _verdict(
        self, error: RequestError, job: Job, history: AttemptHistory, now: float, local_time: datetime
    ) -> Verdict:
        if self.outages.is_too_long(now):
            hours = self.outages.max_outage_s / 3600
            return StopRun(reason=f"the provider has been down for {hours:.3g} h: {error}")
        if (reason := self._misconfiguration(error)) is not None:
            return StopRun(reason=reason)
        if isinstance(error, NotFound) and not self._has_succeeded:
            self.parked.record(error, job)
            return Park(failure=permanent_failure(error))
        verdict = self._policy.decide(
            error, history, counted_failures=self._counted_failures(error, history, now), now=local_time
        )
        # A job has no wait of its own while the endpoint is down: the probes decide when the next request is sent.
        return replace(verdict, delay_s=0.0) if isinstance(verdict, Retry) and self.is_down else verdict

    def _misconfiguration(self, error: RequestError) -> str | None:
        """Return why this error means that no request of the run can succeed; None if it may concern one job only."""
        match error:
            case Redirected():
                return f"the provider refused: {error}"
            case AccessDenied() if error.status != 403 or not self._has_succeeded:
                return f"the provider refused: {error}"
            case AddressError() if not self._has_succeeded and not self._has_responded:
                return str(error)
            case ConnectError() if not self._has_succeeded and not self._has_responded:
                return f"{error}; is --base-url right, and the server up?"
            case BadRequest() if not isinstance(error, NotFound) and not self._has_succeeded:
                return self._too_many_rejections(error)
        return None

    def _too_many_rejections(self, error: BadRequest) -> str | None:
        kind = f"{error.status} {error.error_code or ''}"
        self._rejections[kind] = self._rejections.get(kind, 0) + 1
        if self._rejections[kind] < MAX_REJECTIONS:
            return None
        return f"the first {MAX_REJECTIONS} requests were all rejected: {error}"

    # ------------------------------------------------------------ is the endpoint down?

    def emit_from_limiter(self, event: RunEvent) -> None:
        """Emit an event of the endpoint's rate limiter. While the endpoint is down, the bottleneck stays "outage":
        the limiter's queue is then empty, as if there were no jobs."""
        if isinstance(event, BottleneckChanged):
            self._limiter_bottleneck = event.bottleneck
            if self.is_down:
                return
        self._emit(event)

    async def wait_to_probe(self) -> bool:
        """Wait for this job's turn to send the one request that tests whether the endpoint is up again.

        False if it came up meanwhile: the request is then an ordinary one. After True, ``end_probe`` must follow.
        """
        while self.is_down:
            await self._probe_turn.acquire()
            if self.is_down:
                await self._wait_until_probe()
                return True
            self._probe_turn.release()
        return False

    def end_probe(self) -> None:
        self._probe_turn.release()

    async def _wait_until_probe(self) -> None:
        loop = asyncio.get_running_loop()
        try:
            await asyncio.sleep(max(0.0, self.outages.next_probe_at - loop.time()))
        except asyncio.CancelledError:
            self._probe_turn.release()
            raise
        self.outages.on_probe(loop.time())

    def _counted_failures(self, error: RequestError, history: AttemptHistory, now: float) -> int:
        """How many failures count against the job, this one included: those that no outage explains."""
        failed_at = [*history.failed_at, now] if counts_against_job(error) else history.failed_at
        return sum(not self.outages.explains_failure_at(at) for at in failed_at)

    def _watch_for_outage(
        self, error: RequestError, line: int, sent_at: float, now: float, *, had_first_token: bool
    ) -> None:
        if not indicates_outage(error):
            self._emit_recovery(self.outages.on_answer(sent_at), now)
            return
        unresolved_since = next(iter(self._unresolved_since.values()), inf)
        if self.outages.on_failure(
            error, line, now, had_first_token=had_first_token, unresolved_since=unresolved_since
        ):
            self._emit(OutageStarted(at=now, endpoint=self._endpoint, message=str(error)))
            self._emit(BottleneckChanged(at=now, bottleneck="outage"))

    def _emit_recovery(self, is_recovered: bool, now: float) -> None:
        if is_recovered:
            self._emit(OutageEnded(at=now, endpoint=self._endpoint))
            self._emit(BottleneckChanged(at=now, bottleneck=self._limiter_bottleneck))
