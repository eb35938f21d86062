"""Requests of many kinds wait for several endpoints: each is sent in the end, and none is overtaken for ever."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from random import Random

import pytest

from processor.core.events import BottleneckChanged, RunEvent
from processor.core.models import Job, RequestSize, Target, Usage
from processor.core.token_bounds import TokenBounds
from processor.cost.budget import Budget
from processor.cost.price_list import PriceList
from processor.endpoints.budget_gate import BudgetExhausted, BudgetGate, UnknownCost
from processor.endpoints.dispatcher import Dispatcher
from processor.endpoints.endpoint import Endpoint, EndpointClosed, EndpointPermit, ModelNames
from processor.endpoints.pool import EndpointPool
from processor.health.endpoint_health import EndpointHealth
from processor.ratelimit.limit_group import TooLarge
from processor.ratelimit.limiter import RateLimiter
from processor.ratelimit.settings import LimitSettings, RateLimits
from processor.retry.policy import RetryPolicy
from processor.simulator.virtual_clock import run
from tests.support.slow_cases import slow_except
from tests.support.tariffs import a_million_tokens_cost

PATH = "/v1/chat/completions"
A_TOKEN_PICO = 1_000_000


@dataclass(kw_only=True)
class Limited:
    """One endpoint: its limits, and the models that it answers (None: all)."""

    limits: RateLimits = field(default_factory=RateLimits)
    concurrency: int = 100
    models: frozenset[str] | None = None
    shares_limiter_of: int | None = None
    """The place of the endpoint whose limits are its own, too."""


class DispatcherWorld:
    """A dispatcher in front of endpoints, on the virtual clock."""

    def __init__(
        self,
        endpoints: Sequence[Limited],
        *,
        of_run: LimitSettings | None = None,
        concurrency: int = 100,
        in_order: bool = False,
        budget_tokens: int | None = None,
        tariffs: Sequence[int] | None = None,
        is_understood: bool = True,
    ) -> None:
        """``tariffs``: the price of a token at each endpoint, in 1e-6 USD; 0: not known."""
        self.events: list[RunEvent] = []
        self.endpoints: list[Endpoint] = []
        for at, one in enumerate(endpoints):
            health = EndpointHealth(RetryPolicy(), self.events.append, endpoint=f"e{at}", max_outage_s=3600.0)
            if is_understood:
                health.on_success(0, 0.0, 0.0)
            if one.shares_limiter_of is None:
                settings = LimitSettings(default=one.limits, concurrency_is_fixed=True, first_alone_s=0.0)
                limiter = RateLimiter(settings, emit=lambda event: None, concurrency=one.concurrency, name=f"e{at}")
            else:
                limiter = self.endpoints[one.shares_limiter_of].own_limiter
            target = Target(base_url=f"http://127.0.0.1:{at + 1}/v1")
            names = self._names(one, f"@{at}" if tariffs else "")
            self.endpoints.append(Endpoint(target, limiter, health, name=f"e{at}", model_sent=names))
        settings = of_run or LimitSettings(concurrency_is_fixed=True, first_alone_s=0.0)
        self.budget: BudgetGate | None = None
        if budget_tokens is not None:
            priced = {
                f"{model}@{at}": a_million_tokens_cost(usd)
                for at, usd in enumerate(tariffs or ())
                for model in MODELS
                if usd
            }
            prices = PriceList(priced, default=None if tariffs else a_million_tokens_cost(1))
            self.budget = BudgetGate(Budget(budget_tokens * A_TOKEN_PICO), prices)
        limiter = RateLimiter(settings, emit=lambda event: None, concurrency=concurrency)
        self.dispatcher = Dispatcher(
            self.endpoints, limiter, in_order=in_order, emit=self.events.append, budget=self.budget
        )
        self.pool = EndpointPool(*self.endpoints, dispatcher=self.dispatcher, budget=self.budget)
        self.numbers: Counter[str] = Counter()

    @staticmethod
    def _names(one: Limited, suffix: str) -> ModelNames:
        return lambda model: f"{model}{suffix}" if one.models is None or model in one.models else None

    async def acquire(
        self,
        model: str = "m0",
        *,
        tokens: int = 1,
        is_retry: bool = False,
        goes_first: bool = False,
        exclude: Sequence[int] = (),
    ) -> EndpointPermit:
        self.numbers[model] += 1
        line = self.numbers.total()
        job = Job(line=line, custom_id=str(line), fingerprint="", path=PATH, model=model, body={"model": model})
        size = RequestSize(
            path=PATH,
            model=model,
            prompt_tokens=0,
            prompt_chars=0,
            max_tokens=tokens,
            goes_first=goes_first,
            bounds=TokenBounds(prompt_tokens=0, output_tokens=tokens),
        )
        excluded = frozenset(self.endpoints[at] for at in exclude)
        await self.pool.load_prices(job)
        return await self.pool.acquire(job, size, is_retry=is_retry, exclude=excluded)


MODELS = tuple(f"m{at}" for at in range(6))


def now() -> float:
    return asyncio.get_running_loop().time()


async def answer(permit: EndpointPermit, latency_s: float = 1.0, *, cost_tokens: int = 0) -> None:
    try:
        permit.sent(now())
        await asyncio.sleep(latency_s)
        permit.responded(200, {}, now())
        permit.settled(Usage(prompt_tokens=0, completion_tokens=1), now())
        if permit.reserved is not None:
            permit.reserved.settle(cost_tokens * A_TOKEN_PICO)
    finally:
        permit.release()


def throttle(permit: EndpointPermit, wait_s: float | None) -> None:
    permit.sent(now())
    permit.throttled(429, {}, wait_s, now())
    if permit.reserved is not None:
        permit.reserved.release()
    permit.release()


def random_world(rng: Random) -> DispatcherWorld:
    def limits() -> RateLimits:
        return RateLimits(rpm=rng.choice((None, 30.0, 120.0, 600.0)), tpm=rng.choice((None, None, 2_000.0, 20_000.0)))

    endpoints: list[Limited] = [Limited(limits=limits(), concurrency=rng.choice((1, 3, 100)))]
    for at in range(1, rng.randint(1, 5)):
        models = frozenset(rng.sample(MODELS, 3)) if rng.random() < 0.3 else None
        shared = rng.randrange(at) if rng.random() < 0.2 else None
        endpoints.append(
            Limited(limits=limits(), concurrency=rng.choice((1, 3, 100)), models=models, shares_limiter_of=shared)
        )
    of_run = LimitSettings(
        default=limits() if rng.random() < 0.3 else RateLimits(),
        per_model={model: limits() for model in MODELS if rng.random() < 0.3},
        concurrency_is_fixed=True,
        first_alone_s=0.0,
    )
    return DispatcherWorld(
        endpoints,
        of_run=of_run,
        concurrency=rng.choice((2, 10, 100)),
        in_order=rng.random() < 0.4,
        budget_tokens=rng.choice((None, 400, 10_000)),
        tariffs=None,
    )


@pytest.mark.parametrize("seed", slow_except(range(400), *range(12), 67))
def test_every_request_is_sent_in_the_end_whatever_it_waits_for(seed: int) -> None:
    """The virtual clock raises Deadlock where a wake-up is lost. Some callers give up; endpoints throttle now and then;
    some requests go first."""
    rng = Random(seed)

    async def main() -> None:
        world = random_world(rng)

        async def work(number: int) -> bool:
            model, tokens = rng.choice(MODELS), rng.choice((1, 10, 100))
            await asyncio.sleep(rng.choice((0.0, 0.0, 5.0, 30.0)))
            exclude: list[int] = []
            if len(world.endpoints) > 1 and rng.random() < 0.1:
                exclude = [rng.randrange(1, len(world.endpoints))]
            again = False
            while True:
                permit = await world.acquire(
                    model, tokens=tokens, is_retry=again, goes_first=rng.random() < 0.05, exclude=exclude
                )
                if rng.random() > 0.1:
                    await answer(permit, rng.choice((0.1, 1.0, 10.0)))
                    return True
                throttle(permit, rng.choice((None, 0.5, 3.0)))
                again = True

        tasks = [asyncio.create_task(work(number)) for number in range(150)]
        given_up = [task for task in tasks if rng.random() < 0.15]
        for task in given_up:
            asyncio.get_running_loop().call_later(rng.choice((0.0, 1.0, 10.0, 40.0)), task.cancel)
        done = await asyncio.gather(*tasks, return_exceptions=True)
        assert all(one is True or isinstance(one, asyncio.CancelledError) for one in done)
        assert sum(one is True for one in done) >= 150 - len(given_up)
        assert all(endpoint.in_flight == 0 == endpoint.own_limiter.slots.in_flight for endpoint in world.endpoints)
        assert world.dispatcher.next_start_at() is None
        await asyncio.sleep(0)
        bottlenecks = [event for event in world.events if isinstance(event, BottleneckChanged)]
        assert not bottlenecks or bottlenecks[-1].bottleneck == "input"

    run(main())


def test_model_whose_limit_is_used_up_does_not_hold_back_another_one_at_the_same_endpoints() -> None:
    async def main() -> None:
        of_run = LimitSettings(per_model={"m0": RateLimits(rpm=1)}, concurrency_is_fixed=True, first_alone_s=0.0)
        world = DispatcherWorld(
            [Limited(limits=RateLimits(rpm=6_000)), Limited(limits=RateLimits(rpm=6_000))], of_run=of_run
        )
        first = await world.acquire("m0")
        first.sent(now())
        waiting = asyncio.create_task(world.acquire("m0"))
        for _ in range(5):
            await asyncio.sleep(0.1)
            permit = await world.acquire("m1")
            permit.sent(now())
        assert now() < 1.0
        await waiting
        assert now() > 59.0

    run(main())


def test_request_that_waits_for_the_budget_is_not_overtaken_by_cheap_ones_of_other_models() -> None:
    async def main() -> None:
        world = DispatcherWorld([Limited()], budget_tokens=100)

        async def send_cheap(model: str) -> None:
            while True:
                await answer(await world.acquire(model, tokens=10))

        senders = [asyncio.create_task(send_cheap(model)) for model in MODELS[1:]]
        await asyncio.sleep(5.0)
        began = now()
        await answer(await world.acquire("m0", tokens=90))
        assert now() - began <= 2.1, "the requests in flight, and its own"
        for sender in senders:
            sender.cancel()

    run(main())


def test_head_that_goes_first_and_waits_for_its_endpoint_leaves_the_slots_of_the_run_to_others() -> None:
    async def main() -> None:
        endpoints = [Limited(concurrency=1, models=frozenset({"m0"})), Limited(models=frozenset({"m1"}))]
        world = DispatcherWorld(endpoints, concurrency=2)
        held = await world.acquire("m0")
        urgent = asyncio.create_task(world.acquire("m0", goes_first=True))
        await asyncio.sleep(1.0)
        await answer(await world.acquire("m1"))
        assert now() < 3.0
        held.release()
        await urgent

    run(main())


def test_queues_take_turns_at_what_they_share() -> None:
    async def main() -> None:
        world = DispatcherWorld([Limited(concurrency=1)])
        order: list[str] = []

        async def send(model: str) -> None:
            permit = await world.acquire(model)
            order.append(model)
            await answer(permit)

        models = ["m0"] * 6 + ["m1"] * 3 + ["m2"] * 3
        await asyncio.gather(*(send(model) for model in models))
        assert order[:9] == ["m0", "m1", "m2"] * 3

    run(main())


def test_request_that_goes_first_overtakes_all_that_wait() -> None:
    async def main() -> None:
        world = DispatcherWorld([Limited(concurrency=1), Limited(concurrency=1)], concurrency=2)
        held = [await world.acquire(), await world.acquire()]
        waiting = [asyncio.create_task(world.acquire(model)) for model in MODELS for _ in range(3)]
        await asyncio.sleep(1.0)
        urgent = asyncio.create_task(world.acquire("m3", goes_first=True))
        await asyncio.sleep(1.0)
        assert not any(task.done() for task in waiting) and not urgent.done()
        held[0].release()
        await asyncio.sleep(0.1)
        assert urgent.done() and not any(task.done() for task in waiting)
        for permit in (held[1], urgent.result()):
            permit.release()

        async def answer_to(task: asyncio.Task[EndpointPermit]) -> None:
            await answer(await task)

        await asyncio.gather(*map(answer_to, waiting))

    run(main())


@pytest.mark.parametrize("model", ["m0", "m1"], ids=["in its queue", "in another queue"])
def test_cancelled_head_lets_a_smaller_request_behind_it_be_sent_at_once(model: str) -> None:
    async def main() -> None:
        world = DispatcherWorld([Limited(limits=RateLimits(tpm=600)), Limited(limits=RateLimits(tpm=600))])
        for _ in range(2):
            permit = await world.acquire(tokens=500)
            permit.sent(now())
        large = asyncio.create_task(world.acquire(tokens=590))
        await asyncio.sleep(1.0)
        small = asyncio.create_task(world.acquire(model, tokens=1))
        await asyncio.sleep(51.0)
        assert not small.done()
        large.cancel()
        await asyncio.sleep(0.1)
        assert small.done()

    run(main())


def test_request_too_large_for_one_endpoint_waits_for_the_other_and_fails_where_it_is_too_large_for_all() -> None:
    async def main() -> None:
        world = DispatcherWorld(
            [Limited(limits=RateLimits(tpm=100)), Limited(limits=RateLimits(tpm=1000), concurrency=1)]
        )
        held = await world.acquire(tokens=200)
        assert held.endpoint is world.endpoints[1]
        waiting = asyncio.create_task(world.acquire(tokens=200))
        small = await world.acquire(tokens=1)
        assert small.endpoint is world.endpoints[0], "what one endpoint cannot take holds back nothing else there"
        with pytest.raises(TooLarge):
            await world.acquire(tokens=2000)
        held.release()
        assert (await waiting).endpoint is world.endpoints[1]

    run(main())


def test_request_too_large_for_the_endpoint_with_a_price_fails() -> None:
    async def main() -> None:
        endpoints = [Limited(limits=RateLimits(tpm=100)), Limited()]
        world = DispatcherWorld(endpoints, budget_tokens=1_000_000, tariffs=(1, 0))
        assert (await world.acquire(tokens=1)).endpoint is world.endpoints[0]
        with pytest.raises(TooLarge):
            await world.acquire(tokens=200)

    run(main())


def test_dear_endpoint_takes_part_once_the_budget_has_room_for_it() -> None:
    async def main() -> None:
        world = DispatcherWorld([Limited(concurrency=1), Limited()], budget_tokens=1_250, tariffs=(1, 100))
        cheap = await world.acquire(tokens=10)
        dear = await world.acquire(tokens=10)
        assert [cheap.endpoint, dear.endpoint] == world.endpoints
        waiting = asyncio.create_task(world.acquire(tokens=10))
        await asyncio.sleep(1.0)
        assert not waiting.done(), "the cheap one has no slot, and the dear one is not affordable"
        await answer(dear)
        assert (await waiting).endpoint is world.endpoints[1]

    run(main())


def test_budget_holds_back_and_ends_the_run_when_nothing_can_come_back() -> None:
    async def main() -> None:
        world = DispatcherWorld([Limited()], budget_tokens=100)
        held = await world.acquire(tokens=60)
        large, small = (asyncio.create_task(world.acquire(model, tokens=60)) for model in ("m0", "m1"))
        await asyncio.sleep(1.0)
        assert not large.done() and not small.done()
        await answer(held, cost_tokens=50)
        with pytest.raises(BudgetExhausted):
            await large
        assert not small.done()
        small.cancel()
        unknown = DispatcherWorld([Limited()], budget_tokens=100, tariffs=(0,))
        with pytest.raises(UnknownCost):
            await unknown.acquire()

    run(main())


def test_endpoint_that_is_stopped_is_left_out_and_requests_end_where_none_is_left() -> None:
    async def main() -> None:
        world = DispatcherWorld([Limited(concurrency=1), Limited(concurrency=1)])
        held = [await world.acquire(), await world.acquire()]
        waiting = [asyncio.create_task(world.acquire()) for _ in range(2)]
        await asyncio.sleep(1.0)
        world.endpoints[0].health.stop("no key")
        for permit in held:
            permit.release()
        assert (await waiting[0]).endpoint is world.endpoints[1]
        world.endpoints[1].health.stop("no quota")
        waiting[0].result().release()
        with pytest.raises(EndpointClosed, match="no "):
            await waiting[1]
        with pytest.raises(EndpointClosed):
            await world.acquire()

    run(main())


def test_requests_take_turns_as_the_canary_of_each_endpoint() -> None:
    async def main() -> None:
        world = DispatcherWorld([Limited(), Limited()], is_understood=False)
        waiting = [asyncio.create_task(world.acquire(MODELS[at % 3])) for at in range(8)]
        await asyncio.sleep(0.1)
        assert [task.done() for task in waiting] == [True, True] + [False] * 6
        waiting[0].result().release()
        await asyncio.sleep(0.1)
        assert sum(task.done() for task in waiting) == 3
        world.endpoints[0].health.on_first_token(1, now(), now())
        await asyncio.sleep(0.1)
        assert all(task.done() for task in waiting)

    run(main())
