"""The gate alone, on the virtual clock: lanes, slots, cool-downs, and what it tells."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any

import pytest

from processor.core.events import BottleneckChanged, LimitsChanged, Notice, RunEvent
from processor.core.models import RequestSize, Usage
from processor.ratelimit.limit_group import TooLarge
from processor.ratelimit.limiter import RateLimiter
from processor.ratelimit.permit import Permit
from processor.ratelimit.settings import LimitSettings, RateLimits
from processor.simulator.virtual_clock import run
from tests.support.limits_world import demand

SLOW_AND_FAST = LimitSettings(per_model={"slow": RateLimits(rpm=60), "fast": RateLimits(rpm=6000)})


def gate(settings: LimitSettings, events: list[RunEvent] | None = None, *, concurrency: int = 1000) -> RateLimiter:
    return RateLimiter(settings, emit=(events if events is not None else []).append, concurrency=concurrency)


def now() -> float:
    return asyncio.get_running_loop().time()


def answer(permit: Permit, headers: dict[str, str] | None = None) -> None:
    permit.responded(200, headers or {}, now())
    permit.release()


async def send(through: RateLimiter, what: RequestSize, *, is_retry: bool = False) -> Permit:
    permit = await through.acquire(what, is_retry=is_retry)
    permit.sent(now())
    return permit


async def takes_s(work: Coroutine[Any, Any, object]) -> float:
    began = now()
    await work
    return now() - began


def test_an_hours_wait_on_one_lane_leaves_another_alone() -> None:
    async def main() -> None:
        through = gate(SLOW_AND_FAST)
        refused = await send(through, demand(model="slow"))
        refused.throttled(429, {}, 3600.0, now())
        refused.release()
        waiting = asyncio.create_task(takes_s(send(through, demand(model="slow"), is_retry=True)))
        for _ in range(200):
            answer(await send(through, demand(model="fast")))
        assert now() < 3
        assert through.snapshot().limit_groups[0].cool_down_s == pytest.approx(3600, abs=3)
        assert await waiting >= 3600

    run(main())


def test_who_waits_for_a_limit_holds_no_slot() -> None:
    async def main() -> None:
        through = gate(SLOW_AND_FAST, concurrency=1)
        answer(await send(through, demand(model="slow")))
        waiting = asyncio.create_task(takes_s(send(through, demand(model="slow"))))
        await asyncio.sleep(0)
        for _ in range(20):
            answer(await send(through, demand(model="fast")))
        assert now() < 0.5
        assert not waiting.done()
        assert await waiting > 0.5

    run(main())


def test_a_cancelled_wait_takes_nothing() -> None:
    async def main() -> None:
        through = gate(LimitSettings(default=RateLimits(rpm=60)), concurrency=3)
        held = [await send(through, demand())]
        waiting = [asyncio.create_task(send(through, demand())) for _ in range(3)]
        await asyncio.sleep(0.1)
        for task in waiting[:2]:
            task.cancel()
        held.append(await waiting[2])
        assert 1.0 <= now() < 1.5
        assert through.snapshot().in_flight == 2
        assert through.snapshot().limit_groups[0].waiting == 0

    run(main())


def test_a_permit_that_was_not_used_gives_everything_back() -> None:
    async def main() -> None:
        through = gate(LimitSettings(default=RateLimits(rpm=60)))
        for _ in range(50):
            (await through.acquire(demand(), is_retry=False)).release()
        assert now() < 15
        assert through.snapshot().in_flight == 0

    run(main())


def test_release_is_once_however_often_it_is_said() -> None:
    async def main() -> None:
        through = gate(LimitSettings())
        permit = await send(through, demand(5))
        permit.sent(now() + 1)
        assert (permit.cost.tokens, permit.granted_at, permit.limit_group) == (5, 0.0, "/v1/chat/completions m")
        permit.responded(200, {}, now())
        permit.settled(None, now())
        permit.release()
        permit.release()
        assert through.snapshot().in_flight == 0

    run(main())


def test_what_can_never_go_is_said_at_once() -> None:
    async def main() -> None:
        through = gate(LimitSettings(default=RateLimits(tpm=1000)))
        with pytest.raises(TooLarge, match="charged 1001 tokens, and the limit is 1000 a minute"):
            await through.acquire(demand(1001), is_retry=False)
        (await through.acquire(demand(1000), is_retry=False)).release()

    run(main())


def test_whoever_waits_is_told_when_the_server_turns_out_to_grant_less() -> None:
    async def main() -> None:
        through = gate(LimitSettings())
        scout = await send(through, demand())
        waiting = asyncio.create_task(through.acquire(demand(5000), is_retry=False))
        await asyncio.sleep(0.1)
        answer(scout, {"x-ratelimit-limit-tokens": "100", "x-ratelimit-remaining-tokens": "99"})
        with pytest.raises(TooLarge):
            await waiting

    run(main())


def test_limits_are_told_when_they_are_known_and_where_the_servers_is_lower() -> None:
    async def main() -> list[RunEvent]:
        events: list[RunEvent] = []
        through = gate(LimitSettings(default=RateLimits(rpm=600)), events)
        for _ in range(2):
            answer(await send(through, demand()), {"x-ratelimit-limit-requests": "60"})
        return events

    events = run(main())
    assert [(e.source, e.rpm) for e in events if isinstance(e, LimitsChanged)] == [
        ("configured", 600),
        ("reported", 60),
    ]
    (notice,) = (event.text for event in events if isinstance(event, Notice))
    assert notice == "600 requests a minute are configured, the server grants 60: the server's limit holds"


def test_what_the_run_is_bound_by_is_told() -> None:
    async def main() -> list[RunEvent]:
        events: list[RunEvent] = []
        through = gate(LimitSettings(default=RateLimits(rpm=600, tpm=60_000)), events, concurrency=2)
        held = [await send(through, demand()) for _ in range(2)]
        waiting = asyncio.create_task(send(through, demand()))
        await asyncio.sleep(2)
        for permit in held:
            answer(permit)
        refused = await waiting
        refused.throttled(429, {}, 5.0, now())
        refused.release()
        for _ in range(2):
            answer(await send(through, demand(30_000), is_retry=True))
        await asyncio.sleep(0)
        return events

    told = [event.bottleneck for event in run(main()) if isinstance(event, BottleneckChanged)]
    assert [bound for bound in dict.fromkeys(told) if bound != "input"] == [
        "requests",
        "in_flight",
        "cool_down",
        "tokens",
    ]
    assert told[-1] == "input"


def test_the_length_of_replies_is_learned_by_model() -> None:
    async def main() -> None:
        through = gate(LimitSettings())
        unbounded = RequestSize(path="/p", model="m", prompt_tokens=10, prompt_chars=40, max_tokens=None, choices=2)
        permit = await send(through, unbounded)
        first = permit.cost.output_tokens
        permit.settled(Usage(prompt_tokens=10, completion_tokens=60), now())
        answer(permit)
        assert (await through.acquire(unbounded, is_retry=False)).cost.output_tokens == 60 != first

    run(main())


@pytest.mark.parametrize(("charging", "least_s"), [("used", 0.0), ("sum", 5.0)])
def test_what_was_not_used_is_given_back_where_the_provider_does_so(charging: Any, least_s: float) -> None:
    async def main() -> float:
        through = gate(LimitSettings(default=RateLimits(tpm=6000), charging=charging))
        for _ in range(2):
            permit = await send(through, demand(1000))
            permit.settled(Usage(prompt_tokens=0, completion_tokens=10), now())
            answer(permit)
        return now()

    assert least_s <= run(main()) < least_s + 8
