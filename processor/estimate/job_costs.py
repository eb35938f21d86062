"""What jobs are expected to cost, and what they cost at most. Pure; in 1e-12 US dollars."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import NamedTuple

from processor.core.models import BilledUsage, RequestSize
from processor.core.money import pico_usd_at_most
from processor.core.token_bounds import TokenBounds
from processor.cost.tariff import Tariff
from processor.cost.worst_case import worst_case_pico

CACHED_SIZES = 16_384

TariffsOf = Callable[[str], Sequence[Tariff]]
"""Returns the tariffs of a model at the endpoints that answer it; none where no price is known."""


@dataclass(slots=True)
class CostTotals:
    """Sums over the jobs of one model, or of all."""

    expected_pico: int = 0
    at_most_pico: int = 0
    jobs: int = 0
    unknown: int = 0
    """Jobs without a known price."""
    without_reply: int = 0
    """Jobs whose reply has no expected length."""
    unbounded: int = 0
    """Jobs whose price is known, and whose cost nothing bounds."""

    def add(self, other: CostTotals) -> None:
        self.expected_pico += other.expected_pico
        self.at_most_pico += other.at_most_pico
        self.jobs += other.jobs
        self.unknown += other.unknown
        self.without_reply += other.without_reply
        self.unbounded += other.unbounded

    @property
    def is_priced(self) -> bool:
        return self.unknown < self.jobs

    @property
    def known_expected_pico(self) -> int | None:
        """Of the jobs with a price; None where it is not known of all of these."""
        return self.expected_pico if self.is_priced and not self.without_reply else None

    @property
    def known_at_most_pico(self) -> int | None:
        return self.at_most_pico if self.is_priced and not self.unbounded else None


class JobCost(NamedTuple):
    """What a job costs at the known price of its model."""

    expected_pico: int | None
    """None where the length of its reply is not known."""
    worst_pico: int | None
    """None where nothing bounds it: it becomes a failed row."""


@dataclass(slots=True)
class BudgetFit:
    """How many jobs fit into what is left of a budget, in the order in which they are sent."""

    left_pico: int
    """What earlier runs have left."""
    expected: int | None = 0
    """Jobs if each costs what is expected; None: not known."""
    at_least: int = 0
    """Jobs if each costs the most that it can."""
    _expected_pico: int = 0
    _at_most_pico: int = 0
    _is_full: bool = False
    _is_surely_full: bool = False

    def add(self, cost: JobCost) -> None:
        """Count the next job: the run stops at the first one whose worst case does not fit."""
        if cost.worst_pico is not None:
            self.add_alike(1, cost.expected_pico, cost.worst_pico, cost.worst_pico)

    def add_alike(self, jobs: int, expected_pico: int | None, at_most_pico: int, largest_pico: int) -> None:
        """Count the next jobs, which cost nearly the same: so much together, and ``largest_pico`` at most each."""
        if not self._is_surely_full:
            room = self.left_pico - self._at_most_pico
            fitting = min(jobs, room // largest_pico) if largest_pico else jobs
            self.at_least += fitting
            self._at_most_pico += at_most_pico
            self._is_surely_full = fitting < jobs
        if expected_pico is None or self.expected is None:
            self.expected = None
            return
        if not self._is_full:
            room = self.left_pico - self._expected_pico - largest_pico
            beside_one = room * jobs // expected_pico if expected_pico else jobs
            fitting = min(jobs, beside_one + 1) if room >= 0 else 0
            self.expected += fitting
            self._expected_pico += expected_pico
            self._is_full = fitting < jobs


class JobCosts:
    """Computes the cost of one job after the other."""

    def __init__(self, tariffs_of: TariffsOf, now: float) -> None:
        """``now``: Unix time, for tariffs that depend on it."""
        self._tariffs_of = tariffs_of
        self._now = now
        # Many jobs have the same size, and exact arithmetic takes its time.
        self._expected = lru_cache(maxsize=CACHED_SIZES)(self._expected_pico)
        self._worst = lru_cache(maxsize=CACHED_SIZES)(_worst_pico)

    def add(self, size: RequestSize, expected_tokens: float | None, totals: CostTotals) -> JobCost | None:
        """Add the cost of a job, and return it; None where no price is known.

        ``expected_tokens``: of the reply, with all its choices.
        """
        totals.jobs += 1
        tariffs = self._tariffs_of(size.model)
        if not tariffs:
            totals.unknown += 1
            return None
        expected = None
        if expected_tokens is not None:
            prompt_pico, token_pico = self._expected(tariffs[0], size.prompt_tokens)
            expected = prompt_pico + round(token_pico * expected_tokens)
        assert size.bounds is not None, "the sizes of an estimate have bounds"
        worst = self._worst(tariffs, size.bounds)
        totals.expected_pico += expected or 0
        totals.without_reply += expected is None
        totals.at_most_pico += worst or 0
        totals.unbounded += worst is None
        return JobCost(expected, worst)

    def _expected_pico(self, tariff: Tariff, prompt_tokens: int) -> tuple[int, int]:
        """Return the cost of a prompt, and of each token of its reply."""
        cost, a_token_more = (
            tariff.cost_usd(BilledUsage(prompt_tokens=prompt_tokens, completion_tokens=tokens), self._now)
            for tokens in (0, 1)
        )
        assert cost is not None and a_token_more is not None, "only text is charged"
        return pico_usd_at_most(cost), pico_usd_at_most(a_token_more - cost)


def _worst_pico(tariffs: Sequence[Tariff], bounds: TokenBounds) -> int | None:
    """Return the worst case at the most expensive endpoint that has one."""
    found = [worst for tariff in tariffs if (worst := worst_case_pico(tariff, bounds)) is not None]
    return max(found, default=None)
