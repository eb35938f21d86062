"""Tariffs with round numbers."""

from __future__ import annotations

from decimal import Decimal

from processor.cost.tariff import Rate, Rates, Tariff, TariffPeriod


def a_million_tokens_cost(usd: int) -> Tariff:
    """The price of output; input is free."""
    rates = Rates(input=Rate(usd=Decimal(0)), output=Rate(usd=Decimal(usd)))
    return Tariff(periods=(TariffPeriod(rates=rates),))
