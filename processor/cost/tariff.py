"""The tariff of one model at one address, and the cost of one request: exact, and never computed from sums of requests.

A rate may depend on the size of the prompt: beyond a threshold the higher rate holds for the whole request. A tariff
may depend on the date and on the time of day (UTC): the last period that holds when the request is sent applies.
"""

from __future__ import annotations

from collections.abc import Mapping
from decimal import Decimal
from typing import Any

from processor.core.fast_dataclass import dataclass
from processor.core.models import BilledUsage

TOKENS_PER_RATE = Decimal(1_000_000)
DAY_S = 86_400


@dataclass(frozen=True, slots=True, kw_only=True)
class Rate:
    """US dollars for a million tokens."""

    usd: Decimal
    above: tuple[tuple[int, Decimal], ...] = ()
    """Rates for requests with more prompt tokens than the number, in ascending order."""

    def for_prompt(self, prompt_tokens: int) -> Decimal:
        usd = self.usd
        for threshold, higher in self.above:
            if prompt_tokens > threshold:
                usd = higher
        return usd


@dataclass(frozen=True, slots=True, kw_only=True)
class Rates:
    """The rates of one model. None: as the more general rate."""

    input: Rate
    output: Rate
    cached_input: Rate | None = None
    cache_write: Rate | None = None
    cache_write_1h: Rate | None = None
    usd_per_request: Decimal = Decimal(0)

    def cost_usd(self, usage: BilledUsage) -> Decimal:
        prompt = usage.prompt_tokens
        cached = self.cached_input or self.input
        write = self.cache_write or self.input
        write_1h = self.cache_write_1h or write
        special = usage.cached_tokens + usage.cache_write_tokens
        total = self.input.for_prompt(prompt) * max(0, prompt - special)
        total += self.output.for_prompt(prompt) * usage.completion_tokens
        if special:
            total += cached.for_prompt(prompt) * usage.cached_tokens
            total += write.for_prompt(prompt) * (usage.cache_write_tokens - usage.cache_write_1h_tokens)
            total += write_1h.for_prompt(prompt) * usage.cache_write_1h_tokens
        return total / TOKENS_PER_RATE + self.usd_per_request

    def worst_cost_usd(self, prompt_tokens: int, output_tokens: int) -> Decimal:
        """Return the most that a request can cost: the prompt at the highest rate that can apply to it."""
        rates = (self.input, self.cached_input, self.cache_write, self.cache_write_1h)
        # A threshold between a small prompt and this one may have the higher rate.
        prompt_rate = max(_highest(rate, prompt_tokens) for rate in rates if rate is not None)
        total = prompt_rate * prompt_tokens + _highest(self.output, prompt_tokens) * output_tokens
        return total / TOKENS_PER_RATE + self.usd_per_request


def _highest(rate: Rate, prompt_tokens: int) -> Decimal:
    return max(rate.usd, *(usd for threshold, usd in rate.above if prompt_tokens > threshold), Decimal(0))


@dataclass(frozen=True, slots=True, kw_only=True)
class TariffPeriod:
    """When rates hold: from a moment on, and in a part of each day (UTC). The part may pass midnight."""

    rates: Rates
    from_unix_s: int | None = None
    daily_s: tuple[int, int] | None = None
    """Start and end, in seconds after midnight."""

    def holds_at(self, unix_s: float) -> bool:
        if self.from_unix_s is not None and unix_s < self.from_unix_s:
            return False
        if self.daily_s is None:
            return True
        second, (start, end) = unix_s % DAY_S, self.daily_s
        return start <= second < end if start <= end else second >= start or second < end


@dataclass(frozen=True, slots=True, kw_only=True)
class Tariff:
    """What one model costs at one address. At least one period."""

    periods: tuple[TariffPeriod, ...]
    max_output_tokens: int | None = None
    """The most tokens that a reply of the model can have; None where it is not known."""

    def cost_usd(self, usage: BilledUsage, sent_at_unix_s: float) -> Decimal | None:
        """Return the cost of one request; None where it used what the tariff has no rate for."""
        if usage.has_other_charges:
            return None
        rates = [period.rates for period in self.periods if period.holds_at(sent_at_unix_s)]
        return (rates[-1] if rates else self.periods[0].rates).cost_usd(usage)

    def worst_cost_usd(self, prompt_tokens: int, output_tokens: int) -> Decimal:
        """Return the most that a request of this size can cost, whenever it is sent."""
        return max(period.rates.worst_cost_usd(prompt_tokens, output_tokens) for period in self.periods)


# ---------------------------------------------------------------- as JSON, between the processes


def tariff_from_json(data: Mapping[str, Any]) -> Tariff:
    return Tariff(
        periods=tuple(_period_from_json(period) for period in data["periods"]),
        max_output_tokens=data.get("max_output_tokens"),
    )


def _period_from_json(data: Mapping[str, Any]) -> TariffPeriod:
    daily = data.get("daily_s")
    return TariffPeriod(
        rates=_rates_from_json(data["rates"]),
        from_unix_s=data.get("from_unix_s"),
        daily_s=(daily[0], daily[1]) if daily else None,
    )


def _rates_from_json(data: Mapping[str, Any]) -> Rates:
    rates = {name: _rate_from_json(value) for name, value in data.items() if name != "usd_per_request"}
    return Rates(**rates, usd_per_request=Decimal(data.get("usd_per_request", "0")))


def _rate_from_json(data: Mapping[str, Any]) -> Rate:
    return Rate(usd=Decimal(data["usd"]), above=tuple((start, Decimal(usd)) for start, usd in data["above"]))
