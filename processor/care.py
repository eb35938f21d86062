"""One job in the pipeline: what it needs, what it has been through, and what its present attempt tells."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Protocol

from processor.errors import RequestError
from processor.events import AttemptEnded, FirstToken, ResponseStarted, Sent, Signal, Tell, Then
from processor.models import Demand, Job, Reply, Timing
from processor.retrying.decisions import History
from processor.tokens.counting import Count


@dataclass(slots=True)
class Care:
    job: Job
    demand: Demand
    prompt: Count | None
    """None while the encoding is still being loaded: the demand then goes by the characters."""
    read_at: float
    attempts: int
    """Requests sent for the job, in all runs."""
    history: History = field(default_factory=History)
    again: bool = False
    """It has been through the gate before."""


class Ticket(Protocol):
    """What an attempt tells the gate, see ``limits.gate.Permit``."""

    def sent(self, at: float) -> None: ...
    def response(self, status: int, headers: Mapping[str, str], at: float) -> None: ...


class Attempt:
    """Listens to the signals of one request: keeps its times, and hands on what the gate must hear."""

    __slots__ = ("_on_response", "_ticket", "_too", "first_token_at", "sent_at", "status")

    def __init__(self, ticket: Ticket, on_response: Callable[[], None], too: Tell | None) -> None:
        self.sent_at: float | None = None
        self.first_token_at: float | None = None
        self.status: int | None = None
        self._ticket = ticket
        self._on_response = on_response
        self._too = too

    def tell(self, signal: Signal) -> None:
        match signal:
            case Sent(at):
                self.sent_at = at
                self._ticket.sent(at)
            case ResponseStarted(status, headers, at):
                self.status = status
                self._ticket.response(status, headers, at)
                self._on_response()
            case FirstToken(at):
                self.first_token_at = at
        if self._too is not None:
            self._too(signal)

    def ended(
        self,
        care: Care,
        at: float,
        *,
        then: Then,
        reply: Reply | None = None,
        error: RequestError | None = None,
        wait_s: float | None = None,
    ) -> AttemptEnded:
        """With neither reply nor error it was broken off."""
        broken_off = reply is None and error is None
        return AttemptEnded(
            at=at,
            custom_id=care.job.custom_id,
            attempt=care.attempts,
            status=reply.status_code if reply else getattr(error, "status", self.status),
            request_id=reply.request_id if reply else error.request_id if error else None,
            code="interrupted" if broken_off else error.code if error else None,
            message="broken off" if broken_off else str(error) if error else None,
            then=then,
            wait_s=wait_s,
        )

    def timing(self, read_at: float, now: float, wall_s: float) -> Timing | None:
        """None where nothing was sent. ``wall_s``: Unix time now."""
        if self.sent_at is None:
            return None
        started = datetime.fromtimestamp(wall_s - (now - self.sent_at), UTC)
        first_s = None if self.first_token_at is None else round(self.first_token_at - self.sent_at, 6)
        return Timing(
            started_at=started.isoformat(timespec="milliseconds").replace("+00:00", "Z"),
            queued_s=round(self.sent_at - read_at, 6),
            first_token_s=first_s,
            total_s=round(now - self.sent_at, 6),
        )


def demand(job: Job, prompt_tokens: int, prompt_chars: int) -> Demand:
    """What the job asks of the limits."""
    body = job.body
    allowed = [body[name] for name in ("max_completion_tokens", "max_tokens") if type(body.get(name)) is int]
    choices = body.get("n")
    return Demand(
        path=job.path,
        model=job.model,
        prompt_tokens=prompt_tokens,
        prompt_chars=prompt_chars,
        max_tokens=max(allowed[0], 0) if allowed else None,
        choices=choices if type(choices) is int and choices > 0 else 1,
    )
