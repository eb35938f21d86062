"""Sessions that share a limiter, a budget and the folder of their journals. On the virtual clock."""

from __future__ import annotations

import asyncio
import json
from dataclasses import replace
from math import inf
from pathlib import Path
from random import Random
from typing import Any

import pytest

from processor import Limits, RunStopped, Settings
from processor.config.endpoint_settings import EndpointSettings
from processor.config.price_settings import ModelPrices
from processor.config.settings import RaySettings
from processor.core.errors import ConfigError, OutputError
from processor.core.models import JSON, RequestSize
from processor.session.shared_session import SharedSession
from processor.shared_limits.host import IDLE_AFTER_S, LOST_AFTER_S
from processor.shared_limits.messages import PermitGranted
from processor.shared_limits.shared_limiter import SharedLimiter
from processor.simulator.rate_limiter import LIMITER_KINDS, LimiterKind
from tests.support.session_world import FAST_PROVIDER, SETTINGS, Sessions, job, play
from tests.support.shared_limits_world import SharedWorld, rows_of
from tests.support.slow_cases import slow_except

QUICK = replace(FAST_PROVIDER, first_token_s=0.2, first_token_jitter=0.0, speed_tps=inf)


def jobs(name: str, count: int, **more: Any) -> list[JSON]:
    return [{**job(number, **more), "id": f"{name}-{number}"} for number in range(count)]


def replies(rows: list[JSON]) -> int:
    return sum(row["error"] is None for row in rows)


# ---------------------------------------------------------------- the limit


@pytest.mark.parametrize("kind", slow_except(LIMITER_KINDS, "second"))
def test_sessions_share_a_limit_as_one_uses_it(kind: LimiterKind) -> None:
    limits = replace(SETTINGS, limits=Limits(rpm=120)) if kind == "silent" else SETTINGS
    provider = replace(QUICK, rpm=120, kind=kind)

    async def run(sessions: int) -> tuple[float, int]:
        world = SharedWorld.create(provider)
        began = asyncio.get_running_loop().time()
        all_jobs = [jobs(f"p{number}", 240 // sessions) for number in range(sessions)]
        rows = await asyncio.gather(*(rows_of(world.session(limits), some) for some in all_jobs))
        assert sum(map(replies, rows)) == 240
        return asyncio.get_running_loop().time() - began, world.refused

    alone_s, alone_refused = play(run(1))
    shared_s, refused = play(run(3))
    assert refused <= alone_refused
    assert shared_s <= 1.02 * alone_s + 3.0


def test_sessions_of_several_models_share_what_is_configured_for_all() -> None:
    settings = replace(SETTINGS, limits=Limits(rpm=60))
    provider = replace(QUICK, rpm=60, kind="silent")

    async def main() -> None:
        world = SharedWorld.create(provider)
        some = [jobs("a", 60), jobs("b", 60, model="other")]
        await asyncio.gather(*(rows_of(world.session(settings), one) for one in some))
        assert world.refused == 0
        assert asyncio.get_running_loop().time() > 60

    play(main())


def test_number_in_flight_holds_for_all_sessions() -> None:
    world = SharedWorld.create(replace(QUICK, first_token_s=1.0))
    settings = replace(SETTINGS, concurrency=5)

    async def main() -> None:
        await asyncio.gather(*(rows_of(world.session(settings), jobs(name, 40)) for name in "ab"))
        assert asyncio.get_running_loop().time() >= 80 / 5 * 1.0

    play(main())
    assert world.refused == 0


@pytest.mark.parametrize("sessions", slow_except([1, 3], 3))
def test_number_in_flight_is_found_as_by_a_session_alone(sessions: int) -> None:
    provider = replace(QUICK, first_token_s=1.0)

    async def alone(settings: Settings = SETTINGS) -> float:
        async with Sessions(provider).open(settings) as session:
            assert len([row async for row in session.results(jobs("a", 600, max_tokens=60))]) == 600
        return asyncio.get_running_loop().time()

    async def shared() -> float:
        world = SharedWorld.create(provider)
        some = [jobs(f"s{number}", 600 // sessions) for number in range(sessions)]
        await asyncio.gather(*(rows_of(world.session(), one) for one in some))
        return asyncio.get_running_loop().time()

    alone_s = play(alone())
    assert alone_s < 15  # 600 requests of a second each, from 4 in flight on
    assert play(alone(replace(PRICED, max_cost_usd=1e6))) < 15
    assert play(shared()) < 1.1 * alone_s + 1.0


def test_calls_are_bounded_whatever_the_load() -> None:
    world = SharedWorld.create(QUICK)

    async def main() -> float:
        await rows_of(world.session(replace(SETTINGS, concurrency=500)), jobs("a", 1000))
        return asyncio.get_running_loop().time()

    took_s = play(main())
    assert world.cluster.calls <= 2 * 50 * took_s + 10


def test_sessions_with_other_limits_are_refused() -> None:
    async def main() -> None:
        world = SharedWorld.create(QUICK)
        first, second = world.session(replace(SETTINGS, limits=Limits(rpm=60))), world.session()
        await first.open()
        await first.session.result(job(1))
        await second.open()
        with pytest.raises(RunStopped, match="uses the same key with other limits"):
            await second.session.result(job(2))
        await asyncio.gather(first.close(), second.close())

    play(main())


def test_limiter_of_another_version_is_not_used() -> None:
    world = SharedWorld.create(QUICK)

    async def main() -> None:
        shared, host = world.session(), world.cluster.host
        told = json.loads(await host.describe())

        async def describe() -> bytes:
            return json.dumps({**told, "version": "9.9.9", "sources": "0"}).encode()

        host.describe = describe  # type: ignore[method-assign]
        await shared.open()
        with pytest.raises(RunStopped, match=r"memory has another version of processor \(9\.9\.9"):
            await shared.session.result(job(1))
        await shared.close()

    play(main())
    assert world.provider.billing.requests == 0


# ---------------------------------------------------------------- losses


async def die(shared: SharedSession, world: SharedWorld, task: asyncio.Task[Any]) -> None:
    """End a session as if its process were killed: it sends no message."""
    for link in world.cluster.links:
        link.is_cut = True
    task.cancel()
    await asyncio.wait({task})


def test_slots_of_a_session_that_has_died_come_back() -> None:
    world = SharedWorld.create(replace(QUICK, first_token_s=1000.0))
    settings = replace(SETTINGS, concurrency=4)

    async def main() -> None:
        dead = world.session(settings, program="dead")
        await dead.open()
        asking = [asyncio.create_task(dead.session.result(one)) for one in jobs("dead", 6)]
        await asyncio.sleep(5.0)
        for link in world.cluster.links:
            link.is_cut = True
        world.provider.settings = replace(world.provider.settings, first_token_s=0.2)
        began = asyncio.get_running_loop().time()
        rows = await rows_of(world.session(settings), jobs("b", 8))
        assert replies(rows) == 8
        assert LOST_AFTER_S / 2 < asyncio.get_running_loop().time() - began < LOST_AFTER_S + 15.0
        for task in asking:
            task.cancel()
        await asyncio.wait(asking)

    play(main())


def test_limiter_that_is_lost_is_replaced() -> None:
    world = SharedWorld.create(replace(QUICK, rpm=600, kind="second"))

    async def main() -> None:
        sessions = [asyncio.create_task(rows_of(world.session(), jobs(name, 150))) for name in "ab"]
        await asyncio.sleep(8.0)
        world.cluster.kill_host()
        rows = await asyncio.gather(*sessions)
        assert [replies(some) for some in rows] == [150, 150]
        assert world.provider.billing.completed == 300
        assert asyncio.get_running_loop().time() < 300 / 10 + 15

    play(main())


def test_limiter_that_cannot_be_reached_stops_the_session() -> None:
    world = SharedWorld.create(QUICK)

    async def main() -> None:
        async def lose_for_ever() -> None:
            while True:
                world.cluster.kill_host()
                await asyncio.sleep(0.001)

        losing = asyncio.create_task(lose_for_ever())
        shared = world.session()
        await shared.open()
        with pytest.raises(RunStopped, match="the shared limiter was lost 5 times, one after the other: it was killed"):
            await shared.session.result(job(1))
        losing.cancel()
        await shared.close()

    play(main())


def test_host_is_idle_some_time_after_its_last_session() -> None:
    world = SharedWorld.create(QUICK)

    async def main() -> None:
        loop = asyncio.get_running_loop()
        idle = asyncio.create_task(world.cluster.host.idle())
        await asyncio.sleep(IDLE_AFTER_S - 1)
        await rows_of(world.session(), jobs("a", 3))
        left_at = loop.time()
        await idle
        assert loop.time() - left_at == pytest.approx(IDLE_AFTER_S, abs=1.0)

    play(main())


def test_job_that_is_given_up_while_it_waits_takes_nothing() -> None:
    world = SharedWorld.create(replace(QUICK, rpm=60, kind="silent"))
    settings = replace(SETTINGS, limits=Limits(rpm=60))

    async def main() -> None:
        shared = world.session(settings)
        await shared.open()
        await asyncio.gather(*(shared.session.result(one) for one in jobs("a", 5)))
        waiting = [asyncio.create_task(shared.session.result(one)) for one in jobs("b", 50)]
        await asyncio.sleep(0.1)
        for task in waiting:
            task.cancel()
        await asyncio.wait(waiting)
        before = world.provider.billing.requests
        began = asyncio.get_running_loop().time()
        await asyncio.gather(*(shared.session.result(one) for one in jobs("c", 5)))
        assert asyncio.get_running_loop().time() - began < 8
        assert world.provider.billing.requests == before + 5
        await shared.close()

    play(main())


def test_permit_that_comes_in_the_moment_of_a_cancellation_is_given_back(monkeypatch: pytest.MonkeyPatch) -> None:
    world = SharedWorld.create(QUICK)
    on_message = SharedLimiter._on_message
    asking: list[asyncio.Task[Any]] = []

    def cancel_first(self: SharedLimiter, message: Any) -> None:
        for task in asking if isinstance(message, PermitGranted) else ():
            task.cancel()
        on_message(self, message)

    async def main() -> None:
        shared = world.session()
        await shared.open()
        await shared.session.result(job(0))
        assert shared._limiter is not None
        monkeypatch.setattr(SharedLimiter, "_on_message", cancel_first)
        size = RequestSize(path="/v1/chat/completions", model="m", prompt_tokens=1, prompt_chars=4, max_tokens=1)
        asking.append(asyncio.create_task(shared._limiter.acquire(size, is_retry=False)))
        await asyncio.wait(asking)
        assert asking[0].cancelled()
        await asyncio.sleep(1.0)
        (session,) = world.cluster.host._sessions.values()
        assert session.requests == {}
        await shared.close()

    play(main())


# ---------------------------------------------------------------- the budget

PRICE = ModelPrices(input=1.0, output=1000.0)
PRICED = replace(SETTINGS, prices={"m": PRICE}, max_cost_usd=2.0)


def spent_usd(world: SharedWorld) -> float:
    billing = world.provider.billing
    return (billing.prompt_tokens * PRICE.input + billing.completion_tokens * PRICE.output) / 1e6  # type: ignore[operator]


async def rows_until_stopped(shared: SharedSession, some: list[JSON]) -> tuple[int, list[str]]:
    """Return how many replies there were, and why the others have none."""
    await shared.open()
    await shared.read_new_rows()
    found = await asyncio.gather(*(shared.session.result(one) for one in some), return_exceptions=True)
    await shared.close()
    return sum(isinstance(one, dict) for one in found), [str(one) for one in found if isinstance(one, RunStopped)]


def test_sessions_share_a_budget(tmp_path: Path) -> None:
    world = SharedWorld.create(replace(QUICK, reply_tokens=(30, 60)))

    async def main() -> None:
        some = [jobs(name, 60, max_tokens=60) for name in "abc"]
        found = await asyncio.gather(*(rows_until_stopped(world.session(PRICED, tmp_path), one) for one in some))
        assert 0 < sum(count for count, _ in found) < 180
        assert all("budget of 2.0" in reason for _, reasons in found for reason in reasons[:1])

    play(main())
    assert 0.9 * 2.0 < spent_usd(world) <= 2.0


def test_budget_counts_what_earlier_sessions_have_spent(tmp_path: Path) -> None:
    world = SharedWorld.create(replace(QUICK, reply_tokens=(30, 60)))

    async def main() -> None:
        for name in "abcd":  # each a program of its own, some time after the one before
            some = [jobs(f"{name}{number}", 12, max_tokens=60) for number in range(2)]
            await asyncio.gather(*(rows_until_stopped(world.session(PRICED, tmp_path), one) for one in some))
            world.cluster.kill_host()

    play(main())
    assert 0.9 * 2.0 < spent_usd(world) <= 2.0


# ---------------------------------------------------------------- the folder of the journals


def rows_in(folder: Path) -> list[str]:
    lines = [line for path in sorted(folder.glob("journal-*.jsonl")) for line in path.read_text().splitlines()]
    return [json.loads(line)["custom_id"] for line in lines]


def test_each_session_appends_to_a_file_of_its_own(tmp_path: Path) -> None:
    world = SharedWorld.create(QUICK)

    async def main() -> None:
        await asyncio.gather(*(rows_of(world.session(journal=tmp_path), jobs(name, 5)) for name in "abc"))

    play(main())
    assert sorted(path.name for path in tmp_path.glob("journal-?.jsonl")) == [
        f"journal-{number}.jsonl" for number in (1, 2, 3)
    ]
    assert sorted(rows_in(tmp_path)) == sorted(one["id"] for name in "abc" for one in jobs(name, 5))


def test_rows_of_earlier_sessions_are_not_paid_again(tmp_path: Path) -> None:
    world = SharedWorld.create(QUICK)

    async def main() -> None:
        await asyncio.gather(*(rows_of(world.session(journal=tmp_path), jobs(name, 5)) for name in "abc"))
        again = await rows_of(world.session(journal=tmp_path), [one for name in "abcd" for one in jobs(name, 5)])
        assert replies(again) == 20

    play(main())
    assert world.provider.billing.requests == 20


def test_rows_that_another_session_has_written_meanwhile_are_not_paid_again(tmp_path: Path) -> None:
    world = SharedWorld.create(QUICK)

    async def main() -> None:
        first, second = world.session(journal=tmp_path), world.session(journal=tmp_path)
        await first.open()
        await second.open()
        answered = await first.session.result(job(1))
        await second.read_new_rows()
        assert await second.session.result(job(1)) == answered
        assert (await second.session.result(job(1, prompt="Another question"))) == answered  # changed = "keep"
        await asyncio.gather(first.close(), second.close())

    play(main())
    assert world.provider.billing.requests == 1


def test_file_that_was_compacted_meanwhile_is_read_again(tmp_path: Path) -> None:
    world = SharedWorld.create(QUICK)

    async def main() -> None:
        first, second = world.session(journal=tmp_path), world.session(journal=tmp_path)
        await first.open()
        await second.open()
        answered = await asyncio.gather(*(first.session.result(one) for one in jobs("a", 3)))
        await second.read_new_rows()
        path = tmp_path / "journal-1.jsonl"
        lines = path.read_bytes().splitlines(keepends=True)
        new = tmp_path / "new"
        new.write_bytes(b"".join(reversed(lines)))
        new.rename(path)
        await second.read_new_rows()
        assert await asyncio.gather(*(second.session.result(one) for one in jobs("a", 3))) == answered
        with pytest.raises(OutputError, match="has been moved or replaced"):
            await first.close()
        await second.close()

    play(main())
    assert world.provider.billing.requests == 3


def test_file_of_a_session_that_has_died_is_taken_over(tmp_path: Path) -> None:
    world = SharedWorld.create(QUICK)

    async def main() -> None:
        await rows_of(world.session(journal=tmp_path), jobs("a", 3))
        with (tmp_path / "journal-1.jsonl").open("ab") as torn:
            torn.write(b'{"id":"0123')  # the process was killed while it wrote
        await rows_of(world.session(journal=tmp_path), jobs("a", 4))

    play(main())
    assert sorted(path.name for path in tmp_path.glob("*.jsonl")) == ["journal-1.jsonl"]
    assert rows_in(tmp_path) == [one["id"] for one in jobs("a", 4)]
    assert world.provider.billing.requests == 4


def test_permanent_failure_of_another_session_stands(tmp_path: Path) -> None:
    world = SharedWorld.create(QUICK)
    some = [*jobs("a", 5), *jobs("bad", 5)]
    world.rejected = {one["id"] for one in jobs("bad", 5)}

    async def main() -> None:
        first = await rows_of(world.session(journal=tmp_path), some)
        assert replies(first) == 5
        before = world.provider.billing.requests
        holder = world.session(journal=tmp_path)
        await holder.open()  # takes the first file, so that the next one reads it
        second = await rows_of(world.session(journal=tmp_path), some)
        assert [row["error"] for row in second] == [row["error"] for row in first]
        assert world.provider.billing.requests == before
        await holder.close()

    play(main())


def test_folder_that_cannot_be_made_is_a_mistake(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")

    async def main() -> None:
        with pytest.raises(ConfigError, match="cannot be the folder of a journal"):
            await SharedWorld.create().session(journal=tmp_path / "file" / "folder").open()

    play(main())


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"endpoints": (EndpointSettings(name="a", base_url="http://127.0.0.1/v1"),), "base_url": None}, "one address"),
        ({"ray": RaySettings(address="auto")}, "send the requests themselves"),
    ],
)
def test_settings_that_cannot_be_shared_are_refused(changed: dict[str, Any], message: str) -> None:
    async def main() -> None:
        with pytest.raises(ConfigError, match=message):
            await SharedWorld.create().session(replace(SETTINGS, **changed)).open()

    play(main())


# ---------------------------------------------------------------- by seed


async def play_campaign(seed: int, folder: Path) -> tuple[SharedWorld, set[str]]:
    """Programs come and go while the limiter is killed at any time. Return the world, and the jobs that have a row."""
    rng = Random(f"shared limits {seed}")
    world = SharedWorld.create(replace(QUICK, reply_tokens=(20, 60)), latency_s=rng.choice((0.0005, 0.002, 0.05)))
    answered: set[str] = set()

    async def program(number: int) -> None:
        await asyncio.sleep(rng.uniform(0.0, 20.0))
        shared = world.session(PRICED, folder)
        await shared.open()
        some = jobs(f"p{number % 5}", rng.randint(5, 30), max_tokens=60)  # some of them of a program before
        await shared.read_new_rows()
        found = await asyncio.gather(*(shared.session.result(one) for one in some), return_exceptions=True)
        answered.update(one["custom_id"] for one in found if isinstance(one, dict) and one["error"] is None)
        await shared.close()

    async def kill_hosts() -> None:
        for _ in range(rng.randint(0, 3)):
            await asyncio.sleep(rng.uniform(0.5, 15.0))
            world.cluster.kill_host()

    await asyncio.gather(kill_hosts(), *(program(number) for number in range(rng.randint(2, 6))))
    return world, answered


def check_campaign(seed: int, folder: Path) -> int:
    """Return how many replies there were."""
    folder.mkdir()
    world, answered = play(play_campaign(seed, folder))
    assert spent_usd(world) <= PRICED.max_cost_usd, seed  # type: ignore[operator]
    written = rows_in(folder)
    assert answered <= set(written), seed
    assert world.provider.billing.completed == len(written), seed
    return len(written)


def test_budget_is_kept_while_limiters_are_lost(tmp_path: Path) -> None:
    assert sum(check_campaign(seed, tmp_path / str(seed)) for seed in range(6)) > 100


@pytest.mark.slow
def test_budget_is_kept_in_many_campaigns(tmp_path: Path) -> None:
    for seed in range(100, 200):
        check_campaign(seed, tmp_path / str(seed))
