"""A session returns the row of each job that a program hands over, on the virtual clock."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from processor import ConfigError, RunStopped, Session, Settings
from processor.core.errors import UrlNotFound
from processor.core.events import AttemptStarted, RequestListener, RunFinished, RunStarted
from processor.core.models import JSON, Job, Reply, Target
from processor.scheduler.dependencies import LOOK_AHEAD
from processor.session.result_stream import MAX_QUEUED
from processor.simulator.faults import Faults
from processor.simulator.memory_transport import MemoryTransport
from processor.simulator.settings import Outage
from tests.support.session_world import FAST_PROVIDER, SETTINGS, Sessions, job, play
from tests.support.slow_cases import slow_except

KEYS = ["id", "custom_id", "response", "error", "usage", "usage_source", "attempts", "timing", "cost_usd", "line"]


def test_result_returns_the_row_of_a_job_as_in_a_results_file() -> None:
    sessions = Sessions()

    async def main() -> JSON:
        async with sessions.open() as session:
            return await session.result(job(1, metadata={"n": 1}))

    row = play(main())
    assert list(row)[: len(KEYS)] == KEYS
    assert (row["custom_id"], row["error"], row["attempts"], row["line"]) == ("job-1", None, 1, 1)
    assert row["metadata"] == {"n": 1}
    request = {"model": "m", "messages": [{"role": "user", "content": "Question 1?"}]}
    assert row["response"]["body"] == sessions.provider.expected_body("/v1/chat/completions", request)


def test_results_yields_a_row_for_each_job_of_a_generator() -> None:
    sessions = Sessions()

    async def main() -> list[JSON]:
        async with sessions.open() as session:
            return [row async for row in session.results(job(number) for number in range(300))]

    rows = play(main())
    assert {row["custom_id"] for row in rows} == {f"job-{number}" for number in range(300)}
    assert sessions.requests == len(rows) == 300


def test_results_takes_an_asynchronous_iterable_and_answers_while_that_waits() -> None:
    sessions = Sessions()
    seen: list[str] = []

    async def jobs() -> AsyncIterator[JSON]:
        for number in range(3):
            yield job(number)
            await asyncio.sleep(60)
            seen.append(f"after {number}")

    async def main() -> None:
        async with sessions.open() as session:
            async for row in session.results(jobs()):
                seen.append(row["custom_id"])  # noqa: PERF401 - in the order of events

    play(main())
    assert seen == ["job-0", "after 0", "job-1", "after 1", "job-2", "after 2"]


def test_rows_come_as_they_finish() -> None:
    sessions = Sessions(replace(FAST_PROVIDER, reply_tokens=(3, 400), speed_tps=20.0))

    async def main() -> list[JSON]:
        return await sessions.rows_of([job(number) for number in range(40)])

    rows = play(main())
    ends = [row["timing"]["queued_s"] + row["timing"]["total_s"] for row in rows]
    assert ends == sorted(ends)
    assert [row["line"] for row in rows] != sorted(row["line"] for row in rows)


def test_concurrent_calls_share_one_rate_limit() -> None:
    sessions = Sessions(replace(FAST_PROVIDER, rpm=60, kind="sliding"))
    settings = replace(SETTINGS, limits=replace(SETTINGS.limits, rpm=60))

    async def main() -> list[JSON]:
        async with sessions.open(settings) as session:
            calls = [session.result(job(number)) for number in range(60)]
            rows = await asyncio.gather(*calls)
            more = [row async for row in session.results([job(number) for number in range(60, 90)])]
            return [*rows, *more]

    rows = play(main())
    assert len(rows) == 90
    assert sessions.requests == 90
    starts = sorted(event.at for event in sessions.events_of(AttemptStarted))
    assert all(later - start >= 59.0 for start, later in zip(starts, starts[60:], strict=False))


def test_failures_are_rows() -> None:
    sessions = Sessions(replace(FAST_PROVIDER, faults=Faults({"error_500": 1.0})))
    settings = replace(SETTINGS, max_attempts=2)
    objects: list[Any] = [job(1), {"id": "x"}, {"prompt": float("nan")}, {"prompt": {1}}, "text"]

    async def main() -> list[JSON]:
        async with sessions.open(settings) as session:
            return [await session.result(each) for each in objects]

    rows = play(main())
    codes = ["server_error", "invalid_job", "invalid_json", "invalid_job", "not_an_object"]
    assert [row["error"]["code"] for row in rows] == codes
    assert rows[0]["attempts"] == 2
    assert rows[1]["custom_id"] == "x"
    assert rows[1]["error"]["message"].startswith("has neither body, messages nor prompt")
    assert rows[3]["error"]["message"] == "cannot be written as JSON: it holds set {1}"
    assert all(row["response"] is None for row in rows[1:])


def test_equal_jobs_without_ids_are_numbered_and_ids_may_come_again() -> None:
    """Nothing is kept that a second job with the same id would clash with."""
    sessions = Sessions()

    async def main() -> list[str]:
        rows = await sessions.rows_of([{"prompt": "a"}, {"prompt": "a"}, job(1), job(1)])
        return [row["custom_id"] for row in rows]

    names = play(main())
    assert len(names) == 4
    assert names.count("job-1") == 2
    first = min((name for name in names if name != "job-1"), key=len)
    assert f"{first}-2" in names


def test_changing_an_object_after_it_was_handed_over_changes_nothing() -> None:
    sessions = Sessions()

    async def main() -> JSON:
        async with sessions.open() as session:
            mine = job(1, metadata={"list": [1]})
            call = asyncio.ensure_future(session.result(mine))
            await asyncio.sleep(0)
            mine["prompt"] = "another"
            mine["metadata"]["list"].append(2)
            return await call

    row = play(main())
    assert row["metadata"] == {"list": [1]}
    request = {"model": "m", "messages": [{"role": "user", "content": "Question 1?"}]}
    assert row["response"]["body"] == sessions.provider.expected_body("/v1/chat/completions", request)


# ------------------------------------------------------------ bounded


def endless(taken: list[int]) -> Iterator[JSON]:
    number = 0
    while True:
        number += 1
        taken.append(number)
        yield job(number)


@pytest.mark.parametrize("concurrency", slow_except([1, 50], 50))
def test_results_reads_only_so_far_ahead_of_an_endless_generator(concurrency: int) -> None:
    sessions = Sessions()
    taken: list[int] = []

    async def main() -> None:
        async with sessions.open(replace(SETTINGS, concurrency=concurrency)) as session:
            rows = session.results(endless(taken))
            async for _ in rows:
                break
            await asyncio.sleep(3600)
            await rows.aclose()

    play(main())
    unread = LOOK_AHEAD + MAX_QUEUED + 2
    assert len(taken) <= unread + LOOK_AHEAD + concurrency
    assert sessions.requests <= LOOK_AHEAD + concurrency + unread


def test_leaving_results_early_withdraws_what_was_not_sent() -> None:
    sessions = Sessions()

    async def main() -> int:
        async with sessions.open(replace(SETTINGS, concurrency=2)) as session:
            rows = session.results(endless([]))
            async for _ in rows:
                break
            await rows.aclose()
            sent = sessions.requests
            await asyncio.sleep(3600)
            assert sessions.requests <= sent + 2
            row = await session.result(job(0))
            assert row["error"] is None
            return sessions.requests

    assert play(main()) <= 6


def test_cancelled_call_that_was_not_sent_is_withdrawn() -> None:
    sessions = Sessions()

    async def main() -> list[JSON]:
        async with sessions.open(replace(SETTINGS, concurrency=1)) as session:
            first, second, third = (asyncio.ensure_future(session.result(job(number))) for number in range(3))
            await asyncio.sleep(0.1)
            second.cancel()
            rows = [await first, await third]
            assert second.cancelled()
            return rows

    assert len(play(main())) == sessions.requests == 2


def test_error_of_the_iterable_is_raised_to_the_caller_after_the_rows_that_there_are() -> None:
    sessions = Sessions()

    def jobs() -> Iterator[JSON]:
        yield job(1)
        raise LookupError("no more")

    async def main() -> None:
        async with sessions.open() as session:
            with pytest.raises(LookupError, match="no more"):
                async for _ in session.results(jobs()):
                    pass
            assert (await session.result(job(2)))["error"] is None
            assert session.stopped is None

    play(main())


# ------------------------------------------------------------ stopped


def test_refused_key_stops_the_session() -> None:
    sessions = Sessions(replace(FAST_PROVIDER, auth="refused"))

    async def main() -> str:
        async with sessions.open() as session:
            assert session.stopped is None
            with pytest.raises(RunStopped) as stopped:
                await session.result(job(1))
            assert session.stopped == str(stopped.value)
            requests = sessions.requests
            with pytest.raises(RunStopped):
                await session.result(job(2))
            with pytest.raises(RunStopped):
                async for _ in session.results(endless([])):
                    pass
            assert sessions.requests == requests
            return session.stopped or ""

    assert "refused" in play(main())


@pytest.mark.parametrize("count", [20, 2000])
def test_spent_quota_answers_what_is_in_flight_and_then_stops(count: int) -> None:
    sessions = Sessions(replace(FAST_PROVIDER, quota=10))
    rows: list[JSON] = []

    async def main() -> None:
        async with sessions.open(replace(SETTINGS, concurrency=4)) as session:
            with pytest.raises(RunStopped, match="quota"):
                async for row in session.results(job(number) for number in range(count)):
                    rows.append(row)  # noqa: PERF401 - it raises at the end

    play(main())
    assert 7 <= len(rows) <= 10
    assert all(row["error"] is None for row in rows)


def test_every_caller_is_told_that_the_session_has_stopped_whatever_its_job_waits_for() -> None:
    """In flight, for a permit, to be read further, or in the queue."""
    sessions = Sessions(replace(FAST_PROVIDER, quota=10))
    seconds: list[float] = []

    async def main() -> list[Any]:
        async with sessions.open(replace(SETTINGS, concurrency=4)) as session:
            calls = [session.result(job(number)) for number in range(LOOK_AHEAD * 2)]
            outcomes = await asyncio.gather(*calls, return_exceptions=True)
            seconds.append(asyncio.get_running_loop().time())
            return outcomes

    outcomes = play(main())
    assert 7 <= sum(isinstance(outcome, dict) for outcome in outcomes) <= 10
    assert all("quota" in str(outcome) for outcome in outcomes if not isinstance(outcome, dict))
    assert seconds[0] < SETTINGS.grace_s


def test_unknown_model_is_found_at_once_and_does_not_stop_other_models() -> None:
    """A session has no end of its jobs at which that could be decided."""
    sessions = Sessions(replace(FAST_PROVIDER, models=("m",)))

    async def main() -> None:
        async with sessions.open() as session:
            with pytest.raises(RunStopped, match="nobody"):
                await session.result(job(1, model="nobody"))
            assert "nobody" in (session.stopped or "")
            with pytest.raises(RunStopped, match="nobody"):
                await session.result(job(2, model="nobody"))
            assert (await session.result(job(3)))["error"] is None
            assert session.stopped is None

    play(main())
    assert sessions.requests == 2


def test_job_that_is_refused_after_replies_of_its_model_gets_a_failed_row() -> None:
    sessions = Sessions()
    inner = MemoryTransport(sessions.provider)

    async def send(sent: Job, target: Target, on_event: RequestListener) -> Reply:
        if sent.custom_id.startswith("bad"):
            raise UrlNotFound("404: no such file", status=404)
        return await inner(sent, target, on_event)

    async def main() -> None:
        async with sessions.open(transport=send) as session:
            assert (await session.result(job(1)))["error"] is None
            for number in range(40):
                row = await session.result(job(number, id=f"bad-{number}"))
                assert row["error"]["code"] == "rejected"
                assert (await session.result(job(number)))["error"] is None
            assert session.stopped is None

    play(main())


def test_outage_is_waited_for() -> None:
    sessions = Sessions(replace(FAST_PROVIDER, outages=(Outage(from_s=1.0, to_s=600.0, kind="503"),)))

    async def main() -> list[JSON]:
        async with sessions.open() as session:
            await session.result(job(0))
            await asyncio.sleep(1.0)
            return [row async for row in session.results(job(number) for number in range(1, 50))]

    rows = play(main())
    assert len(rows) == 49
    assert all(row["error"] is None for row in rows)


# ------------------------------------------------------------ opening and closing


def test_closing_cancels_what_is_in_flight_and_raises_in_those_who_wait() -> None:
    sessions = Sessions()
    in_flight = 0

    async def send(sent: Job, target: Target, on_event: RequestListener) -> Reply:
        nonlocal in_flight
        in_flight += 1
        try:
            await asyncio.sleep(1000)
        finally:
            in_flight -= 1
        raise AssertionError

    async def main() -> list[Any]:
        async with sessions.open(replace(SETTINGS, concurrency=3), transport=send) as session:
            calls = [asyncio.ensure_future(session.result(job(number))) for number in range(10)]
            rows = session.results(endless([]))
            waiting = asyncio.ensure_future(anext(rows))
            await asyncio.sleep(10)
            assert in_flight == 3
        assert in_flight == 0
        assert asyncio.get_running_loop().time() < 12
        return await asyncio.gather(*calls, waiting, return_exceptions=True)

    outcomes = play(main())
    assert len(outcomes) == 11
    assert all(isinstance(outcome, RunStopped) and "closed" in str(outcome) for outcome in outcomes)


def test_session_that_ended_leaves_no_task() -> None:
    sessions = Sessions()

    async def main() -> set[str]:
        async with sessions.open() as session:
            async for _ in session.results(endless([])):
                break
        await asyncio.sleep(0)
        return {task.get_name() for task in asyncio.all_tasks() if task is not asyncio.current_task()}

    assert play(main()) == set()


def test_closed_session_sends_nothing() -> None:
    sessions = Sessions()

    async def main() -> None:
        async with sessions.open() as session:
            pass
        assert session.stopped == "the session is closed"
        with pytest.raises(RunStopped, match="closed"):
            await session.result(job(1))
        with pytest.raises(RuntimeError, match="once"):
            await session.__aenter__()

    play(main())
    assert sessions.requests == 0


def test_session_that_was_not_entered_says_so() -> None:
    async def main() -> None:
        with pytest.raises(RuntimeError, match="enter the session first"):
            await Session(SETTINGS).result(job(1))

    play(main())


def test_session_without_settings_has_those_that_the_program_would_find(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "config.toml").write_text('model = "from-the-file"\nencoding = "p50k_base"\n')
    environ = {"OPENAI_BASE_URL": "http://127.0.0.1:9/v1", "XDG_CONFIG_HOME": str(tmp_path)}
    transport = MemoryTransport(Sessions().provider)

    async def main() -> JSON:
        async with Session(transport=transport, environ=environ) as session:
            return await session.result({"prompt": "Hello"})

    row = play(main())
    assert (row["asked_model"], row["endpoint"]) == ("from-the-file", "http://127.0.0.1:9/v1/chat/completions")


def test_session_is_refused_to_another_event_loop() -> None:
    sessions = Sessions()

    async def main() -> None:
        async with sessions.open() as session:
            with pytest.raises(RuntimeError, match="the event loop in which it was entered"):
                await asyncio.get_running_loop().run_in_executor(None, asyncio.run, session.result(job(1)))

    asyncio.run(main())


def test_session_needs_a_key_as_a_run_does() -> None:
    async def main() -> None:
        with pytest.raises(ConfigError, match="OPENAI_API_KEY"):
            async with Session(Settings(model="m"), environ={}):
                raise AssertionError

    play(main())


def test_listeners_hear_the_beginning_and_the_end() -> None:
    sessions = Sessions()
    play(sessions.rows_of([job(1)]))
    assert isinstance(sessions.events[0], RunStarted)
    assert type(sessions.events[-1]) is RunFinished
    assert [(end.exit_code, end.reason) for end in sessions.events_of(RunFinished)] == [(0, None)]
