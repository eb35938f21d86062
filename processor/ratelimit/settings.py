"""Configured limits, and the rule by which requests share them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import field
from typing import Literal

from processor.core.fast_dataclass import dataclass
from processor.core.models import Job, RequestSize
from processor.health.canary import TIMEOUT_WITH_KEY_S

TokenAccounting = Literal["sum", "larger", "used"]
"""How a provider counts a request's tokens against the limit on input and output together.

``sum``     prompt + the most it may generate (Azure; also the safe choice for unknown providers)
``larger``  the larger of the most it may generate and an estimate from the prompt's characters (OpenAI)
``used``    as ``sum`` on arrival, corrected to what was used when the reply is complete (Anthropic)
"""

HeaderDialect = Literal["minute", "requests-per-day", "named-periods"]
"""What a provider's rate-limit headers mean: see ``headers``.

``minute``            limits per minute (OpenAI, Azure, Anthropic; also assumed of unknown providers)
``requests-per-day``  the limit on requests is one of a day, that on tokens one of a minute (Groq)
``named-periods``     the name of a header ends in the period of its limit (Cerebras)
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class RateLimits:
    """Limits per minute; None: not configured."""

    rpm: float | None = None
    tpm: float | None = None
    input_tpm: float | None = None
    output_tpm: float | None = None

    @property
    def is_set(self) -> bool:
        """Whether any limit is configured."""
        return any(limit is not None for limit in (self.rpm, self.tpm, self.input_tpm, self.output_tpm))


@dataclass(frozen=True, slots=True, kw_only=True)
class LimitSettings:
    default: RateLimits = RateLimits()
    per_model: Mapping[str, RateLimits] = field(default_factory=dict)
    charging: TokenAccounting = "sum"
    dialect: HeaderDialect = "minute"
    bursts: bool = True
    """Whether more may be sent at once than even pacing lets through, where the server allows it."""
    first_alone_s: float = TIMEOUT_WITH_KEY_S
    """How long the first request of a limit group is sent alone at most, where no limit is known: see
    ``FirstRequests``."""
    concurrency_is_fixed: bool = False
    """Whether the number of requests in flight is given, and not found by trying."""

    @property
    def counts_characters(self) -> bool:
        """Whether a prompt is charged by its characters."""
        return self.charging == "larger"

    def of(self, model: str) -> RateLimits:
        return self.per_model.get(model, self.default)


def limit_group_key(settings: LimitSettings, size: RequestSize | Job) -> str:
    """The name of the limit group of a request. Requests of the same group share one set of limits.

    A limit set for a model holds for that model at each API path. A general limit holds for all other requests
    together: 600 a minute means 600 in all. Where nothing is set, the server counts, by API path and model.
    """
    if size.model not in settings.per_model and settings.default.is_set:
        return "*"
    return f"{size.path} {size.model}"
