"""How many jobs fit into a budget and into a time, in the order in which a run sends them. Pure.

In the order of the file the jobs are alike wherever the run stops. By their size they are not: then they are counted in
classes of nearly the same size, which take memory that does not depend on their number.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Literal

from processor.estimate.group_totals import ChargedRequest, GroupTotals
from processor.estimate.job_costs import BudgetFit, JobCost

Order = Literal["file", "shortest", "longest"]

SecondsOf = Callable[[Mapping[str, GroupTotals]], float | None]
"""Returns how long jobs take that charge the limit groups so much; None where that is not known."""

EXACT_BITS = 9
"""Sizes are rounded to so many significant bits: the sizes of a class differ by 0.4 % at most."""


@dataclass(slots=True)
class SizeClass:
    """Jobs of nearly the same size."""

    jobs: int = 0
    groups: dict[str, GroupTotals] = field(default_factory=dict)
    """By limit group."""
    bounded: int = 0
    """Jobs whose cost has a bound, with the sums below."""
    expected_pico: int | None = 0
    """None where the length of a reply is not known."""
    at_most_pico: int = 0
    largest_pico: int = 0
    """The most that one of them may cost."""

    def add_cost(self, expected_pico: int | None, worst_pico: int) -> None:
        self.bounded += 1
        known = self.expected_pico is not None and expected_pico is not None
        self.expected_pico = (self.expected_pico or 0) + (expected_pico or 0) if known else None
        self.at_most_pico += worst_pico
        self.largest_pico = max(self.largest_pico, worst_pico)


class SendingOrder:
    """Takes the jobs that will be sent, in the order of the file."""

    def __init__(self, order: Order, budget: BudgetFit | None) -> None:
        """``budget``: what is left, with no job counted; complete after ``close``."""
        self.order = order
        self.budget = budget
        self._classes: dict[int, SizeClass] = {}

    def add(self, size: int, model: str, group: str, charged: ChargedRequest, cost: JobCost | None) -> None:
        """Count a job. ``size``: in tokens, as a run puts it in order. ``cost``: None where no price is known."""
        if self.order == "file":
            if self.budget is not None and cost is not None:
                self.budget.add(cost)
            return
        found = self._classes.setdefault(_rounded(size), SizeClass())
        found.jobs += 1
        found.groups.setdefault(group, GroupTotals(model)).add(charged)
        if cost is not None and cost.worst_pico is not None:
            found.add_cost(cost.expected_pico, cost.worst_pico)

    def close(self) -> None:
        """All jobs have been added: count those that the budget has room for."""
        if self.budget is not None:
            for found in self._in_order():
                if found.bounded:
                    self.budget.add_alike(found.bounded, found.expected_pico, found.at_most_pico, found.largest_pico)

    def jobs_within(self, allowed_s: float, groups: Mapping[str, GroupTotals], seconds_of: SecondsOf) -> int | None:
        """About how many jobs may be sent in a time of at least 0; None where no limit is known.

        ``groups``: of all jobs.
        """
        if self.order == "file":
            return _jobs_alike_within(allowed_s, groups, seconds_of)
        total: dict[str, GroupTotals] = {}
        done, done_s = 0, 0.0
        for found in self._in_order():
            for name, group in found.groups.items():
                total.setdefault(name, GroupTotals(group.model)).add_all(group)
            seconds = seconds_of(total)
            if seconds is None:
                return None
            if seconds > allowed_s:
                return done + _part(found.jobs, allowed_s - done_s, seconds - done_s)
            done, done_s = done + found.jobs, seconds
        return done

    def _in_order(self) -> Iterator[SizeClass]:
        for size in sorted(self._classes, reverse=self.order == "longest"):
            yield self._classes[size]


def _jobs_alike_within(allowed_s: float, groups: Mapping[str, GroupTotals], seconds_of: SecondsOf) -> int | None:
    """The most of these jobs that may be sent in a time, by bisection: seconds grow in steps where windows fill."""
    few, many = 0, sum(group.requests for group in groups.values())
    seconds = seconds_of(groups)
    if seconds is None:
        return None
    if seconds <= allowed_s:
        return many
    jobs = many
    while many - few > 1:
        middle = (few + many) // 2
        part = {name: group.part(middle / jobs) for name, group in groups.items()}
        if (seconds_of(part) or 0.0) <= allowed_s:
            few = middle
        else:
            many = middle
    return few


def _part(jobs: int, allowed_s: float, seconds: float) -> int:
    return min(jobs, int(jobs * max(allowed_s, 0.0) / max(seconds, 1e-9)))


def _rounded(size: int) -> int:
    shift = max(size.bit_length() - EXACT_BITS, 0)
    return size >> shift << shift
