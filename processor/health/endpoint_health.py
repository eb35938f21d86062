"""What the run knows of the provider: does it answer, has it ever, is it down? Decides what follows from an error."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime
from math import inf

from processor.core.errors import NotFound, RequestError
from processor.core.events import BottleneckChanged, Listener, OutageEnded, OutageStarted
from processor.health.outage_detector import OutageDetector, indicates_outage
from processor.health.parked_jobs import ParkedJobs
from processor.retry.policy import Decision, ProviderRecord, Retry, RetryPolicy, StopRun, is_own_failure
from processor.scheduler.attempt import JobState


class EndpointHealth:
    def __init__(self, policy: RetryPolicy, listen: Listener, *, endpoint: str, max_outage_s: float) -> None:
        self._policy = policy
        self._listen = listen
        self._endpoint = endpoint
        self._standing = ProviderRecord()
        self.doubt = ParkedJobs()
        self.outages = OutageDetector(max_outage_s=max_outage_s)
        self._undecided: dict[int, float] = {}
        """By the job's line, the oldest first: when the requests were made that nothing has come of yet."""

    @property
    def is_down(self) -> bool:
        return self.outages.down_since is not None

    def asking(self, care: JobState) -> None:
        self._undecided[care.job.line] = care.streaming_since

    def replied(self, care: JobState, now: float) -> None:
        self._standing.succeeded = True
        self._undecided.pop(care.job.line, None)
        self._tell_back(self.outages.answered(care.streaming_since), now)

    def began(self, care: JobState, now: float) -> None:
        """The first token of a reply is there."""
        self._undecided.pop(care.job.line, None)
        self._tell_back(self.outages.began(care.streaming_since), now)

    def failed(self, error: RequestError, care: JobState, now: float, local: datetime, *, begun: bool) -> Decision:
        """What follows for this job, or for the run. ``local``: the time on the wall; ``begun``: it was a reply."""
        self._standing.heard(error)
        self._undecided.pop(care.job.line, None)
        self._observe(error, care, now, begun)
        if self.outages.too_long(now):
            hours = self.outages.max_outage_s / 3600
            return StopRun(why=f"the provider has been down for {hours:.3g} h: {error}")
        history, is_own = care.history, is_own_failure(error)
        failed_at = [*history.failed_at, now] if is_own else history.failed_at
        own = sum(not self.outages.excuses(at) for at in failed_at)
        decision = self._policy.decide(error, history, self._standing, now=local, own=own)
        if isinstance(error, NotFound):
            self.doubt.hear(error, care.job)
        history.replaced = isinstance(decision, Retry) and decision.replaces
        if not history.replaced:
            history.failed_at = failed_at
            history.held_up += not is_own
        return replace(decision, after_s=0.0) if isinstance(decision, Retry) and self.is_down else decision

    def _observe(self, error: RequestError, care: JobState, now: float, begun: bool) -> None:
        if not indicates_outage(error):
            self._tell_back(self.outages.answered(care.streaming_since), now)
            return
        since = next(iter(self._undecided.values()), inf)
        if self.outages.failed(error, care.job.line, now, begun=begun, undecided_since=since):
            self._listen(OutageStarted(at=now, endpoint=self._endpoint, message=str(error)))
            self._listen(BottleneckChanged(at=now, bottleneck="outage"))

    def _tell_back(self, is_back: bool, now: float) -> None:
        if is_back:
            self._listen(OutageEnded(at=now, endpoint=self._endpoint))
            self._listen(BottleneckChanged(at=now, bottleneck=None))
