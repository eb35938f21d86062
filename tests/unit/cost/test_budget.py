"""The sums of a budget: it holds whatever the requests turn out to cost."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from processor.cost.budget import Budget, BudgetReservation, Fit


def test_request_waits_for_those_in_flight_and_is_refused_when_they_cannot_help() -> None:
    budget = Budget(100, spent_pico=40)
    first = budget.reserve(50)
    assert budget.fit(10) is Fit.FITS
    assert budget.fit(11) is Fit.WAITS
    assert budget.fit(61) is Fit.EXCEEDS
    first.settle(20)
    assert budget.fit(40) is Fit.FITS
    assert budget.fit(41) is Fit.EXCEEDS


def test_reservation_ends_once() -> None:
    budget = Budget(100)
    kept, released = budget.reserve(30), budget.reserve(20)
    kept.keep()
    kept.release()
    released.release()
    released.keep()
    assert (budget.spent_pico, budget.reserved_pico, budget.left_pico) == (30, 0, 70)


def test_one_notice_when_most_of_it_is_spent() -> None:
    reported: list[int] = []
    budget = Budget(100, on_mostly_spent=lambda budget: reported.append(budget.spent_pico))
    for _ in range(10):
        budget.spend(10)
    assert reported == [80]


@given(st.integers(0, 200), st.lists(st.tuples(st.integers(0, 60), st.floats(0, 1), st.sampled_from("skr"))))
def test_spent_never_exceeds_the_budget(limit: int, requests: list[tuple[int, float, str]]) -> None:
    budget = Budget(limit)
    open_ones: list[tuple[BudgetReservation, float, str]] = []
    for worst, share, end in requests:
        if budget.fit(worst) is Fit.FITS:
            open_ones.append((budget.reserve(worst), share, end))
        if len(open_ones) > 2 or (open_ones and budget.fit(worst) is not Fit.FITS):
            reservation, used, how = open_ones.pop(0)
            if how == "s":
                reservation.settle(int(reservation.worst_pico * used))
            else:
                reservation.keep() if how == "k" else reservation.release()
        assert budget.spent_pico + budget.reserved_pico <= limit
