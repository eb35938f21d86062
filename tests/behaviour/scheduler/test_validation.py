"""Runs that check replies, against a provider that is wrong at a set rate."""

from __future__ import annotations

from collections import Counter
from typing import Any

import orjson
import pytest

from processor.core.events import AttemptFinished, ReplyInvalid
from processor.core.models import JSON
from processor.cost.price_list import PriceList
from processor.protocols import protocol_for
from processor.scheduler.scheduler import Scheduler
from processor.simulator.faults import Faults
from processor.simulator.settings import SimulatorSettings
from tests.support.scheduler_world import RunRecord, World, kill_at
from tests.support.slow_cases import slow_except
from tests.support.tariffs import a_million_tokens_cost

SCHEMA = {
    "type": "object",
    "properties": {"label": {"enum": ["good", "bad"]}, "score": {"type": "integer"}},
    "required": ["label", "score"],
    "additionalProperties": False,
}
CONCURRENCY = 8
MODELS = ("m0", "m1", "m2")
PRICES = PriceList(dict.fromkeys(MODELS, a_million_tokens_cost(1)))


def job(number: int, **more: Any) -> JSON:
    schema = {"type": "json_schema", "json_schema": {"name": "verdict", "schema": SCHEMA}}
    asked = [{"role": "user", "content": f"Question {number}?"}]
    return {"custom_id": f"job-{number}", "model": "m", "messages": asked, "response_format": schema, **more}


def world(rate: float, **faults: float) -> World:
    rates = {"invalid_json": rate, **faults}
    return World(SimulatorSettings(faults=Faults(rates), write_batch_s=1.0, reply_tokens=(3, 30)))


def output(row: JSON) -> str:
    body = row["response"]["body"]
    (text,) = protocol_for("/v1/chat/completions").outputs(body, {})
    return text


def is_valid(text: str) -> bool:
    try:
        value: JSON = orjson.loads(text)
    except ValueError:
        return False
    return set(value) == {"label", "score"}


def test_replies_that_are_not_valid_are_asked_again_and_each_request_is_sent_once() -> None:
    provider = world(0.4)
    run = provider.run([job(number) for number in range(150)], max_invalid=2)
    rows, failures = provider.rows(), provider.failures()
    assert run.exit_code == 1
    assert len(rows) + len(failures) == 150
    assert all(is_valid(output(row)) and row["validation"]["asks"] == row["attempts"] <= 3 for row in rows)
    assert {row["error"]["code"] for row in failures} == {"invalid_output"}
    assert not any(is_valid(output(row)) for row in failures)
    asked_out = [row for row in failures if row["validation"]["asks"] == 3]
    refused = [row for row in failures if "refused" in row["error"]["message"]]
    assert len(asked_out) + len(refused) >= len(failures)
    assert 2 < len(asked_out) < 22  # of 150, 0.4 ** 3 are expected: 10
    every = [*rows, *failures]
    assert len(run.sent) == sum(row["attempts"] for row in every) == sum(row["validation"]["asks"] for row in every)
    assert set(provider.provider.billing.requests_by_identity.values()) == {1}, "no request is sent twice"
    invalid = run.events_of(ReplyInvalid)
    assert sum(event.is_asked_again for event in invalid) == len(run.sent) - 150
    assert len(invalid) == len(run.sent) - len(rows)


def test_row_sums_the_tokens_of_all_replies() -> None:
    provider = world(0.5)
    provider.run([job(number) for number in range(40)], max_invalid=5)
    asked_again = [row for row in provider.rows() if row["attempts"] > 1]
    assert asked_again
    every = provider.rows() + provider.failures()
    billed = sum(row["validation"]["billed_usage"]["completion_tokens"] for row in every)
    assert billed == provider.provider.billing.completion_tokens
    for row in asked_again:
        assert row["validation"]["billed_usage"]["prompt_tokens"] > row["response"]["body"]["usage"]["prompt_tokens"]


def test_job_that_is_asked_again_holds_its_place_among_those_in_flight() -> None:
    provider = world(0.6)
    run = provider.run([job(number) for number in range(100)], max_invalid=40, concurrency=CONCURRENCY)
    assert run.max_in_flight <= CONCURRENCY + len(provider.failures())  # a failed row is not seen by the observer


@pytest.mark.parametrize("seed", [0, *(pytest.param(seed, marks=pytest.mark.slow) for seed in range(1, 6))])
def test_killed_runs_lose_no_job_and_ask_no_answered_one_again(seed: int) -> None:
    provider = world(0.4, error_500=0.05, cut=0.05)
    jobs = [job(number) for number in range(120)]
    answered: set[str] = set()
    runs: list[RunRecord] = []
    for number in range(6):
        on_start = kill_at(1.0 + 0.37 * seed + 0.2 * number) if number < 5 else None
        options = {} if on_start is None else {"on_start": on_start}
        run = provider.run(jobs, max_invalid=2, concurrency=CONCURRENCY, **options)  # type: ignore[arg-type]
        assert not answered & {name for _, name, _ in run.sent}
        answered = {row["custom_id"] for row in provider.rows() + provider.failures()}
        if runs:
            assert (run.possibly_billed or 0) <= CONCURRENCY
        runs.append(run)
    assert runs[-1].exit_code == 1
    names = Counter(row["custom_id"] for row in provider.rows() + provider.failures())
    assert names == Counter(f"job-{number}" for number in range(120))
    assert all(is_valid(output(row)) for row in provider.rows())


@pytest.mark.parametrize("moments", slow_except([range(0, 20, 3), range(1, 20, 3), range(2, 20, 3)], range(0, 20, 3)))
@pytest.mark.parametrize("max_cost_usd", slow_except([None, 100.0], 100.0), ids=["one endpoint", "dispatcher"])
def test_jobs_that_are_asked_again_keep_their_slots_from_retries_and_other_models(
    max_cost_usd: float | None, moments: range
) -> None:
    jobs = [job(number, model=MODELS[number % 3], max_tokens=200) for number in range(150)]
    for number in moments:
        provider = world(0.6, error_500=0.1)
        provider.run(
            jobs,
            max_invalid=4,
            concurrency=CONCURRENCY,
            on_start=kill_at(2.0 + 0.17 * number),
            max_cost_usd=max_cost_usd,
            prices=PRICES,
        )
        possibly_billed = provider.run([], max_invalid=4).possibly_billed
        assert possibly_billed is not None
        assert 0 < possibly_billed <= CONCURRENCY


def stop_at(at: float, grace_s: float) -> Any:
    def on_start(run: Scheduler) -> None:
        run._loop.call_at(at, lambda: run.stop("interrupted", exit_code=130, grace_s=grace_s))

    return on_start


def test_stopped_run_lets_jobs_in_flight_be_asked_again() -> None:
    provider = world(0.9)
    run = provider.run([job(number) for number in range(50)], max_invalid=3, on_start=stop_at(1.5, 3600.0))
    assert run.exit_code == 130
    names = {name for _, name, _ in run.sent}
    assert names == {row["custom_id"] for row in provider.rows() + provider.failures()}, "whoever was sent has its row"
    assert any(row["validation"]["asks"] == 4 for row in provider.failures())


def test_grace_period_ends_jobs_that_wait_to_be_asked_again() -> None:
    provider = world(0.9)
    run = provider.run([job(number) for number in range(50)], max_invalid=1000, on_start=stop_at(1.5, 2.0))
    assert run.exit_code == 130
    assert run.took_s < 5.0
    left = {name for _, name, _ in run.sent} - {row["custom_id"] for row in provider.rows() + provider.failures()}
    assert left
    possibly_billed = provider.run([], max_invalid=2).possibly_billed
    assert possibly_billed is not None
    assert 0 < possibly_billed <= len(left), "those that were waiting to be sent again are not in flight"


def test_failure_of_a_later_request_keeps_the_reply_and_is_sent_again_by_the_next_run() -> None:
    provider = world(1.0)
    first = provider.run([job(1)], max_invalid=1)
    (row,) = provider.failures()
    assert row["own_fault"]
    assert len(first.sent) == 2

    def fails_from_second(transport: Any) -> Any:
        async def send(sent_job: Any, target: Any, on_event: Any) -> Any:
            if len(sent_job.body["messages"]) > 1:
                return await provider.transport(SimulatorSettings(faults=Faults({"error_500": 1.0})))(
                    sent_job, target, on_event
                )
            return await transport(sent_job, target, on_event)

        return send

    provider = world(1.0)
    run = provider.run([job(1)], max_invalid=1, wrap_transport=fails_from_second)
    (row,) = provider.failures()
    assert row["error"]["code"] == "invalid_output"
    assert "asking again failed: server_error" in row["error"]["message"]
    assert row["attempts"] == len(run.sent) == 7
    assert row["validation"]["asks"] == 1
    assert output(row)
    assert "own_fault" not in row
    assert len(provider.run([job(1)], max_invalid=1).sent) == 2


def test_cut_reply_is_not_asked_again() -> None:
    provider = world(0.0)
    run = provider.run([job(0, max_tokens=1)], max_invalid=5)
    (row,) = provider.failures()
    assert len(run.sent) == 1
    assert "limit of output tokens" in row["error"]["message"]
    assert [event.outcome for event in run.events_of(AttemptFinished)] == ["success"]


def test_job_without_a_schema_is_not_checked_and_one_with_an_invalid_schema_not_sent() -> None:
    provider = world(1.0)
    plain = {"id": "plain", "model": "m", "prompt": "Hi"}
    broken = job(1, response_format={"type": "json_schema", "json_schema": {"name": "x", "schema": {"type": "x"}}})
    run = provider.run([plain, broken], max_invalid=2)
    assert [name for _, name, _ in run.sent] == ["plain"]
    assert "validation" not in provider.rows()[0]
    (row,) = provider.failures()
    assert row["error"]["code"] == "invalid_schema"
    assert (row["response"], row["timing"], row["attempts"]) == (None, None, 0)
    assert provider.run([plain, broken], max_invalid=2).sent == []


def test_with_max_invalid_0_nothing_is_asked_again() -> None:
    provider = world(1.0)
    run = provider.run([job(number) for number in range(5)], max_invalid=0)
    assert len(run.sent) == len(provider.failures()) == 5
