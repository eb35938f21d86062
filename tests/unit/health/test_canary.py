"""The canary: one request that is sent alone before the others may follow."""

from __future__ import annotations

import asyncio

import pytest

from processor.health.canary import CANARY_TIMEOUT_S, Canary
from processor.simulator.virtual_clock import run


def test_other_requests_wait_for_at_most_the_timeout_after_the_first_one() -> None:
    async def main() -> None:
        canary = Canary()
        canary.start(10.0)
        canary.start(11.0)
        assert canary.alone_until(10.5) == 10.0 + CANARY_TIMEOUT_S
        assert canary.alone_until(10.0 + CANARY_TIMEOUT_S) is None

    run(main())


def test_cleared_canary_holds_no_request_back() -> None:
    async def main() -> None:
        canary = Canary()
        canary.start(10.0)
        canary.allow_all()
        canary.start(11.0)
        assert canary.is_cleared
        assert canary.alone_until(11.0) is None
        await canary.wait_until_next_may_start()

    run(main())


def test_next_job_starts_alone_after_each_failed_canary() -> None:
    async def main() -> None:
        canary, loop = Canary(), asyncio.get_running_loop()
        for number in range(1, 4):
            loop.call_later(1.0, canary.let_next_try)
            await canary.wait_until_next_may_start()
            assert loop.time() == pytest.approx(number, abs=0.01)
            assert not canary.is_cleared

    run(main())


def test_jobs_start_in_parallel_after_a_canary_without_a_response() -> None:
    async def main() -> None:
        canary, loop = Canary(), asyncio.get_running_loop()
        await canary.wait_until_next_may_start()
        assert loop.time() == pytest.approx(CANARY_TIMEOUT_S, abs=0.01)
        assert canary.is_cleared

    run(main())
