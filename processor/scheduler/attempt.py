"""One job in the pipeline: what it needs, what it has been through, and what its present attempt tells."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import lru_cache
from typing import Any, Literal

from processor.core.errors import RequestError, StatusError, Throttled
from processor.core.events import (
    AttemptFinished,
    AttemptOutcome,
    AttemptStarted,
    FirstToken,
    RequestEvent,
    RequestListener,
    ResponseStarted,
    Sent,
)
from processor.core.models import Job, Reply, RequestSize, Timing
from processor.ratelimit.permit import Permit
from processor.retry.policy import AttemptHistory, Decision, FailJob, Park, Retry
from processor.tokens.rules import TokenCount


@dataclass(slots=True)
class JobState:
    task: asyncio.Task[Any]
    """The one that serves the job."""
    job: Job
    size: RequestSize
    prompt: TokenCount | None
    """None while the encoding is still being loaded: the demand then goes by the characters."""
    read_at: float
    attempts: int
    """Requests sent for the job, in all runs."""
    history: AttemptHistory = field(default_factory=AttemptHistory)
    streaming_since: float = 0.0
    """When its present attempt began."""
    again: bool = False
    """It has been through the gate before."""
    limit_group: str | None = None
    """Of its last permit; None before the first."""


class Attempt:
    """Listens to the signals of one request: keeps its times, and hands on what the gate must hear."""

    __slots__ = (
        "_endpoint",
        "_headers_of_429",
        "_on_first_token",
        "_on_response",
        "_permit",
        "_too",
        "first_token_at",
        "sent_at",
        "status",
    )

    def __init__(
        self,
        permit: Permit,
        endpoint: str,
        on_response: Callable[[int], None],
        on_first_token: Callable[[float], None],
        too: RequestListener | None,
    ) -> None:
        self.sent_at: float | None = None
        self.first_token_at: float | None = None
        self.status: int | None = None
        self._headers_of_429: Mapping[str, str] = {}
        self._permit = permit
        self._endpoint = endpoint
        self._on_response = on_response
        self._on_first_token = on_first_token
        self._too = too

    def tell(self, signal: RequestEvent) -> None:
        if isinstance(signal, Sent):
            self.sent_at = signal.at
            self._permit.sent(signal.at)
        elif isinstance(signal, ResponseStarted):
            self.status = signal.status
            if signal.status == 429:
                self._headers_of_429 = signal.headers
            self._permit.responded(signal.status, signal.headers, signal.at)
            self._on_response(signal.status)
        elif isinstance(signal, FirstToken):
            self.first_token_at = signal.at
            self._on_first_token(signal.at)
        if self._too is not None:
            self._too(signal)

    def throttled(self, error: Throttled, at: float) -> None:
        """Tell the limiter how long to wait. The headers of the response have been reported when they arrived."""
        self._permit.throttled(error.status, self._headers_of_429, error.retry_after_s, at)

    def started(self, care: JobState) -> AttemptStarted:
        cost = self._permit.cost
        return AttemptStarted(
            at=care.streaming_since,
            custom_id=care.job.custom_id,
            line=care.job.line,
            model=care.job.model,
            endpoint=self._endpoint,
            limit_group=self._permit.limit_group,
            attempt=care.attempts + 1,
            tokens=cost.tokens or cost.input_tokens + cost.output_tokens,
            waited_s=self._permit.granted_at - care.read_at,
        )

    def ended(
        self, care: JobState, at: float, *, outcome: Literal["success", "stop"], reply: Reply | None = None
    ) -> AttemptFinished:
        """In a reply, or broken off."""
        return AttemptFinished(
            at=at,
            custom_id=care.job.custom_id,
            line=care.job.line,
            model=care.job.model,
            endpoint=self._endpoint,
            limit_group=self._permit.limit_group,
            attempt=care.attempts,
            status=self.status,
            request_id=reply.request_id if reply else None,
            code=None if reply else "interrupted",
            message=None if reply else "broken off",
            outcome=outcome,
            retry_delay_s=None,
        )

    def ended_in(self, care: JobState, at: float, error: RequestError, decision: Decision) -> AttemptFinished:
        return AttemptFinished(
            at=at,
            custom_id=care.job.custom_id,
            line=care.job.line,
            model=care.job.model,
            endpoint=self._endpoint,
            limit_group=self._permit.limit_group,
            attempt=care.attempts,
            status=error.status if isinstance(error, StatusError) else self.status,
            request_id=error.request_id,
            code=error.code,
            message=str(error),
            outcome=_outcome(decision),
            retry_delay_s=decision.after_s if isinstance(decision, Retry) else None,
        )

    def timing(self, read_at: float, now: float, wall_s: float) -> Timing | None:
        """None where nothing was sent. ``wall_s``: Unix time now."""
        if self.sent_at is None:
            return None
        started_ms = round(1000 * (wall_s - (now - self.sent_at)))
        first_s = None if self.first_token_at is None else round(self.first_token_at - self.sent_at, 6)
        return Timing(
            started_at=f"{_second(started_ms // 1000)}.{started_ms % 1000:03d}Z",
            queued_s=round(self.sent_at - read_at, 6),
            first_token_s=first_s,
            total_s=round(now - self.sent_at, 6),
        )


def request_size(job: Job, prompt_tokens: int, prompt_chars: int) -> RequestSize:
    """What the job asks of the limits."""
    body = job.body
    allowed = body.get("max_completion_tokens")
    if type(allowed) is not int:
        allowed = body.get("max_tokens")
    choices = body.get("n")
    return RequestSize(
        path=job.path,
        model=job.model,
        prompt_tokens=prompt_tokens,
        prompt_chars=prompt_chars,
        max_tokens=max(allowed, 0) if type(allowed) is int else None,
        choices=choices if type(choices) is int and choices > 0 else 1,
    )


@lru_cache(maxsize=256)
def _second(unix_s: int) -> str:
    """ISO 8601 in UTC, without what follows the second. Requests of a second share it."""
    return datetime.fromtimestamp(unix_s, UTC).strftime("%Y-%m-%dT%H:%M:%S")


def _outcome(decision: Decision) -> AttemptOutcome:
    if isinstance(decision, Retry):
        return "replace" if decision.replaces else "retry"
    if isinstance(decision, Park):
        return "park"
    return "fail" if isinstance(decision, FailJob) else "stop"
