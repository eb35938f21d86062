"""The rate limiter on the virtual clock: limit groups, slots, cool-downs and events."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any

import pytest

from processor.core.events import BottleneckChanged, ConcurrencyChanged, LimitsChanged, Notice, RunEvent
from processor.core.models import RequestSize, Usage
from processor.ratelimit.limit_group import TooLarge
from processor.ratelimit.limiter import RateLimiter
from processor.ratelimit.permit import Permit
from processor.ratelimit.settings import LimitSettings, RateLimits, TokenAccounting
from processor.simulator.virtual_clock import run
from tests.support.limiter_simulation import request_size

SLOW_AND_FAST = LimitSettings(per_model={"slow": RateLimits(rpm=60), "fast": RateLimits(rpm=6000)})


def make_limiter(
    settings: LimitSettings, events: list[RunEvent] | None = None, *, concurrency: int = 1000
) -> RateLimiter:
    return RateLimiter(settings, emit=(events if events is not None else []).append, concurrency=concurrency)


def now() -> float:
    return asyncio.get_running_loop().time()


def respond(permit: Permit, headers: dict[str, str] | None = None) -> None:
    permit.responded(200, headers or {}, now())
    permit.release()


async def send(limiter: RateLimiter, size: RequestSize, *, is_retry: bool = False) -> Permit:
    permit = await limiter.acquire(size, is_retry=is_retry)
    permit.sent(now())
    return permit


async def duration_s(action: Coroutine[Any, Any, object]) -> float:
    started_at = now()
    await action
    return now() - started_at


def test_cool_down_of_one_limit_group_does_not_hold_back_another() -> None:
    async def main() -> None:
        limiter = make_limiter(SLOW_AND_FAST)
        throttled = await send(limiter, request_size(model="slow"))
        throttled.throttled(429, {}, 3600.0, now())
        throttled.release()
        waiting = asyncio.create_task(duration_s(send(limiter, request_size(model="slow"), is_retry=True)))
        for _ in range(200):
            respond(await send(limiter, request_size(model="fast")))
        assert now() < 3
        assert limiter.snapshot().limit_groups[0].cool_down_s == pytest.approx(3600, abs=3)
        assert await waiting >= 3600

    run(main())


@pytest.mark.parametrize("headers_first", [False, True])
def test_throttled_applies_the_headers_of_a_429_once(headers_first: bool) -> None:
    headers = {"x-ratelimit-limit-requests": "60", "x-ratelimit-remaining-requests": "0"}

    async def main() -> list[RunEvent]:
        events: list[RunEvent] = []
        limiter = make_limiter(LimitSettings(), events)
        throttled = await send(limiter, request_size())
        if headers_first:
            throttled.responded(429, headers, now())
            assert limiter.snapshot().limit_groups[0].limits.rpm == 60
            assert limiter.snapshot().limit_groups[0].cool_down_s == 0
        throttled.throttled(429, headers, 7.0, now())
        throttled.release()
        (group,) = limiter.snapshot().limit_groups
        assert group.limits.rpm == 60
        assert group.cool_down_s == pytest.approx(7.0)
        assert await duration_s(send(limiter, request_size(), is_retry=True)) >= 7.0
        return events

    assert [event.rpm for event in run(main()) if isinstance(event, LimitsChanged)] == [60]


def test_request_that_waits_for_a_limit_holds_no_slot() -> None:
    async def main() -> None:
        limiter = make_limiter(SLOW_AND_FAST, concurrency=1)
        respond(await send(limiter, request_size(model="slow")))
        waiting = asyncio.create_task(duration_s(send(limiter, request_size(model="slow"))))
        await asyncio.sleep(0)
        for _ in range(20):
            respond(await send(limiter, request_size(model="fast")))
        assert now() < 0.5
        assert not waiting.done()
        assert await waiting > 0.5

    run(main())


def test_cancelled_acquire_takes_nothing() -> None:
    async def main() -> None:
        limiter = make_limiter(LimitSettings(default=RateLimits(rpm=60)), concurrency=3)
        held = [await send(limiter, request_size())]
        waiting = [asyncio.create_task(send(limiter, request_size())) for _ in range(3)]
        await asyncio.sleep(0.1)
        for task in waiting[:2]:
            task.cancel()
        held.append(await waiting[2])
        assert 1.0 <= now() < 1.5
        assert limiter.snapshot().in_flight == 2
        assert limiter.snapshot().limit_groups[0].waiting == 0

    run(main())


def test_permit_released_unsent_frees_its_slot_and_reservation() -> None:
    async def main() -> None:
        limiter = make_limiter(LimitSettings(default=RateLimits(rpm=60)))
        for _ in range(50):
            (await limiter.acquire(request_size(), is_retry=False)).release()
        assert now() < 15
        assert limiter.snapshot().in_flight == 0

    run(main())


def test_second_release_changes_nothing() -> None:
    async def main() -> None:
        limiter = make_limiter(LimitSettings())
        permit = await send(limiter, request_size(5))
        permit.sent(now() + 1)
        assert (permit.cost.tokens, permit.granted_at, permit.limit_group) == (5, 0.0, "/v1/chat/completions m")
        permit.responded(200, {}, now())
        permit.settled(None, now())
        permit.release()
        permit.release()
        assert limiter.snapshot().in_flight == 0

    run(main())


def test_request_above_a_whole_minutes_limit_is_too_large() -> None:
    async def main() -> None:
        limiter = make_limiter(LimitSettings(default=RateLimits(tpm=1000)))
        with pytest.raises(TooLarge, match="charged 1001 tokens, and the limit is 1000 a minute"):
            await limiter.acquire(request_size(1001), is_retry=False)
        (await limiter.acquire(request_size(1000), is_retry=False)).release()

    run(main())


def test_waiting_request_is_too_large_once_the_server_announces_less() -> None:
    async def main() -> None:
        limiter = make_limiter(LimitSettings())
        first = await send(limiter, request_size())
        waiting = asyncio.create_task(limiter.acquire(request_size(5000), is_retry=False))
        await asyncio.sleep(0.1)
        respond(first, {"x-ratelimit-limit-tokens": "100", "x-ratelimit-remaining-tokens": "99"})
        with pytest.raises(TooLarge):
            await waiting

    run(main())


def test_limits_are_announced_when_known_and_when_the_servers_are_lower() -> None:
    async def main() -> list[RunEvent]:
        events: list[RunEvent] = []
        limiter = make_limiter(LimitSettings(default=RateLimits(rpm=600)), events)
        for _ in range(2):
            respond(await send(limiter, request_size()), {"x-ratelimit-limit-requests": "60"})
        return events

    events = run(main())
    assert [(e.source, e.rpm) for e in events if isinstance(e, LimitsChanged)] == [
        ("configured", 600),
        ("reported", 60),
    ]
    (notice,) = (event.text for event in events if isinstance(event, Notice))
    assert notice == "600 requests a minute are configured, the server grants 60: the server's lower limit is used"


def test_changes_of_the_bottleneck_are_emitted() -> None:
    async def main() -> list[RunEvent]:
        events: list[RunEvent] = []
        limiter = make_limiter(LimitSettings(default=RateLimits(rpm=600, tpm=60_000)), events, concurrency=2)
        held = [await send(limiter, request_size()) for _ in range(2)]
        waiting = asyncio.create_task(send(limiter, request_size()))
        await asyncio.sleep(2)
        for permit in held:
            respond(permit)
        throttled = await waiting
        throttled.throttled(429, {}, 5.0, now())
        throttled.release()
        for _ in range(2):
            respond(await send(limiter, request_size(30_000), is_retry=True))
        await asyncio.sleep(0)
        return events

    bottlenecks = [event.bottleneck for event in run(main()) if isinstance(event, BottleneckChanged)]
    assert [bottleneck for bottleneck in dict.fromkeys(bottlenecks) if bottleneck != "input"] == [
        "requests",
        "in_flight",
        "cool_down",
        "tokens",
    ]
    assert bottlenecks[-1] == "input"


def test_expected_output_is_learned_for_each_model() -> None:
    async def main() -> None:
        limiter = make_limiter(LimitSettings())
        unbounded = RequestSize(path="/p", model="m", prompt_tokens=10, prompt_chars=40, max_tokens=None, choices=2)
        permit = await send(limiter, unbounded)
        first = permit.cost.output_tokens
        permit.settled(Usage(prompt_tokens=10, completion_tokens=60), now())
        respond(permit)
        assert (await limiter.acquire(unbounded, is_retry=False)).cost.output_tokens == 60 != first

    run(main())


@pytest.mark.parametrize("is_announced", [False, True])
def test_number_in_flight_is_changed_only_where_the_server_announces_no_limit(is_announced: bool) -> None:
    headers = {"x-ratelimit-limit-requests": "6000", "x-ratelimit-remaining-requests": "5900"} if is_announced else {}

    async def answered(limiter: RateLimiter) -> None:
        permit = await send(limiter, request_size())
        await asyncio.sleep(1.0)
        permit.settled(Usage(prompt_tokens=10, completion_tokens=10), now())
        respond(permit, headers)

    async def main() -> list[RunEvent]:
        events: list[RunEvent] = []
        limiter = make_limiter(LimitSettings(), events)
        respond(await send(limiter, request_size()), headers)
        await asyncio.gather(*(answered(limiter) for _ in range(100)))
        return events

    assert any(isinstance(event, ConcurrencyChanged) for event in run(main())) is not is_announced


@pytest.mark.parametrize(("charging", "min_s"), [("used", 0.0), ("sum", 5.0)])
def test_unused_tokens_are_refunded_where_the_provider_counts_what_was_used(
    charging: TokenAccounting, min_s: float
) -> None:
    async def main() -> float:
        limiter = make_limiter(LimitSettings(default=RateLimits(tpm=6000), charging=charging))
        for _ in range(2):
            permit = await send(limiter, request_size(1000))
            permit.settled(Usage(prompt_tokens=0, completion_tokens=10), now())
            respond(permit)
        return now()

    assert min_s <= run(main()) < min_s + 8


def test_faults_that_are_no_refusals_do_not_slow_a_server_without_limits() -> None:
    """Errors of the server, and requests that break off without a response."""

    async def main() -> float:
        limiter = make_limiter(LimitSettings())
        respond(await send(limiter, request_size()))
        for status in [200, 500, 503, None] * 100:
            permit = await send(limiter, request_size())
            if status is not None:
                permit.responded(status, {}, now())
            permit.release()
        return now()

    assert run(main()) < 0.5
