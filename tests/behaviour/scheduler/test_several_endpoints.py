"""Several endpoints in one run: limits of each, failures of each, and one row for each job."""

from __future__ import annotations

import asyncio
from collections import Counter
from dataclasses import replace
from math import inf
from random import Random
from typing import Any

import pytest

from processor.config.settings import Limits
from processor.core.errors import BadRequest, Throttled
from processor.core.events import AttemptFinished, RequestListener, ResponseStarted, Sent, Transport
from processor.core.models import Job, Reply, Target
from processor.simulator.rate_limiter import LimiterKind
from processor.simulator.settings import Outage, SimulatorSettings
from tests.support.scheduler_world import FAST_PROVIDER, RunRecord, World, short_job
from tests.support.several_endpoints import SeveralWorld, table
from tests.support.slow_cases import slow_except

pytestmark = pytest.mark.sampled(most=1)

SERVER = replace(FAST_PROVIDER, first_token_s=0.2)


def limited(rpm: int, kind: LimiterKind = "sliding") -> SimulatorSettings:
    return replace(SERVER, rpm=rpm, kind=kind)


def jobs(number: int, **more: Any) -> list[dict[str, Any]]:
    return [short_job(at, **more) for at in range(number)]


def check_all_answered(world: SeveralWorld, run: RunRecord, number: int) -> None:
    assert (run.exit_code, run.reason) == (0, None)
    assert len(world.replied()) == number
    assert not world.failures()


@pytest.mark.parametrize("rate", [60, pytest.param(300, marks=pytest.mark.slow)])
def test_two_endpoints_take_the_time_of_one_of_twice_the_limit(rate: int) -> None:
    world = SeveralWorld({"east": limited(rate), "west": limited(rate, "minute")})
    run = world.run(jobs(7 * rate), concurrency=2000)
    check_all_answered(world, run, 7 * rate)
    assert 429 not in world.statuses("east") | world.statuses("west"), "neither has a reason to refuse"
    ideal_s = 180  # the window admits a minute's at once, the bucket a minute's at once and then evenly
    assert run.sent[-1][0] <= 1.02 * ideal_s + 3 + 0.3
    assert abs(world.answered("east") - 3.5 * rate) <= 0.5 * rate


@pytest.mark.parametrize("unit", [3, *(pytest.param(unit, marks=pytest.mark.slow) for unit in (6, 30))])
def test_ten_endpoints_of_unequal_limits_are_all_used_to_their_limits(unit: int) -> None:
    rates = [unit * factor for factor in range(1, 11)]
    world = SeveralWorld({f"e{rate}": limited(rate) for rate in rates})
    number = 3 * sum(rates)
    run = world.run(jobs(number), concurrency=5000)
    check_all_answered(world, run, number)
    assert all(429 not in world.statuses(f"e{rate}") for rate in rates)
    alone = World(limited(unit)).run(jobs(3 * unit), concurrency=5000)
    assert run.sent[-1][0] <= alone.sent[-1][0] + 1, "as long as the slowest alone with its share"


@pytest.mark.parametrize("fallback", [False, True])
@pytest.mark.parametrize(("provider", "first_token_s"), [("vllm", 0.5), ("openai", 2.5)], ids=["no key", "key"])
def test_endpoints_whose_first_headers_come_late_have_no_reason_to_refuse(
    provider: str, first_token_s: float, fallback: bool
) -> None:
    """Later than the canary waits for: 0.3 s without a key, else 2 s. The limits are known from the headers alone."""
    key = None if provider == "vllm" else "KEY"
    rates = {f"e{n}": 6 * n for n in range(1, 11)}
    kinds: tuple[LimiterKind, LimiterKind] = ("sliding", "minute")
    servers = {
        name: replace(limited(rate, kinds[n % 2]), first_token_s=first_token_s, first_token_jitter=0.0)
        for n, (name, rate) in enumerate(rates.items())
    }
    tables = tuple(table(name, provider=provider, api_key_env=key) for name in rates)
    world = SeveralWorld(servers, endpoints=tables, concurrency=2000, fallback=fallback)
    number = 2 * sum(rates.values())
    run = world.run(jobs(number), concurrency=2000)
    check_all_answered(world, run, number)
    assert {name: world.statuses(name) for name in rates} == {name: {200} for name in rates}
    if not fallback:  # where they are tried in their order, each is asked when those before it are full
        assert run.sent[-1][0] <= 1.02 * 60 + 3 + first_token_s


def test_endpoints_that_share_a_limit_group_are_charged_to_one_limit() -> None:
    shared = [table(name, limit_group="account", rpm=120.0) for name in ("east", "west")]
    world = SeveralWorld({"east": SERVER, "west": SERVER}, endpoints=tuple(shared))
    run = world.run(jobs(360), concurrency=500)
    check_all_answered(world, run, 360)
    times = [at for at, _, _ in world.sent_to]
    assert most_within_a_minute(times) <= 120
    assert world.answered("east") > 0 < world.answered("west")


@pytest.mark.parametrize("rate", [60, pytest.param(120, marks=pytest.mark.slow)])
@pytest.mark.parametrize("kind", ["sliding", pytest.param("minute", marks=pytest.mark.slow)])
def test_addresses_of_one_account_and_another_endpoint_use_both_limits(kind: LimiterKind, rate: int) -> None:
    """The account's limit is known from its headers alone, which come through both addresses."""
    names = ("a1", "a2", "own")
    endpoints = (*(table(name, limit_group="account") for name in names[:2]), table("own"))
    world = SeveralWorld(dict.fromkeys(names, limited(rate, kind)), one_account=names[:2], endpoints=endpoints)
    run = world.run(jobs(7 * rate), concurrency=2000)
    check_all_answered(world, run, 7 * rate)
    assert all(429 not in world.statuses(name) for name in names)
    ideal_s = {"sliding": 180, "minute": 150}[kind]
    assert run.sent[-1][0] <= 1.02 * ideal_s + 3 + 0.3
    sent = Counter(name for _, name, _ in world.sent_to)
    assert sent["a1"] > rate / 2 < sent["a2"], "both addresses are used"


def test_limits_of_the_run_hold_for_all_endpoints_together() -> None:
    world = SeveralWorld({"east": SERVER, "west": SERVER}, limits=Limits(rpm=120.0))
    run = world.run(jobs(300), concurrency=500)
    check_all_answered(world, run, 300)
    times = [at for at, _, _ in world.sent_to]
    assert most_within_a_minute(times) <= 120
    assert times[-1] <= 60 * 300 / 120 * 1.02 + 3


def test_concurrency_of_the_run_and_of_an_endpoint_hold() -> None:
    endpoints = (table("east", concurrency=2), table("west"))
    world = SeveralWorld({"east": SERVER, "west": SERVER}, endpoints=endpoints, concurrency=6)
    run = world.run(jobs(100), concurrency=6)
    check_all_answered(world, run, 100)
    assert run.max_in_flight <= 6
    assert world.answered("east") < world.answered("west")


def test_weights_share_the_jobs_while_all_have_room() -> None:
    endpoints = (table("east", weight=3.0), table("west", weight=1.0))
    world = SeveralWorld({"east": SERVER, "west": SERVER}, endpoints=endpoints, concurrency=8)
    check_all_answered(world, world.run(jobs(400), concurrency=8), 400)
    assert 2 < world.answered("east") / world.answered("west") < 4


def test_fallback_uses_the_second_endpoint_only_where_the_first_has_no_room() -> None:
    world = SeveralWorld({"east": SERVER, "west": SERVER}, fallback=True, concurrency=8)
    check_all_answered(world, world.run(jobs(100), concurrency=8), 100)
    assert world.answered("west") == 0
    endpoints = (table("east", concurrency=2), table("west"))
    world = SeveralWorld({"east": SERVER, "west": SERVER}, fallback=True, endpoints=endpoints, concurrency=8)
    check_all_answered(world, world.run(jobs(100), concurrency=8), 100)
    assert world.answered("west") > 0


def test_model_is_sent_under_its_name_at_each_endpoint_and_named_in_the_row() -> None:
    endpoints = (table("east", models={"m": "deployment"}), table("west", models={"n": "n", "*": "other"}))
    world = SeveralWorld({"east": SERVER, "west": SERVER}, endpoints=endpoints)
    run = world.run([*jobs(20), *(short_job(100 + at, model="n") for at in range(5))])
    check_all_answered(world, run, 25)
    assert {(name, model) for _, name, model in world.sent_to} <= {
        ("east", "deployment"),
        ("west", "other"),
        ("west", "n"),
    }
    for row in world.rows():
        host = row["endpoint"].split("/")[2]
        assert row["asked_model"] in (("deployment",) if host == "east.test" else ("other", "n"))


def test_endpoint_that_refuses_the_key_is_stopped_and_its_jobs_go_elsewhere() -> None:
    world = SeveralWorld({"east": replace(SERVER, auth="refused"), "west": SERVER})
    run = world.run(jobs(100))
    check_all_answered(world, run, 100)
    assert len(world.logs["east"]) == 1, "the canary alone"


def test_endpoint_out_of_quota_is_stopped_and_its_jobs_go_elsewhere() -> None:
    world = SeveralWorld({"east": replace(SERVER, quota=20), "west": SERVER})
    run = world.run(jobs(100))
    check_all_answered(world, run, 100)
    refused_at = [entry["at"] for entry in world.logs["east"] if entry["status"] != 200]
    assert all(entry["at"] <= refused_at[0] + 1 for entry in world.logs["east"]), "nothing is sent to it afterwards"


def test_run_stops_with_the_words_of_each_endpoint_when_none_is_left() -> None:
    world = SeveralWorld({"east": replace(SERVER, auth="refused"), "west": replace(SERVER, quota=30)})
    run = world.run(jobs(100))
    assert run.exit_code == 3
    assert run.reason is not None and "east: " in run.reason and "west: " in run.reason
    assert len(world.replied()) == 30 and not world.failures()
    world.providers["west"].settings = SERVER
    assert world.run(jobs(100)).exit_code == 0
    assert len(world.replied()) == 100


def test_run_ends_where_no_endpoint_is_left_for_the_jobs_that_remain() -> None:
    endpoints = (table("east", models={"m": "m"}), table("west", models={"n": "n"}))
    world = SeveralWorld({"east": replace(SERVER, auth="refused"), "west": SERVER}, endpoints=endpoints)
    run = world.run([*jobs(50), *(short_job(100 + at, model="n") for at in range(50))])
    assert run.exit_code == 3
    assert len(world.replied()) == 50 and not world.failures()


@pytest.mark.parametrize("kind", slow_except(["refuse", "500", "503"], "refuse"))
def test_outage_of_one_endpoint_costs_no_job_and_it_is_used_again_afterwards(kind: str) -> None:
    down = (Outage(kind=kind, from_s=20.0, to_s=200.0),)  # type: ignore[arg-type]
    world = SeveralWorld({"east": replace(limited(60), outages=down), "west": limited(60)})
    run = world.run(jobs(700), concurrency=300)
    check_all_answered(world, run, 700)
    after = [at for at, name, _ in world.sent_to if name == "east" and at > 330]
    assert len(after) > 30, "it is used again"


def test_endpoint_that_is_down_from_the_start_is_probed_until_it_answers() -> None:
    down = (Outage(kind="refuse", from_s=0.0, to_s=100.0),)
    world = SeveralWorld({"east": replace(limited(60), outages=down), "west": limited(60)})
    check_all_answered(world, world.run(jobs(500), concurrency=300), 500)
    assert world.answered("east") > 0


def test_run_ends_at_once_where_no_endpoint_can_be_reached() -> None:
    down = (Outage(kind="refuse", from_s=0.0, to_s=inf),)
    world = SeveralWorld({"east": replace(SERVER, outages=down), "west": replace(SERVER, outages=down)})
    run = world.run(jobs(10))
    assert run.exit_code == 3
    assert run.reason is not None and "no endpoint can be reached" in run.reason
    assert run.took_s < 10


def test_slow_endpoint_does_not_hold_back_the_other() -> None:
    world = SeveralWorld({"east": replace(SERVER, first_token_s=50.0), "west": SERVER}, concurrency=20)
    run = world.run(jobs(500), concurrency=20)
    check_all_answered(world, run, 500)
    assert world.answered("east") < 100


def test_job_that_one_endpoint_alone_throttles_goes_to_the_other() -> None:
    asked: Counter[str] = Counter()

    def wrap(send: Transport) -> Transport:
        async def wrapped(job: Job, target: Target, on_event: RequestListener) -> Reply:
            if job.custom_id == "job-3" and "east" in target.base_url:
                asked["east"] += 1
                loop = asyncio.get_running_loop()
                on_event(Sent(loop.time()))
                await asyncio.sleep(0.1)
                on_event(ResponseStarted(429, {}, loop.time()))
                raise Throttled("wait", status=429, retry_after_s=5.0)
            return await send(job, target, on_event)

        return wrapped

    world = SeveralWorld({"east": SERVER, "west": replace(SERVER, rpm=2)})
    run = world.run(jobs(400), wrap_transport=wrap)
    check_all_answered(world, run, 400)
    assert asked["east"] < 10, "it is not sent there again and again"


def test_job_that_is_made_to_wait_comes_back_where_the_other_endpoint_goes_down() -> None:
    asked: Counter[str] = Counter()

    def wrap(send: Transport) -> Transport:
        async def wrapped(job: Job, target: Target, on_event: RequestListener) -> Reply:
            if job.custom_id == "job-3" and "east" in target.base_url:
                asked["east"] += 1
                if asked["east"] <= 3:
                    loop = asyncio.get_running_loop()
                    on_event(Sent(loop.time()))
                    await asyncio.sleep(0.5)
                    on_event(ResponseStarted(429, {}, loop.time()))
                    raise Throttled("wait", status=429, retry_after_s=1.0)
            return await send(job, target, on_event)

        return wrapped

    down = (Outage(kind="refuse", from_s=0.5, to_s=inf),)
    world = SeveralWorld({"east": SERVER, "west": replace(SERVER, outages=down)})
    run = world.run(jobs(300), wrap_transport=wrap)
    check_all_answered(world, run, 300)
    assert asked["east"] == 4, "it is answered there"


def refusing(name: str, code: str) -> Any:
    """A transport whose endpoint of this name refuses the third job for a reason of its own."""

    def wrap(send: Transport) -> Transport:
        async def wrapped(job: Job, target: Target, on_event: RequestListener) -> Reply:
            reply = await send(job, target, on_event)
            if job.custom_id == "job-3" and (name == "*" or name in target.base_url):
                raise BadRequest("refused", status=400, error_code=code, body={"error": {"code": code}})
            return reply

        return wrapped

    return wrap


def test_job_refused_for_its_own_fault_is_not_offered_to_the_others() -> None:
    world = SeveralWorld({"east": SERVER, "west": SERVER})
    run = world.run(jobs(20), wrap_transport=refusing("*", "content_filter"))
    assert run.exit_code == 1
    (row,) = world.failures()
    assert (row["custom_id"], row["attempts"], row["own_fault"]) == ("job-3", 1, True)
    assert row["endpoint"].startswith("https://")


def test_retry_elsewhere_offers_a_refused_job_to_the_others_by_reason() -> None:
    reasons = ("context_length",)
    world = SeveralWorld({"east": SERVER, "west": SERVER}, retry_elsewhere=reasons)
    run = world.run(jobs(20), wrap_transport=refusing("*", "context_length_exceeded"))
    assert run.exit_code == 1
    (row,) = world.failures()
    assert row["attempts"] == 2, "each endpoint was asked once"
    world = SeveralWorld({"east": SERVER, "west": SERVER}, retry_elsewhere=reasons)
    check_all_answered(world, world.run(jobs(20), wrap_transport=refusing("east", "context_length_exceeded")), 20)
    world = SeveralWorld({"east": SERVER, "west": SERVER}, retry_elsewhere=reasons)
    assert world.run(jobs(20), wrap_transport=refusing("*", "content_filter")).exit_code == 1
    assert world.failures()[0]["attempts"] == 1, "another reason"


def test_model_that_one_endpoint_does_not_know_is_sent_to_the_other() -> None:
    world = SeveralWorld({"east": replace(SERVER, models=("other",)), "west": SERVER})
    run = world.run(jobs(100))
    check_all_answered(world, run, 100)
    assert len([entry for entry in world.logs["east"] if entry["status"] == 404]) <= 20


def test_resume_sends_only_what_is_left_also_where_the_endpoints_have_changed() -> None:
    world = SeveralWorld({"east": replace(SERVER, quota=30), "west": replace(SERVER, quota=20)})
    assert world.run(jobs(100)).exit_code == 3
    assert len(world.replied()) == 50
    other = SeveralWorld({"north": SERVER, "west": SERVER})
    other.disk, other.now_s = world.disk, world.now_s
    run = other.run(jobs(100))
    assert run.exit_code == 0
    assert len(other.replied()) == 100 and len(other.sent_to) == 50


def test_events_name_the_endpoint() -> None:
    world = SeveralWorld({"east": SERVER, "west": SERVER})
    run = world.run(jobs(50))
    named = Counter(event.endpoint for event in run.events_of(AttemptFinished))
    assert named == {"east": world.answered("east"), "west": world.answered("west")}


def most_within_a_minute(times: list[float]) -> int:
    most = start = 0
    for end, at in enumerate(times):
        while times[start] <= at - 60:
            start += 1
        most = max(most, end - start + 1)
    return most


def night_provider(rng: Random) -> SimulatorSettings:
    """A provider that may fail, recover, run out of quota, refuse the key or answer slowly."""
    begins = rng.uniform(0, 60)
    troubles: list[dict[str, Any]] = [
        {},
        {"outages": (Outage(kind=rng.choice(("refuse", "500", "503")), from_s=begins, to_s=begins + 90),)},
        {"quota": rng.randint(1, 60)},
        {"auth": "refused"},
        {"first_token_s": rng.uniform(5, 60)},
        {"rpm": rng.randint(20, 120), "kind": rng.choice(("sliding", "minute"))},
    ]
    return replace(SERVER, **rng.choice(troubles))


@pytest.mark.parametrize("seed", slow_except(range(300), *range(4)))
def test_night_with_failing_endpoints_gives_each_job_one_row_and_blames_none(seed: int) -> None:
    rng = Random(seed)
    providers = {f"e{at}": night_provider(rng) for at in range(rng.randint(2, 4))}
    world = SeveralWorld(providers | {"sound": SERVER}, fallback=rng.random() < 0.3)
    number = rng.randint(50, 200)
    run = world.run(jobs(number), concurrency=rng.randint(2, 60))
    check_all_answered(world, run, number)
    assert len(world.rows()) == number
    for name, entries in world.logs.items():
        stops = [entry["at"] for entry in entries if entry["status"] in (401, 403)]
        assert not stops or entries[-1]["at"] <= stops[0] + 1, f"{name} is stopped"
