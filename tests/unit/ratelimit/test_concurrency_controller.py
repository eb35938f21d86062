from __future__ import annotations

import heapq
from collections.abc import Callable
from random import Random

import pytest

from processor.ratelimit.strategies.concurrency_controller import ConcurrencyController


def serve(
    level: ConcurrencyController, seconds: float, *, slots: Callable[[float], int], seed: int = 0, offered: int = 10**9
) -> list[int]:
    """A server that works on ``slots(now)`` requests at full speed, and shares it among more. The levels, over time."""
    rng = Random(seed)
    now, in_flight, seen = 0.0, 0, []
    finishes: list[tuple[float, float, float]] = []
    while now < seconds:
        while in_flight < min(level.limit, offered):
            in_flight += 1
            work = rng.uniform(50, 400)
            slowed = max(1.0, in_flight / slots(now))
            heapq.heappush(finishes, (now + work * 0.02 * slowed, now, work))
        at, sent_at, work = heapq.heappop(finishes)
        now = at
        level.on_reply(sent_at=sent_at, at=at, tokens=work, in_flight=in_flight)
        in_flight -= 1
        seen.append(level.limit)
    return seen


def late(levels: list[int]) -> list[int]:
    return levels[len(levels) // 2 :]


@pytest.mark.parametrize("slots", [16, 64, 200])
@pytest.mark.parametrize("seed", range(5))
def test_it_finds_about_as_many_as_the_server_works_on(slots: int, seed: int) -> None:
    settled = late(serve(ConcurrencyController(10_000), 3600, slots=lambda _: slots, seed=seed))
    mean = sum(settled) / len(settled)
    assert 0.8 * slots <= mean <= 2.2 * slots


def test_it_never_rises_above_the_ceiling() -> None:
    assert max(serve(ConcurrencyController(20), 1800, slots=lambda _: 500)) == 20


def test_a_ceiling_below_the_first_level_holds_from_the_start() -> None:
    levels = serve(ConcurrencyController(3), 1800, slots=lambda _: 500)
    assert max(levels) == levels[0] == 3
    assert sum(levels) / len(levels) > 2.7


def test_what_is_not_used_is_not_raised() -> None:
    assert max(serve(ConcurrencyController(1000), 1800, slots=lambda _: 500, offered=5)) == 8


def test_it_falls_back_when_the_server_has_others_to_serve() -> None:
    levels = serve(ConcurrencyController(10_000), 3 * 3600, slots=lambda now: 200 if now < 3600 else 20)
    assert max(levels) > 150
    assert levels[-1] < 100


def test_it_rises_again_when_there_is_more_room() -> None:
    levels = serve(ConcurrencyController(10_000), 3 * 3600, slots=lambda now: 20 if now < 1800 else 200)
    assert levels[-1] > 60


def test_replies_that_were_sent_at_another_level_do_not_count() -> None:
    level = ConcurrencyController(1000)
    for n in range(100):
        level.on_reply(sent_at=0.0, at=1.0 + n / 100, tokens=100, in_flight=8)
    risen = level.limit
    for n in range(200):
        level.on_reply(sent_at=0.5, at=3.0 + n / 100, tokens=100, in_flight=risen)
    assert level.limit == risen > 8
