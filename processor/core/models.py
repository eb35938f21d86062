"""The values that pass between the folders: jobs, targets, replies, results. Frozen, without I/O."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import field, replace
from typing import Any, Literal, NamedTuple, Protocol, TypeVar

from processor.core.fast_dataclass import dataclass
from processor.core.secrets import Secret
from processor.core.token_bounds import TokenBounds

JSON = dict[str, Any]
"""A decoded JSON object."""

ByteRange = tuple[int, int]
"""A part of a file, in bytes: ``start <= position < end``."""

MAX_REQUEST_TOKENS = 10_000_000
"""More than any model reads or writes in one request."""

UsageSource = Literal["reported", "computed"]

LINE_BITS = 44
"""So many bits of a position are the line, those above it the number of the file."""

T = TypeVar("T")


class RunInThread(Protocol):
    """Runs blocking work off the event loop: ``asyncio.to_thread``, or inline on a virtual clock."""

    def __call__(self, work: Callable[[], T], /) -> Awaitable[T]: ...


class SourceFile(NamedTuple):
    """One of several job files of a run."""

    number: int
    """From 1, in the order in which they are read."""
    name: str


def position_of(line: int, source: SourceFile | None) -> int:
    """Return a number that no other line of the run has, and that grows in the order in which lines are read."""
    return line if source is None else source.number << LINE_BITS | line


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """One line of the job file: a request to send."""

    line: int
    """1-based line number in the job file."""
    custom_id: str
    """As given in the file, or derived from the fingerprint."""
    fingerprint: str
    """32 hex digits: BLAKE2b-128 over the sorted-key JSON of [path, body without stream flags]."""
    path: str
    """The API path, which names its protocol: see ``protocols.registry``."""
    model: str
    body: JSON
    """The request body as in the job file, with a ``model``."""
    metadata: Any = None
    """Copied to the result row unchanged, never sent."""
    has_metadata: bool = False
    altered: tuple[str, ...] = ()
    """What had to be changed of the line to be read: ``nan``, ``surrogate``."""
    source: SourceFile | None = None
    """Its job file; None where the run has only one."""

    @property
    def position(self) -> int:
        """The job in this run: see ``position_of``."""
        return position_of(self.line, self.source)


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """Where a request is sent: what a transport needs to reach one endpoint."""

    base_url: str
    """Ends in ``/v1`` by the OpenAI SDK's convention; a job's ``/v1/...`` path is not doubled. ``{model}`` stands for
    the model of each job."""
    key: Secret | None = None
    auth_header: str = "Authorization"
    auth_scheme: str = "Bearer "
    headers: tuple[tuple[str, str], ...] = ()
    """Sent with every request, e.g. ``anthropic-version``."""
    query: tuple[tuple[str, str], ...] = ()
    """Added to every URL, e.g. Azure's ``api-version``."""
    refuses: frozenset[str] = frozenset()
    """Fields of a request that this program would add, and that the server is known to refuse."""

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
    """The size of one request, before a rule for counting tokens is applied."""

    path: str
    model: str
    prompt_tokens: int
    prompt_chars: int | None
    """None where no limit counts them."""
    max_tokens: int | None
    """The job's limit on the output of one choice; None where it sets none."""
    choices: int = 1
    goes_first: bool = False
    """It continues a job that has had a reply, and is in flight until it has a valid one: it overtakes other jobs."""
    prompt_estimated: tuple[str, ...] = ()
    """Why ``prompt_tokens`` is an estimate, e.g. ``("tools",)``: see ``tokens.rules``."""
    bounds: TokenBounds | None = None
    """In a run with a budget: what the request can be billed for at most."""
    recount: Callable[[], RequestSize | None] | None = field(default=None, compare=False, repr=False)
    """Where the prompt is estimated until its encoding is loaded: returns the exact size after that, None before."""

    def as_known_now(self) -> RequestSize:
        """Return the size with the prompt as it can be counted now."""
        counted = None if self.recount is None else self.recount()
        return self if counted is None else replace(counted, goes_first=self.goes_first, bounds=self.bounds)


@dataclass(frozen=True, slots=True, kw_only=True)
class Cost:
    """What one request counts against the limits of a minute."""

    requests: int = 1
    tokens: int = 0
    """Input and output, where the provider limits their sum."""
    input_tokens: int = 0
    """Where the provider limits input and output separately."""
    output_tokens: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Usage:
    """Token counts of one request and its reply."""

    prompt_tokens: int
    completion_tokens: int

    @property
    def total_tokens(self) -> int:
        return self.prompt_tokens + self.completion_tokens

    @property
    def is_plausible(self) -> bool:
        """Whether one request can have used so many tokens."""
        return self.prompt_tokens <= MAX_REQUEST_TOKENS and self.completion_tokens <= MAX_REQUEST_TOKENS

    def as_json(self) -> JSON:
        return {
            "prompt_tokens": self.prompt_tokens,
            "completion_tokens": self.completion_tokens,
            "total_tokens": self.total_tokens,
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class BilledUsage:
    """The tokens of one request by the rate that applies to them."""

    prompt_tokens: int
    """All of them, those of the cache too."""
    completion_tokens: int
    cached_tokens: int = 0
    """Of the prompt, read from the provider's cache."""
    cache_write_tokens: int = 0
    """Of the prompt, written to the provider's cache."""
    cache_write_1h_tokens: int = 0
    """Of those written, kept for an hour."""
    has_other_charges: bool = False
    """Something else is charged, such as audio, a search, or another service tier."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Reply:
    """The response to a request, successful or not."""

    status_code: int
    request_id: str | None
    body: JSON
    """As the API answers the same request unstreamed. From a transport it has ``usage`` only if the server reported it;
    in a result it has the computed usage where it did not."""
    altered: tuple[str, ...] = ()
    """What was changed of it: ``nan``, ``surrogate``, ``utf8`` to read it, ``key`` where it repeated the key."""
    is_large: bool = False
    """Work on the whole body takes long enough to do it in a thread."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Timing:
    """When a job's last attempt started (ISO 8601, UTC), and how long its phases took."""

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
    """The provider refused the job itself: it fails again until the job changes. ``own_fault`` in the row."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Validation:
    """How the output of a job was checked against a JSON Schema."""

    asks: int
    """Replies that were checked: after each but the last the job was asked again."""
    schema: str
    """The digest of the schema: see ``validation.schema``."""
    billed_usage: Usage
    """The tokens of all these replies, as reported, else as computed."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Result:
    """One row of the results or errors file.

    A success has ``reply`` alone. A failed job has ``failure``, and in ``reply`` the refusing response, or the reply
    that is not valid, if any.
    """

    fingerprint: str
    custom_id: str | None
    line: int
    reply: Reply | None = None
    failure: Failure | None = None
    usage: Usage | None = None
    """As computed with tiktoken."""
    reported: Usage | None = None
    """As the server reported it."""
    usage_estimated: tuple[str, ...] = ()
    """Why the computed usage is an estimate, e.g. ``("tools", "unknown_model")``."""
    finish_reasons: tuple[str, ...] = ()
    """Why the reply ended, in the words of its API; several where it has several choices."""
    is_cut_short: bool = False
    """The reply ended at the limit of output tokens."""
    is_unconfirmed: bool = False
    """The reply has no finish reason that is known to mean success, but came to a clean end."""
    attempts: int = 0
    timing: Timing | None = None
    endpoint: str | None = None
    """The address that the last request for it was sent to; None where none was."""
    asked_model: str | None = None
    """The model in that request."""
    streamed: bool | None = None
    """Whether that request asked for a stream; None where that is not known."""
    served_by: str | None = None
    """``batch`` where the job was sent in a batch."""
    cost_usd: float | None = None
    """Of all replies, where the job was asked again."""
    validation: Validation | None = None
    """None where the output was not checked."""
    unconfirmed_cost_usd: float | None = None
    """What requests of this run without a reply may have cost; None where there were none, or that is not known."""
    simulated: bool = False
    altered: tuple[str, ...] = ()
    """What had to be changed of the job's line; the reply has its own."""
    metadata: Any = None
    has_metadata: bool = False
    source: SourceFile | None = None
    """The job file of the line; None where the run has only one."""

    @property
    def usage_source(self) -> UsageSource | None:
        """Which of the two is in the reply's body, where replies of its API hold usage."""
        if self.reported is not None:
            return "reported"
        return "computed" if self.usage is not None else None
