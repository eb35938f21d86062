"""What a person may set about limits, and which requests share one."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from processor.core.models import RequestSize

TokenAccounting = Literal["sum", "larger", "used"]
"""How a provider counts a request's tokens against the limit on their sum.

``sum``     prompt + the most it may generate (Azure; and the safe guess for providers nobody knows)
``larger``  the larger of the most it may generate and an estimate from the prompt's characters (OpenAI)
``used``    as ``sum`` on arrival, corrected to what was really used when the reply is complete (Anthropic)
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class RateLimits:
    """Limits per minute; None: none is configured."""

    rpm: float | None = None
    tpm: float | None = None
    input_tpm: float | None = None
    output_tpm: float | None = None

    def __bool__(self) -> bool:
        return any(limit is not None for limit in (self.rpm, self.tpm, self.input_tpm, self.output_tpm))


@dataclass(frozen=True, slots=True, kw_only=True)
class LimitSettings:
    default: RateLimits = RateLimits()
    per_model: Mapping[str, RateLimits] = field(default_factory=dict)
    charging: TokenAccounting = "sum"

    def of(self, model: str) -> RateLimits:
        return self.per_model.get(model, self.default)


def limit_group_key(settings: LimitSettings, demand: RequestSize) -> str:
    """Requests with the same key share one lane, and so one set of limits.

    A limit set for a model is for that model on each endpoint. A general limit is for all other requests
    together: a user who says 600 a minute means 600 in all. Where nothing is set, the server counts, and
    servers count by endpoint and model.
    """
    if demand.model not in settings.per_model and settings.default:
        return "*"
    return f"{demand.path} {demand.model}"
