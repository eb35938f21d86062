"""Limits and usage that the replies contradict hold nobody back."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace

import pytest

from processor.core.events import RequestEvent, RequestListener, ResponseStarted, Transport
from processor.core.models import Job, Reply, Target
from tests.support.scheduler_world import World, short_job

pytestmark = pytest.mark.sampled

JOBS = [short_job(number) for number in range(100)]


def with_headers(headers: Mapping[str, str]) -> Callable[[Transport], Transport]:
    def wrap(transport: Transport) -> Transport:
        async def send(job: Job, target: Target, on_event: RequestListener) -> Reply:
            def observe(event: RequestEvent) -> None:
                if isinstance(event, ResponseStarted):
                    event = ResponseStarted(event.status, {**event.headers, **headers}, event.at)
                on_event(event)

            return await transport(job, target, observe)

        return send

    return wrap


@pytest.mark.parametrize("limit", ["1", "10", "60", "NaN", "1e308", "1e309", "-1", "0"])
@pytest.mark.parametrize("prefix", ["x-ratelimit-{}-tokens", "anthropic-ratelimit-output-tokens-{}"])
def test_false_token_limit_holds_nobody_back(limit: str, prefix: str) -> None:
    world = World()
    headers = {prefix.format("limit"): limit, prefix.format("remaining"): limit, prefix.format("reset"): "999999999h"}
    run = world.run(JOBS, wrap_transport=with_headers(headers))
    assert (run.exit_code, len(world.rows())) == (0, 100)
    assert run.took_s < 60


@pytest.mark.parametrize("tokens", [10**9, 10**15])
def test_false_usage_holds_nobody_back(tokens: int) -> None:
    def wrap(transport: Transport) -> Transport:
        async def send(job: Job, target: Target, on_event: RequestListener) -> Reply:
            reply = await transport(job, target, on_event)
            usage = {"prompt_tokens": 5, "completion_tokens": tokens, "total_tokens": tokens + 5}
            return replace(reply, body={**reply.body, "usage": usage})

        return send

    world = World()
    run = world.run(JOBS, wrap_transport=wrap)
    assert (run.exit_code, len(world.rows())) == (0, 100)
    assert run.took_s < 60
