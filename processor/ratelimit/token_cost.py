"""The cost of a request by the provider's rule, estimated before the provider reports it."""

from __future__ import annotations

from math import ceil, sqrt

from processor.core.fast_dataclass import constructor_of
from processor.core.models import Cost, RequestSize
from processor.core.text import CHARS_PER_TOKEN
from processor.ratelimit.estimator.decaying_value import MEAN_OVER_REQUESTS
from processor.ratelimit.settings import TokenAccounting

DEFAULT_OUTPUT_TOKENS = 256
"""Expected output of a request without ``max_tokens`` before any reply is known: a few paragraphs."""


class ExpectedOutput:
    """The expected length of replies that no ``max_tokens`` bounds, learned from the replies so far.

    Mean plus half a standard deviation, both fading over the last 50 replies or so. In a minute's sum the deviations
    of single replies cancel out, so that a high quantile would leave much of the limit unused; half a
    deviation is added for limits so small that few replies fit.
    """

    def __init__(self) -> None:
        self._mean = 0.0
        self._variance = 0.0
        self._samples = 0
        self.tokens = DEFAULT_OUTPUT_TOKENS

    def learn(self, output_tokens: float) -> None:
        if self._samples < MEAN_OVER_REQUESTS:
            self._samples += 1
        weight = 1 / self._samples
        deviation = output_tokens - self._mean
        self._mean += weight * deviation
        self._variance = (1 - weight) * (self._variance + weight * deviation * deviation)
        self.tokens = ceil(self._mean + sqrt(self._variance) / 2)


_new_cost = constructor_of(Cost)


def request_cost(size: RequestSize, accounting: TokenAccounting, expected_output: int) -> Cost:
    """``expected_output``: tokens per choice where the job does not bound them."""
    output_per_choice = expected_output if size.max_tokens is None else size.max_tokens
    output = output_per_choice * size.choices
    if accounting == "larger":
        assert size.prompt_chars is not None, "they are counted where a limit is of this kind"
        tokens = max(output, ceil(size.prompt_chars / CHARS_PER_TOKEN))
    else:
        tokens = size.prompt_tokens + output
    return _new_cost(tokens=tokens, input_tokens=size.prompt_tokens, output_tokens=output)
