"""Every knob of the simulated provider."""

from __future__ import annotations

from dataclasses import dataclass, field
from math import inf
from typing import Literal

from processor.simulator.faults import Faults
from processor.simulator.rate_limit_headers import Dialect
from processor.simulator.rate_limiter import LimiterKind

Auth = Literal["open", "required", "refused"]
Charging = Literal["larger", "sum"]
OutageKind = Literal["refuse", "500", "503", "429"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Outage:
    """From one time to another (seconds on the provider's clock) every request fails in one way.

    ``refuse``: no connection can be made; over HTTP an open one is reset.
    """

    from_s: float
    to_s: float
    how: OutageKind


@dataclass(frozen=True, slots=True, kw_only=True)
class SimulatorSettings:
    """Raises ValueError for values that make no sense."""

    seed: int = 0
    """Another seed says other things, and misbehaves at other requests."""

    rpm: int | None = None
    """Requests per minute; None: no limit."""
    tpm: int | None = None
    kind: LimiterKind = "sliding"
    """How the limits are enforced."""
    dialect: Dialect = "openai"
    """How they are told in headers."""
    count_refused: bool = True
    """Refused requests count against the requests limit."""
    charging: Charging = "larger"
    """Tokens counted at arrival: the larger of max_tokens and the prompt's estimate (OpenAI), or their sum (Azure)."""
    epoch_s: float = 1_750_000_000.0
    """The wall clock's time (Unix) at 0 on the provider's clock."""

    first_token_s: float = 0.3
    """From a request's arrival to the start of its response: rate headers and first token come together."""
    first_token_jitter: float = 0.4
    """The share by which that varies, evenly, to either side."""
    speed_tps: float = 80.0
    """Tokens per second and choice; `inf`: the whole reply at once."""
    gather_s: float = 0.0
    """Chunks due within this time are written at once, with the last of them. Saves wake-ups."""
    reply_tokens: tuple[int, int] = (20, 400)
    """The shortest and the longest reply; most are nearer the shortest."""
    canned: bool = False
    """Every reply is the same few words, with the same id and usage: for measuring everything else."""

    faults: Faults = field(default_factory=Faults)
    outages: tuple[Outage, ...] = ()
    quota: int | None = None
    """After this many admitted requests the account has no credit left."""
    auth: Auth = "open"
    """``required``: a request without a key is refused; ``refused``: every key is."""
    models: tuple[str, ...] | None = None
    """Known models; None: whatever is asked for."""
    knows_stream_options: bool = True
    """Where not, a request with `stream_options` is refused (400), as by some older servers."""

    books: bool = False
    """Remember every request by its identity (about 150 bytes each), to see what was asked or paid twice."""

    def __post_init__(self) -> None:
        shortest, longest = self.reply_tokens
        for wrong, complaint in (
            (any(limit is not None and limit < 1 for limit in (self.rpm, self.tpm)), "a limit is at least 1 a minute"),
            (self.speed_tps <= 0, "the speed must be more than 0 tokens a second"),
            (self.first_token_s < 0 or not 0 <= self.first_token_jitter <= 1, "the first token cannot come before 0 s"),
            (
                not 1 <= shortest <= longest,
                "replies are at least 1 token long, the longest not shorter than the shortest",
            ),
        ):
            if wrong:
                raise ValueError(complaint)


INSTANT = SimulatorSettings(first_token_s=0.0, first_token_jitter=0.0, speed_tps=inf, canned=True)
"""Answers at once: the cheapest provider there is."""
