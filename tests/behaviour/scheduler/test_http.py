"""A whole run over HTTP, on a real event loop, against a server with every kind of fault."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from pathlib import Path

import orjson
import pytest

from processor.core.models import JSON, Target, Timeouts
from processor.endpoints.endpoint import Endpoint
from processor.endpoints.pool import EndpointPool
from processor.health.endpoint_health import EndpointHealth
from processor.http.client import HttpTransport
from processor.http.settings import TransportSettings
from processor.input.job_file import JobFile
from processor.input.job_formats import JobDefaults
from processor.output.results_file import ResultsFile
from processor.ratelimit.limiter import RateLimiter
from processor.ratelimit.settings import LimitSettings
from processor.retry.backoff import Backoff
from processor.retry.policy import RetryPolicy
from processor.scheduler import Dependencies, Outcome, RunOptions, Scheduler
from processor.simulator.faults import Faults
from processor.simulator.http_server import serve
from processor.simulator.provider import SimulatedProvider
from processor.simulator.settings import SimulatorSettings
from processor.tokens.counter import TokenCounter
from tests.support.scheduler_world import to_jsonl
from tests.support.slow_cases import slow_except

MANY_JOBS, JOBS = 300, 60


ASKED: dict[str, Callable[[int], JSON]] = {
    "/v1/chat/completions": lambda number: {"messages": [{"role": "user", "content": f"Question {number}?"}]},
    "/v1/responses": lambda number: {"input": f"Question {number}?"},
    "/v1/messages": lambda number: {
        "max_tokens": 1000,
        "messages": [{"role": "user", "content": f"Question {number}?"}],
    },
    "/v1/embeddings": lambda number: {"input": [f"Question {number}?", "and another"]},
    "/v1/moderations": lambda number: {"input": [f"Question {number}?", "and another"]},
}
"""By API path: what a job asks."""


async def run(jobs: Path, out: Path, provider: SimulatedProvider) -> Outcome:
    server = await serve(provider)
    source = JobFile(str(jobs), JobDefaults())
    policy = RetryPolicy(backoff=Backoff(min_s=0.01, max_s=0.1))
    try:
        async with HttpTransport(
            TransportSettings(timeouts=Timeouts(first_byte_timeout_s=2.0, stall_timeout_s=0.5))
        ) as transport:
            deps = Dependencies(
                source=aiter(source),
                read_again=None,
                source_name=jobs.name,
                sink=ResultsFile.open(out),
                endpoints=EndpointPool(
                    Endpoint(
                        Target(base_url=server.base_url),
                        RateLimiter(LimitSettings(), emit=lambda event: None, concurrency=64),
                        EndpointHealth(policy, lambda event: None, endpoint="", max_outage_s=3600.0),
                    )
                ),
                transport=transport,
                counter=TokenCounter(None, asyncio.to_thread),
                emit=lambda event: None,
                wall_clock=time.time,
            )
            return await Scheduler(deps, RunOptions()).run()
    finally:
        source.close()
        await server.close()


def _other_names(usage: JSON) -> JSON:
    return {"input_tokens": usage["prompt_tokens"], "output_tokens": usage["completion_tokens"]}


def read(path: Path) -> dict[str, JSON]:
    rows = [orjson.loads(line) for line in path.read_bytes().splitlines()] if path.exists() else []
    found = {row["custom_id"]: row for row in rows}
    assert len(found) == len(rows), "a job has two rows"
    return found


def play(folder: Path, path: str, count: int) -> tuple[Outcome, SimulatedProvider, dict[str, JSON], dict[str, JSON]]:
    """Return how the run ended, the provider, and the replies and the failed rows by custom_id."""
    jobs, out = folder / "jobs.jsonl", folder / "results.jsonl"
    asked = ({"id": f"job-{n}", "url": path, "model": "gpt-4o", **ASKED[path](n)} for n in range(count))
    jobs.write_bytes(to_jsonl(asked))
    # Each burst of 429s holds all requests back for half a second: with more of them the test would mostly wait.
    provider = SimulatedProvider(
        SimulatorSettings(
            seed=3,
            track_identities=True,
            faults=Faults.parse("all=0.05,burst_429=0.01"),
            first_token_s=0.01,
            speed_tps=5000.0,
            write_batch_s=0.01,
        )
    )
    outcome = asyncio.run(run(jobs, out, provider))
    return outcome, provider, read(out), read(folder / "results.errors.jsonl")


@pytest.mark.parametrize(
    "case",
    slow_except(
        [("/v1/chat/completions", MANY_JOBS), *((path, JOBS) for path in ASKED)], ("/v1/chat/completions", JOBS)
    ),
    ids=lambda case: f"{case[1]} jobs of {case[0]}",
)
def test_every_job_has_one_row_over_http_with_every_fault_at_five_percent(
    case: tuple[str, int], tmp_path: Path
) -> None:
    path, count = case
    outcome, provider, replied, failed = play(tmp_path, path, count)
    assert outcome.exit_code == (1 if failed else 0)
    assert replied.keys() | failed.keys() == {f"job-{number}" for number in range(count)}
    assert not replied.keys() & failed.keys()
    for row in replied.values():
        request = {"model": "gpt-4o", **ASKED[path](row["line"] - 1)}
        expected = provider.expected_body(path, request)
        body = row["response"]["body"]
        if row["usage_source"] == "computed" and "usage" in expected:
            expected["usage"] = body["usage"]
            assert body["usage"].items() <= (row["usage"] | _other_names(row["usage"])).items()
        assert body == expected
    assert all("the last of 6 failed attempts" in row["error"]["message"] for row in failed.values())
    assert provider.billing.completed == len(replied)
    assert len(provider.billing.faults) >= (14 if count == MANY_JOBS else 8), "too few faults to test anything"
