"""What passes between a session and the limiter that it shares: frozen values, as groups in bytes.

A group carries the time at which it was made on the sender's clock, and the receiver moves all times in it by the
difference to its own: the way makes an event later, never earlier, so that a limit is kept.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import field, replace
from typing import Any, NamedTuple

from processor.cluster.messages import decode, encode
from processor.core.errors import ProcessorError
from processor.core.events import RunEvent
from processor.core.fast_dataclass import dataclass
from processor.core.models import Cost, RequestSize, Usage
from processor.ratelimit.settings import LimitSettings

# ---------------------------------------------------------------- before any request


@dataclass(frozen=True, slots=True, kw_only=True)
class BudgetOpening:
    """The part of a session in a budget that several share."""

    name: str
    """Sessions with the same name have one budget."""
    limit_pico: int
    file: str
    """What the session records its spending in."""
    spent_pico: Mapping[str, int] = field(default_factory=dict)
    """What was spent before, by the file that says so: that of this session, and those of others."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LimiterOpening:
    """What a session tells of itself."""

    session: str
    limits: LimitSettings
    concurrency: int | None
    """The most requests in flight over all sessions; None: what the limits allow."""
    budget: BudgetOpening | None = None


# ---------------------------------------------------------------- from a session to the limiter


class AcquirePermit(NamedTuple):
    number: int
    """The permit's, greater than all before it."""
    size: RequestSize
    is_retry: bool
    worst_pico: int | None
    """The most that the request can cost, in a session with a budget."""


class PermitSent(NamedTuple):
    number: int
    at: float


class PermitResponded(NamedTuple):
    number: int
    status: int
    headers: Mapping[str, str]
    at: float


class PermitThrottled(NamedTuple):
    number: int
    retry_after_s: float | None
    at: float


class GroupHeldBack(NamedTuple):
    number: int
    wait_s: float
    at: float


class PermitSettled(NamedTuple):
    number: int
    usage: Usage
    at: float


class BudgetSettled(NamedTuple):
    number: int
    pico: int
    """What the request has cost."""


class PermitReleased(NamedTuple):
    """The permit is not needed any more, whether it was granted or not."""

    number: int
    has_responded: bool


ToLimiter = (
    AcquirePermit
    | PermitSent
    | PermitResponded
    | PermitThrottled
    | GroupHeldBack
    | PermitSettled
    | BudgetSettled
    | PermitReleased
)

# ---------------------------------------------------------------- from the limiter to a session


class PermitGranted(NamedTuple):
    number: int
    cost: Cost
    limit_group: str
    at: float


class PermitDenied(NamedTuple):
    number: int
    error: ProcessorError
    """TooLarge, or BudgetSpent."""


class LimiterReported(NamedTuple):
    event: RunEvent


FromLimiter = PermitGranted | PermitDenied | LimiterReported


class BudgetSpent(ProcessorError):
    """The request does not fit into the budget, whatever those in flight cost."""


# ---------------------------------------------------------------- bytes


def encode_group(messages: Sequence[ToLimiter | FromLimiter], now: float) -> bytes:
    return encode((now, list(messages)))


def decode_group(data: bytes, now: float) -> list[Any]:
    """Return the messages with their times on this process's clock."""
    sent_at, messages = decode(data)
    return [_moved(message, now - sent_at) for message in messages]


def _moved(message: Any, by_s: float) -> Any:
    """Return a message with its time, if it has one, moved by so much."""
    if isinstance(message, LimiterReported):
        event: Any = message.event
        return LimiterReported(replace(event, at=event.at + by_s)) if hasattr(event, "at") else message
    return message._replace(at=message.at + by_s) if hasattr(message, "at") else message
