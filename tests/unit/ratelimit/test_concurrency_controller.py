from __future__ import annotations

import heapq
import math
from collections.abc import Callable
from random import Random

import pytest

from processor.ratelimit.strategies.concurrency_controller import ConcurrencyController
from tests.support.slow_cases import slow_except


def limits_over_time(
    controller: ConcurrencyController,
    seconds: float,
    *,
    server_slots: Callable[[float], int],
    seed: int = 0,
    max_in_flight: int = 10**9,
) -> list[int]:
    """Simulate a server that works on ``server_slots(now)`` requests at full speed, and shares its speed among more."""
    rng = Random(seed)
    now, in_flight, seen = 0.0, 0, []
    finishes: list[tuple[float, float, float]] = []
    while now < seconds:
        while in_flight < min(controller.limit, max_in_flight):
            in_flight += 1
            tokens = rng.uniform(50, 400)
            slowed = max(1.0, in_flight / server_slots(now))
            heapq.heappush(finishes, (now + tokens * 0.02 * slowed, now, tokens))
        at, sent_at, tokens = heapq.heappop(finishes)
        now = at
        controller.on_reply(sent_at=sent_at, at=at, tokens=tokens, in_flight=in_flight)
        in_flight -= 1
        seen.append(controller.limit)
    return seen


def second_half(limits: list[int]) -> list[int]:
    return limits[len(limits) // 2 :]


@pytest.mark.parametrize("server_slots", slow_except([16, 64, 200], 64))
@pytest.mark.parametrize("seed", slow_except(range(5), 0))
def test_limit_settles_near_the_number_that_the_server_works_on(server_slots: int, seed: int) -> None:
    settled = second_half(
        limits_over_time(ConcurrencyController(10_000), 3600, server_slots=lambda _: server_slots, seed=seed)
    )
    mean = sum(settled) / len(settled)
    assert 0.8 * server_slots <= mean <= 2.2 * server_slots


def test_limit_never_exceeds_the_maximum() -> None:
    assert max(limits_over_time(ConcurrencyController(20), 1800, server_slots=lambda _: 500)) == 20


def test_maximum_below_the_initial_limit_holds_from_the_start() -> None:
    limits = limits_over_time(ConcurrencyController(3), 1800, server_slots=lambda _: 500)
    assert max(limits) == limits[0] == 3
    assert sum(limits) / len(limits) > 2.7


def test_limit_that_is_not_used_is_not_raised() -> None:
    assert max(limits_over_time(ConcurrencyController(1000), 1800, server_slots=lambda _: 500, max_in_flight=5)) == 8


def test_limit_falls_when_the_server_serves_other_clients() -> None:
    limits = limits_over_time(
        ConcurrencyController(10_000), 3 * 3600, server_slots=lambda now: 200 if now < 3600 else 20
    )
    assert max(limits) > 150
    assert limits[-1] < 100


@pytest.mark.parametrize("slower_at", slow_except([1800, 1807, 1830, 1838, 1846], 1846))
def test_limit_falls_to_the_knee_whenever_the_server_becomes_slower(slower_at: float) -> None:
    """Also where it does so in the middle of a round, whose replies make it look faster than it is."""
    limits = limits_over_time(
        ConcurrencyController(10_000), 3600, server_slots=lambda now: 200 if now < slower_at else 20
    )
    assert limits[-1] <= 30


def test_limit_rises_when_the_server_has_more_capacity() -> None:
    limits = limits_over_time(
        ConcurrencyController(10_000), 2 * 3600, server_slots=lambda now: 20 if now < 1800 else 200
    )
    assert limits[-1] > 60


def test_replies_to_requests_of_an_earlier_round_do_not_count() -> None:
    controller = ConcurrencyController(1000)
    for n in range(4):
        controller.on_reply(sent_at=0.0, at=1.0 + n / 100, tokens=100, in_flight=4)
    raised = controller.limit
    for n in range(200):
        controller.on_reply(sent_at=0.5, at=3.0 + n / 100, tokens=100, in_flight=raised)
    assert controller.limit == raised == 8


@pytest.mark.parametrize("server_slots", [4, 64, 200, 2000])
def test_limit_doubles_each_reply_time_until_the_server_is_busy(server_slots: int) -> None:
    controller = ConcurrencyController(10_000)
    mean_reply_s, longest_reply_s = 225 * 0.02, 400 * 0.02
    doublings = max(1, math.ceil(math.log2(server_slots / 4)))
    limits = limits_over_time(
        controller, doublings * longest_reply_s + mean_reply_s, server_slots=lambda _: server_slots
    )
    assert max(limits) >= server_slots


@pytest.mark.parametrize("server_slots", slow_except([4, 64, 200], 64))
@pytest.mark.parametrize("seed", slow_except(range(5), 0))
def test_limit_is_well_above_the_knee_for_a_few_reply_times_only(server_slots: int, seed: int) -> None:
    limits = limits_over_time(ConcurrencyController(10_000), 3600, server_slots=lambda _: server_slots, seed=seed)
    # There is one value for each reply: at the knee, so many come in one reply time.
    too_many = sum(limit > 1.3 * server_slots for limit in limits)
    assert too_many < 20 * server_slots


def test_given_number_holds_from_the_start() -> None:
    limits = limits_over_time(ConcurrencyController(300, is_fixed=True), 600, server_slots=lambda _: 20)
    assert set(limits) == {300}


@pytest.mark.parametrize("is_fixed", [True, False])
def test_refusal_lowers_the_limit_once_and_three_reply_times_restore_it(is_fixed: bool) -> None:
    controller = ConcurrencyController(100, is_fixed=is_fixed)
    limits_over_time(controller, 600, server_slots=lambda _: 10_000)
    controller.throttled(1000.0)
    assert controller.limit == 69

    now = 1000.0
    for _reply_time in range(3):
        now += 10.0
        for n in range(controller.limit):
            controller.on_reply(sent_at=now, at=now + 2.0 + n / 1e6, tokens=100, in_flight=controller.limit)
    assert controller.limit == 100


def test_raise_is_spread_over_the_next_replies() -> None:
    controller, now = ConcurrencyController(10_000), 0.0
    while controller.limit < 256:
        before = controller.limit
        controller.on_reply(sent_at=now, at=now + 1.0, tokens=100, in_flight=controller.limit)
        now += 1 / before
        assert controller.limit - before <= max(4, before // 2)


def test_changes_are_reported_with_their_reasons() -> None:
    changes: list[tuple[int, str]] = []
    controller = ConcurrencyController(10_000, on_change=lambda limit, reason: changes.append((limit, reason)))
    limits_over_time(controller, 3600, server_slots=lambda _: 64)
    assert changes[:4] == [(limit, "throughput follows") for limit in (8, 16, 32, 64)]
    assert {"trying more", "throughput did not follow"} <= {reason for _, reason in changes}
    assert changes[-1][0] == controller.limit


def test_pause_of_the_whole_group_is_not_taken_for_a_slow_server() -> None:
    changes: list[tuple[int, str]] = []
    controller = ConcurrencyController(1000, on_change=lambda limit, reason: changes.append((limit, reason)))
    now = 0.0
    while controller.limit < 512:
        if controller.limit == 64:
            controller.pause(now + 5.0)
            now += 5.0
        for n in range(controller.limit):
            controller.on_reply(sent_at=now, at=now + 1.0 + n / 1e6, tokens=100, in_flight=controller.limit)
        now += 1.1
    assert {reason for _, reason in changes} == {"throughput follows"}


@pytest.mark.parametrize(("begin_s", "limit"), [(0.1, 16), (0.3, 8)])
def test_limit_is_raised_once_more_where_replies_begin_as_soon_as_before(begin_s: float, limit: int) -> None:
    controller = ConcurrencyController(1000)
    for _ in range(4):
        controller.on_first_token(sent_at=0.0, at=0.1)
    for _ in range(4):
        controller.on_reply(sent_at=0.0, at=1.0, tokens=100, in_flight=4)
    assert controller.limit == 8
    for _ in range(64):
        controller.on_first_token(sent_at=1.0, at=1.0 + begin_s)
    assert controller.limit == limit


@pytest.mark.parametrize("seed", slow_except(range(5), 0))
def test_limit_grows_where_replies_of_unlike_length_take_as_long(seed: int) -> None:
    """Where the time until the first token decides: for each token the latency varies from round to round."""
    controller, rng, now = ConcurrencyController(200), Random(seed), 0.0
    while controller.limit < 200 and now < 20:
        for n in range(controller.limit):
            at = now + rng.uniform(0.99, 1.01) + n / 1e6
            controller.on_reply(sent_at=now, at=at, tokens=rng.uniform(5, 60), in_flight=controller.limit)
        now += 1.1
    assert controller.limit == 200
