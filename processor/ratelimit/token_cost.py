"""What a request costs by the provider's rule, before the provider has said so."""

from __future__ import annotations

from math import ceil, sqrt

from processor.core.models import Cost, RequestSize
from processor.core.text import CHARS_PER_TOKEN
from processor.ratelimit.settings import TokenAccounting

DEFAULT_OUTPUT_TOKENS = 256
"""Output tokens of a request that does not say, while nothing is known: a few paragraphs."""


class ExpectedOutput:
    """How long replies are that no ``max_tokens`` bounds, learned from those so far.

    Mean plus half a deviation, both fading over the last fifty replies or so. In a minute's sum the
    deviations of single replies cancel out, so a high quantile would leave much of the limit unused;
    the half is for limits that hold few replies.
    """

    _MEMORY = 50

    def __init__(self) -> None:
        self._mean = 0.0
        self._variance = 0.0
        self._seen = 0

    def learn(self, output_tokens: float) -> None:
        self._seen = min(self._seen + 1, self._MEMORY)
        weight = 1 / self._seen
        off = output_tokens - self._mean
        self._mean += weight * off
        self._variance = (1 - weight) * (self._variance + weight * off * off)

    @property
    def output_tokens(self) -> int:
        if not self._seen:
            return DEFAULT_OUTPUT_TOKENS
        return ceil(self._mean + sqrt(self._variance) / 2)


def charge(demand: RequestSize, rule: TokenAccounting, expected: int) -> Cost:
    """``expected``: output tokens per choice where the job does not bound them."""
    per_choice = expected if demand.max_tokens is None else demand.max_tokens
    output = per_choice * demand.choices
    if rule == "larger":
        tokens = max(output, ceil(demand.prompt_chars / CHARS_PER_TOKEN))
    else:
        tokens = demand.prompt_tokens + output
    return Cost(tokens=tokens, input_tokens=demand.prompt_tokens, output_tokens=output)
