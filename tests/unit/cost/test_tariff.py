"""The cost of one request by a tariff: cached tokens, long prompts, times of day, and the worst case."""

from __future__ import annotations

from datetime import UTC, datetime
from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from processor.core.models import BilledUsage
from processor.cost.tariff import Rate, Rates, Tariff, TariffPeriod, tariff_from_json


def rate(usd: str, *above: tuple[int, str]) -> Rate:
    return Rate(usd=Decimal(usd), above=tuple((tokens, Decimal(higher)) for tokens, higher in above))


def used(prompt: int, completion: int, cached: int = 0, written: int = 0, *, written_1h: int = 0) -> BilledUsage:
    return BilledUsage(
        prompt_tokens=prompt,
        completion_tokens=completion,
        cached_tokens=cached,
        cache_write_tokens=written,
        cache_write_1h_tokens=written_1h,
    )


LONG = Rates(
    input=rate("3", (200_000, "6")),
    output=rate("15", (200_000, "22.5")),
    cached_input=rate("0.3", (200_000, "0.6")),
    cache_write=rate("3.75", (200_000, "7.5")),
    cache_write_1h=rate("6", (200_000, "12")),
)


@pytest.mark.parametrize(
    ("usage", "usd"),
    [
        (used(1_000, 10), "0.00315"),
        (used(1_000, 10, 400), "0.00207"),
        (used(1_000, 10, 400, 100), "0.002145"),
        (used(1_000, 10, 400, 100, written_1h=100), "0.00237"),
        (used(200_000, 1), "0.600015"),
        (used(200_001, 1), "1.2000285"),  # beyond the threshold the whole request has the higher rates
    ],
)
def test_each_kind_of_token_has_its_rate(usage: BilledUsage, usd: str) -> None:
    assert LONG.cost_usd(usage) == Decimal(usd)


def test_cached_tokens_without_a_rate_cost_as_much_as_others() -> None:
    plain = Rates(input=rate("3"), output=rate("15"))
    assert plain.cost_usd(used(1_000, 10, 400, 100)) == plain.cost_usd(used(1_000, 10))


def at(hour: int, minute: int = 0, *, day: int = 10) -> float:
    return datetime(2026, 3, day, hour, minute, tzinfo=UTC).timestamp()


DAY, NIGHT, NEXT = (Rates(input=rate(usd), output=rate("0")) for usd in ("4", "1", "9"))
CHANGING = Tariff(
    periods=(
        TariffPeriod(rates=DAY),
        TariffPeriod(rates=NIGHT, daily_s=(23 * 3600, 5 * 3600)),
        TariffPeriod(rates=NEXT, from_unix_s=int(at(0, day=20))),
    )
)


@pytest.mark.parametrize(
    ("moment", "usd"),
    [
        (at(22, 59), 4),
        (at(23), 1),
        (at(0), 1),
        (at(4, 59), 1),
        (at(5), 4),
        (at(23, 59, day=19), 1),
        (at(0, day=20), 9),
    ],
)
def test_last_period_that_holds_when_the_request_is_sent_applies(moment: float, usd: int) -> None:
    assert CHANGING.cost_usd(used(1_000_000, 0), moment) == usd


def test_request_with_other_charges_has_no_known_cost() -> None:
    usage = BilledUsage(prompt_tokens=10, completion_tokens=10, has_other_charges=True)
    assert CHANGING.cost_usd(usage, at(12)) is None


_USD = st.integers(0, 10**6).map(lambda milli: Decimal(milli) / 1000)
_RATES = st.builds(
    Rate, usd=_USD, above=st.lists(st.tuples(st.integers(1, 5_000), _USD), max_size=2).map(sorted).map(tuple)
)
_TARIFFS = st.builds(
    Tariff,
    periods=st.lists(
        st.builds(
            TariffPeriod,
            rates=st.builds(
                Rates, **dict.fromkeys(("input", "output", "cached_input", "cache_write", "cache_write_1h"), _RATES)
            ),
            daily_s=st.none() | st.tuples(st.integers(0, 86_399), st.integers(0, 86_399)),
        ),
        min_size=1,
        max_size=3,
    ).map(tuple),
)


@given(_TARIFFS, st.tuples(*[st.integers(0, 2_500)] * 4), st.integers(0, 10_000), st.integers(0, 86_399))
def test_no_request_of_a_size_costs_more_than_its_worst_case(
    tariff: Tariff, prompt: tuple[int, int, int, int], completion: int, second: int
) -> None:
    plain, cached, written, written_1h = prompt
    usage = used(sum(prompt), completion, cached, written + written_1h, written_1h=written_1h)
    cost = tariff.cost_usd(usage, float(second))
    assert cost is not None
    assert cost <= tariff.worst_cost_usd(sum(prompt), completion)
    smaller = tariff.cost_usd(used(plain, completion // 2), float(second))
    assert smaller is not None
    assert smaller <= tariff.worst_cost_usd(sum(prompt), completion)


def test_tariff_is_read_from_the_json_of_the_other_process() -> None:
    plain = {"usd": "0.1", "above": [[200, "0.2"]]}
    data = {"rates": {"input": plain, "output": plain, "usd_per_request": "0.005"}, "daily_s": [1, 2]}
    tariff = tariff_from_json({"periods": [data]})
    expected = Rates(
        input=rate("0.1", (200, "0.2")), output=rate("0.1", (200, "0.2")), usd_per_request=Decimal("0.005")
    )
    assert tariff == Tariff(periods=(TariffPeriod(rates=expected, daily_s=(1, 2)),))
