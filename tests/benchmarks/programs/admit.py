"""A run without HTTP: ``python admit.py COUNT FOLDER [ENDPOINTS]``.

Prints jobs a second, and microseconds of CPU a job.

Everything is wired as by the command line, but the transport answers at once, in memory. The limits are too high to
wait for, but everything is counted.
"""

from __future__ import annotations

import asyncio
import sys
import time
from pathlib import Path

import orjson
import uvloop

from processor.app import factory
from processor.app.endpoint_factory import endpoint_pool
from processor.app.job_source import open_job_files
from processor.app.outputs import open_results_file
from processor.app.plan import Plan
from processor.config.endpoint_resolution import EndpointAccess, resolve_endpoints
from processor.config.endpoint_settings import EndpointSettings
from processor.config.settings import Limits, Settings
from processor.core.events import FirstToken, RequestListener, ResponseStarted, Sent
from processor.core.models import JSON, Job, Reply, Target
from processor.cost.price_list import PriceList
from processor.output.index_entry import ANY_TARGET
from processor.scheduler import Scheduler
from processor.stats.run_stats import RunStats

MODEL = "gpt-4o-mini"
LIMITS = Limits(rpm=100_000_000.0, tpm=100_000_000.0)
HEADERS = {
    "content-type": "text/event-stream",
    "x-request-id": "req-1",
    "x-ratelimit-limit-requests": "100000000",
    "x-ratelimit-remaining-requests": "99999999",
    "x-ratelimit-reset-requests": "2ms",
    "x-ratelimit-limit-tokens": "100000000",
    "x-ratelimit-remaining-tokens": "99999000",
    "x-ratelimit-reset-tokens": "4ms",
}


def write_jobs(path: Path, count: int) -> None:
    with path.open("wb") as file:
        for n in range(count):
            file.write(orjson.dumps({"id": f"job-{n}", "model": MODEL, "prompt": f"Say {n} in words."}) + b"\n")


def body() -> JSON:
    message = {"role": "assistant", "content": "Nine hundred and ninety-nine."}
    choices = [{"index": 0, "message": message, "finish_reason": "stop"}]
    usage = {"prompt_tokens": 15, "completion_tokens": 6, "total_tokens": 21}
    first = {"id": "chatcmpl-1", "object": "chat.completion", "created": 1, "model": MODEL}
    return {**first, "choices": choices, "usage": usage}


async def answer(job: Job, target: Target, on_event: RequestListener) -> Reply:
    loop = asyncio.get_running_loop()
    on_event(Sent(loop.time()))
    await asyncio.sleep(0)
    on_event(ResponseStarted(200, HEADERS, loop.time()))
    on_event(FirstToken(loop.time()))
    return Reply(status_code=200, request_id="req-1", body=body())


def _endpoints(plan: Plan) -> tuple[list[EndpointAccess], list[Target]]:
    """How the endpoints are reached, and their targets: one simulated, or those of the plan."""
    tables = plan.settings.endpoints
    if not tables:
        return [], [Target(base_url="http://127.0.0.1/v1")]
    accesses = list(resolve_endpoints(plan.settings, {}))
    return accesses, [access.target for access in accesses]


async def serve(plan: Plan) -> None:
    stats = RunStats()
    endpoints = endpoint_pool(plan, *_endpoints(plan), stats, concurrency=plan.settings.fixed_concurrency or 10_000)
    dependencies = factory.dependencies(
        plan,
        open_job_files(plan, ()),
        open_results_file(plan, ANY_TARGET),
        answer,
        endpoints,
        stats,
        PriceList(),
    )
    await dependencies.counter.load(MODEL)
    began, cpu_began = time.perf_counter(), time.process_time()
    outcome = await Scheduler(dependencies, factory.run_options(plan)).run()
    wall_s, cpu_s = time.perf_counter() - began, time.process_time() - cpu_began
    assert outcome.exit_code == 0, outcome
    print(stats.done / wall_s, 1e6 * cpu_s / stats.done)


if __name__ == "__main__":
    jobs = Path(sys.argv[2]) / "jobs.jsonl"
    write_jobs(jobs, int(sys.argv[1]))
    several = int(sys.argv[3]) if len(sys.argv) > 3 else 1
    tables = [EndpointSettings(name=f"e{at}", base_url=f"http://127.0.0.1:{at}/v1") for at in range(1, several + 1)]
    settings = Settings(limits=LIMITS, endpoints=tuple(tables) if several > 1 else ())
    uvloop.run(serve(Plan(jobs=str(jobs), out=str(jobs.with_name("out.jsonl")), settings=settings)))
