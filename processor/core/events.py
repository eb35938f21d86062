"""Events: what happened, as frozen values.

Two families. A *RequestEvent* is reported by a transport about the one request that it sends. A *RunEvent* is emitted
by the parts of a run to its listeners. Times named ``at`` are seconds on the event loop's monotonic clock.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import field
from math import inf
from typing import Literal

from processor.core.fast_dataclass import dataclass
from processor.core.models import JSON, Job, Reply, Result, Target
from processor.core.worker_events import WorkerEnded, WorkerStarted

# ---------------------------------------------------------------- events of one request


@dataclass(frozen=True, slots=True)
class Sent:
    """The first byte of the request was sent; from here on it may be billed."""

    at: float
    streamed: bool | None = None
    """Whether the reply was asked for as a stream; None where the transport does not say."""


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
    """A piece of generated text of the first choice has arrived. Reported only where replies are echoed."""

    text: str


RequestEvent = Sent | ResponseStarted | FirstToken | Delta
RequestListener = Callable[[RequestEvent], None]


Transport = Callable[[Job, Target, RequestListener], Awaitable[Reply]]
"""Sends one request and returns its assembled reply. Raises RequestError where the attempt failed.

While it works it reports Sent, ResponseStarted and FirstToken, in this order, to the given listener, from the event
loop's thread. ``HttpTransport`` and ``MemoryTransport`` are transports; any other callable of this shape can take their
place.
"""


# ---------------------------------------------------------------- events of a run

Bottleneck = Literal["requests", "tokens", "in_flight", "cool_down", "outage", "input", "back_off"]
"""What keeps the next request from being sent right now. ``input``: no job waits to be sent. ``back_off``: nor does
any, because jobs wait before a further attempt; statistics tell the two apart, the event does not."""

SkipReason = Literal["done", "changed", "other_model", "other_endpoint", "other_schema", "failed_permanently"]
"""``changed``: it has the reply to an earlier version of the job. ``other_model``, ``other_endpoint``: it has the reply
of another model, or from another address, than this run asks. ``other_schema``: its reply was checked against another
schema. ``failed_permanently``: its failed row stands."""

AttemptOutcome = Literal["success", "retry", "replace", "fail", "park", "stop"]
"""What an attempt led to: a reply; another attempt; another attempt that is not counted (the connection was lost before
any response); a failed row; a parked job, which fails if another job succeeds; the end of the run."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RunStarted:
    """The files are open, and the run is about to send its first request."""

    at: float
    jobs: int | None
    """Lines of the job file, within ``--limit``; None where the number is unknown (stdin)."""
    done: int
    """Jobs with a reply from an earlier run."""
    simulated: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class JobSkipped:
    """Nothing is sent for these jobs: they have a reply, or a failed row that stands."""

    reason: SkipReason
    count: int = 1
    custom_id: str | None = None
    """None where one event covers many jobs, as for ``line`` and ``model``."""
    line: int | None = None
    model: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class AttemptStarted:
    """A job has its permit, and its request is handed to the transport."""

    at: float
    custom_id: str
    line: int
    model: str
    endpoint: str
    """Address of the endpoint: scheme, host and path."""
    limit_group: str
    attempt: int
    """1 for the first request of this job, counted over all runs."""
    tokens: int
    """Tokens reserved from the token limit."""
    waited_s: float
    """Seconds from reading the job to its permit."""


@dataclass(frozen=True, slots=True, kw_only=True)
class AttemptFinished:
    """An attempt ended: with a reply, with an error, or because the run was stopped."""

    at: float
    custom_id: str
    line: int
    model: str
    endpoint: str
    limit_group: str
    attempt: int
    status: int | None
    request_id: str | None
    outcome: AttemptOutcome
    code: str | None = None
    """The error's code; None for a reply."""
    message: str | None = None
    retry_delay_s: float | None = None
    """Seconds until the next attempt; None where there is none."""
    unconfirmed_cost_usd: float | None = None
    """What a request without a reply may have cost at most; None where it cost nothing, or that is not known."""


@dataclass(frozen=True, slots=True, kw_only=True)
class JobFinished:
    """The job's row is written: a result, or a failure."""

    at: float
    result: Result
    model: str | None = None
    """None, as ``endpoint`` and ``limit_group``, for a line that is no job or was not sent."""
    endpoint: str | None = None
    limit_group: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class ReplyInvalid:
    """The output of a reply does not match its schema."""

    at: float
    custom_id: str
    line: int
    asks: int
    """Replies to the job that were checked, with this one."""
    problems: tuple[str, ...]
    """Each begins with a JSON pointer, unless it is about the whole output."""
    is_asked_again: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class LimitsChanged:
    """The limits in force for a limit group changed, by configuration or by a server's headers; or its responses have
    shown how the server counts."""

    at: float
    limit_group: str
    rpm: float | None
    tpm: float | None
    source: Literal["configured", "reported"]
    server_rpm: float | None = None
    """As the server reports it, which may be more than the limit in force; None: not known."""
    server_tpm: float | None = None
    counters: Mapping[str, JSON] = field(default_factory=dict)
    """How the server counts, by resource (``requests``, ``tokens``), as far as its responses have shown: ``kind``,
    ``window`` or ``bucket``; ``size``, what it holds; ``period_s``, the length of the window, or the time in which an
    empty bucket is full again; ``is_announced``, false where headers promise more than this counter grants."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ConcurrencyChanged:
    """The number of requests that may be in flight changed, where the server announces no limit."""

    at: float
    limit_group: str
    limit: int
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class BottleneckChanged:
    """The next request now waits for something else; None: for nothing."""

    at: float
    bottleneck: Bottleneck | None


@dataclass(frozen=True, slots=True, kw_only=True)
class OutageStarted:
    """The endpoint is considered down; one request at a time probes it."""

    at: float
    endpoint: str
    message: str
    """The error that decided it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class OutageContinues:
    """The endpoint is still down; emitted each minute."""

    at: float
    endpoint: str
    down_s: float
    """Seconds since the outage was noticed."""


@dataclass(frozen=True, slots=True, kw_only=True)
class OutageEnded:
    """The endpoint answers again."""

    at: float
    endpoint: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Notice:
    """A message that a person should read once, e.g. that a configured limit is above the server's."""

    at: float
    text: str
    is_warning: bool = False
    """It tells of a promise that does not hold here, so that ``--quiet`` does not hide it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Stopping:
    """No new requests from now on; those in flight may finish within ``grace_s``."""

    at: float
    reason: str
    grace_s: float = inf


@dataclass(frozen=True, slots=True, kw_only=True)
class RunFinished:
    """Every row is written and the files are closed."""

    at: float
    exit_code: int
    reason: str | None
    """What stopped the run early; None where it came to its end."""


RunEvent = (
    RunStarted
    | JobSkipped
    | AttemptStarted
    | AttemptFinished
    | JobFinished
    | ReplyInvalid
    | LimitsChanged
    | ConcurrencyChanged
    | BottleneckChanged
    | OutageStarted
    | OutageContinues
    | OutageEnded
    | Notice
    | WorkerStarted
    | WorkerEnded
    | Stopping
    | RunFinished
)
Listener = Callable[[RunEvent], None]
