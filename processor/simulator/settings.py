"""Settings of the simulated provider."""

from __future__ import annotations

from dataclasses import field
from math import inf
from typing import Literal

from processor.core.fast_dataclass import dataclass
from processor.simulator.batch_settings import BatchSettings
from processor.simulator.faults import Faults
from processor.simulator.rate_limit_headers import Dialect
from processor.simulator.rate_limiter import LimiterKind

Auth = Literal["open", "required", "refused"]
Charging = Literal["larger", "sum", "used"]
OutageKind = Literal["refuse", "500", "503", "429"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Outage:
    """A time span, in seconds on the provider's clock, in which every request fails in the same way.

    ``refuse``: no connection can be opened, and over HTTP an open one is reset; else the status code.
    """

    from_s: float
    to_s: float
    kind: OutageKind


@dataclass(frozen=True, slots=True, kw_only=True)
class SimulatorSettings:
    """Raises ValueError for values out of range."""

    seed: int = 0
    """Determines the content of replies, and which requests have faults."""

    rpm: int | None = None
    """Requests per minute; None: no limit."""
    tpm: int | None = None
    input_tpm: int | None = None
    """Tokens of prompts per minute, counted beside `tpm`; only the dialect of Anthropic has headers for it."""
    output_tpm: int | None = None
    """Likewise the tokens of replies: at arrival as many as `max_tokens` allows."""
    kind: LimiterKind = "sliding"
    """How the limits are enforced; see `rate_limiter.LimiterKind`."""
    dialect: Dialect = "openai"
    """The format of the rate-limit headers."""
    count_throttled: bool = True
    """Throttled requests count against the requests limit."""
    charging: Charging = "larger"
    """Tokens counted at arrival: the larger of max_tokens and the prompt's estimate (OpenAI), or their sum (Azure);
    ``used``: the sum, corrected to what the reply has used at its end."""
    epoch_s: float = 1_750_000_000.0
    """Unix time at 0 on the provider's clock."""

    first_token_s: float = 0.3
    """Time from the arrival of a request to its response: headers and first token are sent together."""
    first_token_jitter: float = 0.4
    """Share by which `first_token_s` varies: uniformly between 1 - share and 1 + share."""
    speed_tps: float = 80.0
    """Tokens per second of each choice; `inf` sends the whole reply at once."""
    headers_with_first_token: bool = False
    """The headers of an unstreamed reply are sent with its first token, as those of a stream, and not with its end."""
    write_batch_s: float = 0.0
    """Chunks due within this time are sent in one write, with the last of them; this saves wake-ups."""
    reply_tokens: tuple[int, int] = (20, 400)
    """The shortest and the longest reply; most are close to the shortest."""
    reply_lengths: tuple[int, ...] = ()
    """Lengths of replies to draw from; empty: between those of `reply_tokens`."""
    canned: bool = False
    """Every reply is the same short text with the same id and usage, so that generating it costs almost nothing."""

    faults: Faults = field(default_factory=Faults)
    outages: tuple[Outage, ...] = ()
    quota: int | None = None
    """Number of admitted requests after which every request gets `insufficient_quota`."""
    auth: Auth = "open"
    """``open``: no key needed; ``required``: 401 without a key; ``refused``: 401 for every key."""
    models: tuple[str, ...] | None = None
    """Names of the known models; None: every name is known."""
    supports_stream_options: bool = True
    """If false, a request with `stream_options` gets a 400, as from some older servers."""

    batches: BatchSettings = field(default_factory=BatchSettings)

    track_identities: bool = False
    """Count requests by identity (about 150 bytes each), so that tests see what was sent or billed twice."""

    def __post_init__(self) -> None:
        shortest, longest = self.reply_tokens
        for is_wrong, message in (
            (
                any(limit is not None and limit < 1 for limit in (self.rpm, self.tpm, self.input_tpm, self.output_tpm)),
                "a limit must be at least 1 per minute",
            ),
            (self.speed_tps <= 0, "the speed must be more than 0 tokens per second"),
            (
                self.first_token_s < 0 or not 0 <= self.first_token_jitter <= 1,
                "first_token_s must be >= 0, its jitter 0 to 1",
            ),
            (
                not 1 <= shortest <= longest,
                "reply_tokens must be at least 1, the shortest first",
            ),
        ):
            if is_wrong:
                raise ValueError(message)


INSTANT = SimulatorSettings(first_token_s=0.0, first_token_jitter=0.0, speed_tps=inf, canned=True)
"""Replies at once, at the least cost to the provider."""
