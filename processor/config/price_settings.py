"""The sections ``[prices."MODEL"]``: prices that the user sets, in US dollars for a million tokens."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated

from processor.core.errors import ConfigError
from processor.core.fast_dataclass import dataclass

Price = Annotated[float, "may be 0"]


@dataclass(frozen=True, slots=True, kw_only=True)
class LongPromptPrices:
    """What replaces the prices of requests with more than ``tokens`` prompt tokens. None: as without it."""

    tokens: int | None = None
    input: Price | None = None
    cached_input: Price | None = None
    cache_write: Price | None = None
    output: Price | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelPrices:
    """The prices of one model. ``cached_input`` and ``cache_write``: None is the price of other input."""

    input: Price | None = None
    output: Price | None = None
    cached_input: Price | None = None
    cache_write: Price | None = None
    above: LongPromptPrices | None = None
    max_output_tokens: int | None = None
    """The most tokens that the model generates for one reply: for jobs without a limit in a run with a budget."""


def check_prices(prices: Mapping[str, ModelPrices]) -> None:
    """Raises ConfigError where a price that is needed is missing."""
    for model, price in prices.items():
        if price.input is None or price.output is None:
            lacks = "input" if price.input is None else "output"
            raise ConfigError(
                f'[prices."{model}"] needs {lacks}: the price of a million tokens in US dollars (it may be 0)'
            )
        if price.above is not None and price.above.tokens is None:
            raise ConfigError(
                f'[prices."{model}"] above needs tokens: the size of the prompt above which its prices hold'
            )
