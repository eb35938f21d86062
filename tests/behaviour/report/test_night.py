"""The report on a night of three runs says what the provider knows: a kill, an outage, faults, two models."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest

import processor
from processor.config.price_settings import ModelPrices
from processor.report.data import ReportOptions
from processor.report.make_report import make_report
from processor.report.run_history import RunRecord, summed
from processor.simulator.faults import Faults
from processor.simulator.memory_transport import MemoryTransport
from processor.simulator.provider import SimulatedProvider
from processor.simulator.settings import Outage, SimulatorSettings
from processor.simulator.virtual_clock import VirtualLoop

JOBS = 600
CHAT = "/v1/chat/completions"
KILLED_AT_S = 61.0
OUTAGE = Outage(from_s=30.0, to_s=330.0, kind="503")
LIMIT_OF_SECOND_RUN = 400
PRICES = {"gpt-4o": ModelPrices(input=2.5, output=10.0), "gpt-4o-mini": ModelPrices(input=0.15, output=0.6)}
PROVIDER = SimulatorSettings(
    rpm=200,
    faults=Faults({"error_500": 0.02, "cut": 0.01, "in_band_error": 0.01, "reset_mid": 0.01}),
)


class RunLoop(VirtualLoop):
    """A virtual clock for a whole run: what it does in threads is done at once."""

    def run_in_executor(self, executor: Any, func: Any, *args: Any) -> asyncio.Future[Any]:  # type: ignore[override]
        future = self.create_future()
        try:
            future.set_result(func(*args))
        except OSError as error:
            future.set_exception(error)
        return future


def job(number: int) -> dict[str, Any]:
    model = "gpt-4o" if number % 3 == 0 else "gpt-4o-mini"
    return {"id": f"job-{number}", "model": model, "prompt": f"Question {number}?", "max_tokens": 60}


@pytest.fixture
def plan(tmp_path: Path) -> processor.Plan:
    lines = [*(json.dumps(job(number)) for number in range(JOBS)), "no job", '{"id": "without a prompt"}']
    (tmp_path / "jobs.jsonl").write_text("".join(f"{line}\n" for line in lines))
    settings = processor.Settings(base_url="https://night.test/v1", prices=PRICES, concurrency=40)
    return processor.Plan(
        jobs=str(tmp_path / "jobs.jsonl"), out=str(tmp_path / "r.jsonl"), settings=settings, quiet=True
    )


def play(plan: processor.Plan, provider: SimulatedProvider, on_start: Callable[[], object] = lambda: None) -> int:
    async def main() -> int:
        on_start()
        return await processor.run_async(plan, {}, transport=MemoryTransport(provider))

    with asyncio.Runner(loop_factory=RunLoop) as runner:
        return runner.run(main())


def play_until_killed(plan: processor.Plan, provider: SimulatedProvider, known: Path) -> int:
    """Run it in a process of its own, which is killed. Return the requests that the provider has counted."""

    def die() -> None:
        known.write_text(str(provider.billing.requests))
        os.kill(os.getpid(), signal.SIGKILL)

    child = os.fork()
    if child == 0:
        try:
            play(plan, provider, lambda: asyncio.get_running_loop().call_later(KILLED_AT_S, die))
        finally:
            os._exit(1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == -signal.SIGKILL
    return int(known.read_text())


@dataclass(frozen=True, slots=True)
class Usage:
    """What one model is known to have used."""

    replies: int
    prompt_tokens: int
    completion_tokens: int
    cost_usd: float


def known_usage(provider: SimulatedProvider, model: str) -> Usage:
    """From the replies that the provider gives where no fault comes between."""
    bodies = []
    for number in range(JOBS):
        if (fields := job(number))["model"] == model:
            messages = [{"role": "user", "content": fields["prompt"]}]
            request = {"model": model, "messages": messages, "max_tokens": fields["max_tokens"], "stream": True}
            bodies.append(provider.expected_body(CHAT, request))
    prompt = sum(body["usage"]["prompt_tokens"] for body in bodies)
    completion = sum(body["usage"]["completion_tokens"] for body in bodies)
    price = PRICES[model]
    cost_usd = (prompt * (price.input or 0.0) + completion * (price.output or 0.0)) / 1e6
    return Usage(len(bodies), prompt, completion, cost_usd)


def check_history(run: RunRecord, provider: SimulatedProvider) -> None:
    """What the lines of a run's minutes add up to."""
    billing = provider.billing
    assert sum(period.requests for period in run.periods) == billing.requests
    refused = summed(period.refused for period in run.periods)
    stream_errors = billing.faults["in_band_error"]
    # An error in a stream counts by the status in it.
    assert sum(refused.values()) == stream_errors + sum(
        count for status, count in billing.statuses.items() if status >= 300
    )
    assert refused.get("429", 0) == billing.statuses[429]
    errors = stream_errors + sum(count for status, count in billing.statuses.items() if status >= 500)
    retried = summed(period.retried for period in run.periods)
    assert retried["server_error"] == errors
    assert retried.get("rate_limited", 0) == billing.statuses[429]


@pytest.mark.slow
@pytest.mark.process
@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere a fork of a process with threads may fail")
@pytest.mark.filterwarnings("ignore:.*multi-threaded.*:DeprecationWarning")
def test_report_on_a_night_says_what_the_provider_knows(
    plan: processor.Plan, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("processor.report.assets.find_spec", lambda name: None)  # drawing charts takes seconds
    requests_of_first = play_until_killed(plan, SimulatedProvider(PROVIDER), tmp_path / "known")
    second = SimulatedProvider(replace(PROVIDER, outages=(OUTAGE,)))
    assert play(replace(plan, limit=LIMIT_OF_SECOND_RUN), second) == 0
    third = SimulatedProvider(PROVIDER)
    assert play(plan, third) == 1

    page = tmp_path / "page.html"
    data = make_report(tmp_path / "r.jsonl", page, ReportOptions())
    assert (data.rows.replies, dict(data.rows.failures_by_code)) == (JOBS, {"invalid_json": 1, "invalid_job": 1})
    requests = requests_of_first + second.billing.requests + third.billing.requests
    assert data.rows.attempts == requests
    used = {model: known_usage(third, model) for model in PRICES}
    for (model, endpoint), counts in data.rows.by_model.items():
        assert endpoint == f"https://night.test{CHAT}"
        assert counts.cost_usd == pytest.approx(used[model].cost_usd)
        found = Usage(counts.replies, counts.prompt_tokens, counts.completion_tokens, used[model].cost_usd)
        assert found == used[model]
    killed, with_outage, last = data.runs
    assert sum(period.requests for period in killed.periods) <= requests_of_first, "counted to its last full minute"
    for run, provider in ((with_outage, second), (last, third)):
        check_history(run, provider)
    assert any(period.outages for period in with_outage.periods)
    assert not any(period.outages for period in (*killed.periods, *last.periods))

    text = page.read_text()
    cost_usd = sum(usage.cost_usd for usage in used.values())
    completion = sum(usage.completion_tokens for usage in used.values())
    for number in (f"{JOBS:,}", f"{requests:,}", f"{cost_usd:.2f}", f"{completion:,}", "1 invalid_json"):
        assert number in text
