"""What flows through the rooms. Frozen values, no I/O; everybody may know them, they know nobody."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Literal

JSON = dict[str, Any]
"""A decoded JSON object."""

UsageSource = Literal["reported", "computed"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """One request to make, as one line of the job file asked for it."""

    line: int
    """1-based line number in the job file."""
    custom_id: str
    """The job's name: as given in the file, or derived from its fingerprint."""
    fingerprint: str
    """32 hex digits: BLAKE2b-128 over the sorted-key JSON of [path, body without stream flags]."""
    path: str
    """The API path, which names its protocol: see ``protocols.registry``."""
    model: str
    body: JSON
    """The request body as in the job file, with a ``model``."""
    metadata: Any = None
    """Carried through to the result row untouched, never sent."""
    has_metadata: bool = False


@dataclass(frozen=True, slots=True)
class Secret:
    """A key that prints as dots, so that it reaches no log, row or traceback by accident."""

    value: str = field(repr=False)

    def __str__(self) -> str:
        return "•••"


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """Where a request goes: what ``stream`` needs to reach one endpoint of one provider."""

    base_url: str
    """Ends in ``/v1`` by the OpenAI SDK's convention; a job's ``/v1/...`` path is not doubled."""
    key: Secret | None = None
    auth_header: str = "Authorization"
    auth_scheme: str = "Bearer "
    headers: tuple[tuple[str, str], ...] = ()
    """Sent with every request, e.g. ``anthropic-version``."""
    query: tuple[tuple[str, str], ...] = ()
    """Added to every URL, e.g. Azure's ``api-version``."""

    @property
    def address(self) -> str:
        """Scheme, host and path of the base URL, without its query."""
        return self.base_url.partition("?")[0]


@dataclass(frozen=True, slots=True, kw_only=True)
class Timeouts:
    """How long a transport waits for the phases of one request."""

    connect_timeout_s: float = 30.0
    """For a new connection: name lookup, TCP and TLS."""
    first_byte_timeout_s: float = 600.0
    """From sending to the first byte of the reply's body: a queue at the server may be long."""
    stall_timeout_s: float = 120.0
    """Silence after the first byte. Keep-alive comments count as bytes."""
    request_timeout_s: float = 3600.0
    """From sending to the end of the reply."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RequestSize:
    """What one request asks of the limits, before any charging rule is applied."""

    path: str
    model: str
    prompt_tokens: int
    prompt_chars: int
    max_tokens: int | None
    """What the job allows to be generated per choice; None where it does not say."""
    choices: int = 1
    prompt_estimated: tuple[str, ...] = ()
    """Why ``prompt_tokens`` is an estimate, e.g. ``("tools",)``: see ``tokens.rules``."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Cost:
    """What one request is charged against a minute's limits."""

    requests: int = 1
    tokens: int = 0
    """Input and output together, where the provider limits the sum."""
    input_tokens: int = 0
    """Where the provider limits input and output apart."""
    output_tokens: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Usage:
    """Token counts of one request and its reply."""

    prompt_tokens: int
    completion_tokens: int

    @property
    def total_tokens(self) -> int:
        return self.prompt_tokens + self.completion_tokens

    def as_json(self) -> JSON:
        return {
            "prompt_tokens": self.prompt_tokens,
            "completion_tokens": self.completion_tokens,
            "total_tokens": self.total_tokens,
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class Reply:
    """What came back for a request that succeeded."""

    status_code: int
    request_id: str | None
    body: JSON
    """As the same request would have been answered without streaming; ``usage`` only if reported."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Timing:
    """When a job's last attempt went and how long it took. Seconds; ``started_at`` is ISO 8601 UTC."""

    started_at: str
    queued_s: float
    first_token_s: float | None
    total_s: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Failure:
    """Why a job has no reply."""

    code: str
    message: str
    permanent: bool = False
    """The provider refused the job itself: sending it again is pointless until it changes."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Result:
    """One row of the results or errors file.

    ``reply`` is set for a success; ``failure`` for a failed job, with the refusing response, if there
    was one, in ``reply``.
    """

    fingerprint: str
    custom_id: str | None
    line: int
    reply: Reply | None = None
    failure: Failure | None = None
    usage: Usage | None = None
    """As computed."""
    reported: Usage | None = None
    """The server's own count, where there is one."""
    usage_estimated: tuple[str, ...] = ()
    """Why the computed usage is an estimate, e.g. ``("tools", "unknown_model")``."""
    finish_reasons: tuple[str, ...] = ()
    """Why the reply ended, in the words of its API; several where it has several choices."""
    is_cut_short: bool = False
    """The reply ended at the limit of output tokens."""
    attempts: int = 0
    timing: Timing | None = None
    cost_usd: float | None = None
    simulated: bool = False
    metadata: Any = None
    has_metadata: bool = False

    @property
    def usage_source(self) -> UsageSource | None:
        """Which usage is in the reply's body."""
        if self.reported is not None:
            return "reported"
        return "computed" if self.usage is not None else None
