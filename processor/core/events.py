"""What happened, as data. Whoever shows something listens; nobody is asked.

Two families. *Signals* are told by ``stream`` about the one request it serves. *Events* are told by the
run about itself. Times named ``at`` are seconds on the event loop's monotonic clock.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from math import inf
from typing import Literal

from processor.core.models import Job, Reply, Result, Target

# ---------------------------------------------------------------- signals of one request


@dataclass(frozen=True, slots=True)
class Sent:
    """The request is on its way; from here on it may be billed."""

    at: float


@dataclass(frozen=True, slots=True)
class ResponseStarted:
    """Status line and headers have arrived. Header names are lower case."""

    status: int
    headers: Mapping[str, str]
    at: float


@dataclass(frozen=True, slots=True)
class FirstToken:
    """The first piece of generated content (text, reasoning, tool call) has arrived."""

    at: float


@dataclass(frozen=True, slots=True)
class Delta:
    """A piece of generated text of the first choice. Told only where replies are echoed."""

    text: str


RequestEvent = Sent | ResponseStarted | FirstToken | Delta
RequestListener = Callable[[RequestEvent], None]


Transport = Callable[[Job, Target, RequestListener], Awaitable[Reply]]
"""Sends one request and returns its assembled reply. Raises RequestError where the attempt failed.

While it works it reports Sent, ResponseStarted and FirstToken, in this order, to the given listener. ``HttpTransport``
and ``MemoryTransport`` are transports; any other callable of this shape can take their place.
"""


# ---------------------------------------------------------------- events of a run

Bottleneck = Literal["requests", "tokens", "in_flight", "cool_down", "outage", "input"]
"""What keeps the next request from being sent right now."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RunStarted:
    """``jobs`` counts the lines of the job file, None where it cannot be known (stdin)."""

    at: float
    jobs: int | None
    done: int
    simulated: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class JobSkipped:
    """Nothing is sent for this job: it has its reply, or its failure stands."""

    custom_id: str | None
    """None where many are told of at once."""
    why: Literal["done", "changed", "own_fault"]
    count: int = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class AttemptStarted:
    at: float
    custom_id: str
    attempt: int
    tokens: int
    """What the attempt is charged against the token limit."""
    waited_s: float
    """How long it waited for its permit."""


AttemptOutcome = Literal["done", "retry", "replace", "fail", "doubt", "stop"]
"""What followed from an attempt. ``doubt``: it has failed, if anything else succeeds."""


@dataclass(frozen=True, slots=True, kw_only=True)
class AttemptFinished:
    """An attempt left the wire. ``code`` is None for a reply, else the error's code."""

    at: float
    custom_id: str
    attempt: int
    status: int | None
    request_id: str | None
    code: str | None
    message: str | None
    then: AttemptOutcome
    wait_s: float | None
    """Seconds until the next attempt, where there is one."""


@dataclass(frozen=True, slots=True, kw_only=True)
class JobFinished:
    """The job's row is written."""

    at: float
    result: Result


@dataclass(frozen=True, slots=True, kw_only=True)
class LimitsChanged:
    """The limits in force for a lane changed, by configuration or by a server's headers."""

    at: float
    lane: str
    rpm: float | None
    tpm: float | None
    source: Literal["configured", "reported"]


@dataclass(frozen=True, slots=True, kw_only=True)
class BottleneckChanged:
    """From now on the run waits for this (None: for nothing)."""

    at: float
    bound: Bottleneck | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Notice:
    """Something a person should read once, e.g. an outage beginning, or a limit set higher than the server's."""

    at: float
    text: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Stopping:
    """No new requests from now on; those in flight may finish within ``grace_s``."""

    at: float
    why: str
    grace_s: float = inf


RunEvent = (
    RunStarted
    | JobSkipped
    | AttemptStarted
    | AttemptFinished
    | JobFinished
    | LimitsChanged
    | BottleneckChanged
    | Notice
    | Stopping
)
Listener = Callable[[RunEvent], None]
