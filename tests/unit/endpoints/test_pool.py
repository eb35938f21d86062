"""The endpoint pool: where and when a request may be sent."""

from __future__ import annotations

import asyncio
from datetime import datetime

import pytest

from processor.core.errors import AccessDenied, ServerError
from processor.core.models import Job, RequestSize, Target
from processor.endpoints.endpoint import Endpoint, EndpointClosed, EndpointPermit
from processor.endpoints.pool import EndpointPool
from processor.health.endpoint_health import EndpointHealth
from processor.health.failed_attempt import FailedAttempt
from processor.health.outage_detector import FAILURE_THRESHOLD, FIRST_PROBE_INTERVAL_S
from processor.ratelimit.limit_group import TooLarge
from processor.ratelimit.limiter import RateLimiter
from processor.ratelimit.settings import LimitSettings, RateLimits, TokenAccounting
from processor.retry.policy import AttemptHistory, RetryPolicy
from processor.simulator.virtual_clock import run

NOON = datetime(2026, 6, 1, 12, 0)
PATH = "/v1/chat/completions"


def job(line: int = 1, *, model: str = "m") -> Job:
    body = {"model": model}
    return Job(line=line, custom_id=f"job-{line}", fingerprint="", path=PATH, model=model, body=body)


def size(*, tokens: int = 1) -> RequestSize:
    return RequestSize(path=PATH, model="m", prompt_tokens=0, prompt_chars=0, max_tokens=tokens)


def new_endpoint(*, limits: RateLimits | None = None, charging: TokenAccounting = "sum") -> Endpoint:
    target = Target(base_url="http://127.0.0.1/v1")
    events: list[object] = []
    settings = LimitSettings(default=limits or RateLimits(rpm=60_000), charging=charging)
    return Endpoint(
        target,
        RateLimiter(settings, emit=events.append, concurrency=100),
        EndpointHealth(RetryPolicy(), events.append, endpoint=target.address, max_outage_s=3600.0),
    )


def now() -> float:
    return asyncio.get_running_loop().time()


def take_down(endpoint: Endpoint) -> None:
    endpoint.health.on_success(0, now(), now())
    for line in range(FAILURE_THRESHOLD):
        endpoint.health.on_failure(
            ServerError("down", status=503),
            FailedAttempt(job=job(line), limit_group="*", sent_at=now(), now=now(), local_time=NOON),
            AttemptHistory(),
        )
    assert endpoint.health.is_down


async def acquire(pool: EndpointPool, *, line: int = 1) -> EndpointPermit:
    return await pool.acquire(job(line), size(), is_retry=False)


def test_the_characters_of_prompts_are_counted_where_an_endpoint_charges_by_them() -> None:
    async def main() -> None:
        rules: tuple[TokenAccounting, ...] = ("sum", "used", "larger")
        pools = [EndpointPool(new_endpoint(), new_endpoint(charging=charging)) for charging in rules]
        assert [pool.counts_characters for pool in pools] == [False, False, True]

    run(main())


def test_permit_names_its_endpoint_and_limit_group() -> None:
    async def main() -> None:
        endpoint = new_endpoint()
        permit = await acquire(EndpointPool(endpoint))
        assert permit.endpoint is endpoint
        assert permit.endpoint.name == "http://127.0.0.1/v1"
        assert permit.limit_group
        assert endpoint.limiter.snapshot().in_flight == 1
        permit.release()
        assert endpoint.limiter.snapshot().in_flight == 0

    run(main())


def test_excluded_endpoint_is_not_picked() -> None:
    async def main() -> None:
        endpoint = new_endpoint()
        with pytest.raises(ValueError, match="job-1: no endpoint is left"):
            await EndpointPool(endpoint).acquire(job(), size(), is_retry=False, exclude=frozenset({endpoint}))

    run(main())


def test_endpoint_that_is_down_gets_one_probe_at_a_time() -> None:
    async def main() -> None:
        endpoint = new_endpoint()
        pool = EndpointPool(endpoint)
        take_down(endpoint)
        waiting = [asyncio.create_task(acquire(pool, line=line)) for line in range(3)]
        await asyncio.sleep(FIRST_PROBE_INTERVAL_S + 0.1)
        assert [task.done() for task in waiting] == [True, False, False]
        await asyncio.sleep(100.0)
        assert [task.done() for task in waiting] == [True, False, False]
        waiting[0].result().release()
        await asyncio.sleep(0.1)
        assert [task.done() for task in waiting] == [True, True, False]
        endpoint.health.on_success(0, now(), now())
        waiting[1].result().release()
        (await waiting[2]).release()

    run(main())


def test_all_waiting_requests_are_sent_once_the_endpoint_is_up_again() -> None:
    async def main() -> None:
        endpoint = new_endpoint()
        pool = EndpointPool(endpoint)
        take_down(endpoint)
        waiting = [asyncio.create_task(acquire(pool, line=line)) for line in range(10)]
        probe = await waiting[0]
        endpoint.health.on_success(0, now(), now())
        probe.release()
        began = now()
        await asyncio.gather(*waiting[1:])
        assert now() - began < 1.0

    run(main())


def test_cancelled_probe_passes_its_turn_on() -> None:
    async def main() -> None:
        endpoint = new_endpoint()
        pool = EndpointPool(endpoint)
        take_down(endpoint)
        first, second = (asyncio.create_task(acquire(pool, line=line)) for line in range(2))
        await asyncio.sleep(1.0)
        first.cancel()
        permit = await second
        assert now() == pytest.approx(FIRST_PROBE_INTERVAL_S, abs=0.1)
        permit.release()

    run(main())


def test_probe_that_is_too_large_passes_its_turn_on() -> None:
    async def main() -> None:
        endpoint = new_endpoint(limits=RateLimits(tpm=100))
        pool = EndpointPool(endpoint)
        take_down(endpoint)
        with pytest.raises(TooLarge):
            await pool.acquire(job(), size(tokens=1000), is_retry=False)
        (await acquire(pool)).release()

    run(main())


def refuse_quota(endpoint: Endpoint, model: str) -> None:
    endpoint.health.on_failure(
        AccessDenied("quota", status=429, scope="model"),
        FailedAttempt(job=job(model=model), limit_group="*", sent_at=now(), now=now(), local_time=NOON),
        AttemptHistory(),
    )


def test_nothing_more_is_sent_to_a_model_that_is_closed() -> None:
    async def main() -> None:
        endpoint = new_endpoint(limits=RateLimits(rpm=1))
        pool = EndpointPool(endpoint)
        endpoint.health.on_success(0, now(), now())
        first = await acquire(pool)
        first.sent(now())
        first.release()
        waiting = asyncio.create_task(pool.acquire(job(2, model="spent"), size(), is_retry=False))
        await asyncio.sleep(1.0)
        refuse_quota(endpoint, "spent")
        assert (pool.is_closed_for(job(model="spent")), pool.is_closed_for(job())) == (True, False)
        with pytest.raises(EndpointClosed, match="the provider refused: quota"):
            await pool.acquire(job(3, model="spent"), size(), is_retry=False)
        with pytest.raises(EndpointClosed):
            await waiting
        assert pool.closed_reasons == ["the provider refused: quota"]
        assert endpoint.limiter.snapshot().in_flight == 0

    run(main())


def test_requests_are_sent_one_at_a_time_until_one_is_understood() -> None:
    async def main() -> None:
        endpoint = new_endpoint()
        pool = EndpointPool(endpoint)
        waiting = [asyncio.create_task(acquire(pool, line=line)) for line in range(4)]
        await asyncio.sleep(0.1)
        assert [task.done() for task in waiting] == [True, False, False, False]
        waiting[0].result().release()
        await asyncio.sleep(0.1)
        assert [task.done() for task in waiting] == [True, True, False, False]
        endpoint.health.on_first_token(1, now(), now())
        for permit in await asyncio.gather(*waiting[1:]):
            permit.release()

    run(main())


def test_cool_down_of_the_canarys_limit_group_lets_other_groups_go_first() -> None:
    async def main() -> None:
        endpoint = new_endpoint(limits=RateLimits())
        pool = EndpointPool(endpoint)
        permit = await acquire(pool)
        permit.throttled(429, {}, 30.0, now())
        permit.release()
        waits = asyncio.create_task(acquire(pool, line=2))
        await asyncio.sleep(0.1)
        other_size = RequestSize(path=PATH, model="other", prompt_tokens=0, prompt_chars=0, max_tokens=1)
        other = await pool.acquire(job(3, model="other"), other_size, is_retry=False)
        assert now() < 1.0
        other.release()
        (await waits).release()
        assert now() >= 30.0

    run(main())
