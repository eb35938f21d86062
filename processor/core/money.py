"""Amounts of money as whole numbers of 1e-12 US dollars: a sum of a million floats is not exact."""

from __future__ import annotations

from dataclasses import dataclass
from math import floor, log10
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from decimal import Decimal

PICO = 10**12
"""Units in a US dollar."""


def pico_usd(amount: float) -> int:
    """Return an amount of a row, which is as exact as a float can be."""
    return round(amount * PICO)


def pico_usd_at_most(amount: Decimal) -> int:
    """Return an exact amount, rounded up."""
    return int((amount * PICO).to_integral_value(rounding="ROUND_CEILING"))


def usd(pico: int) -> float:
    return pico / PICO


def dollars(amount: float) -> str:
    """``6.05 USD``; small amounts with two digits that are not 0."""
    return f"{amount:,.{_digits(amount)}f} USD"


def in_dollars(*picos: int) -> tuple[str, ...]:
    """Amounts that stand beside each other: all with as many digits as the smallest needs."""
    digits = max(_digits(usd(pico)) for pico in picos)
    return tuple(f"{usd(pico):,.{digits}f}" for pico in picos)


def _digits(amount: float) -> int:
    return 2 if amount >= 0.1 or amount <= 0 else 1 - floor(log10(amount))


@dataclass(slots=True)
class RowCosts:
    """What the rows of a file have cost."""

    pico: int = 0
    unknown: int = 0
    """Replies without a cost."""

    def add(self, cost_usd: object, *, is_reply: bool) -> None:
        """``cost_usd``: of a row as it was read."""
        if type(cost_usd) in (float, int) and 0 <= cost_usd < PICO:  # type: ignore[operator]
            self.pico += pico_usd(cost_usd)  # type: ignore[arg-type]
        elif is_reply:
            self.unknown += 1

    def add_all(self, other: RowCosts) -> None:
        self.pico += other.pico
        self.unknown += other.unknown
