"""The transport against the simulated provider over HTTP, which knows each expected reply."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from processor.core.errors import RequestError
from processor.core.models import JSON, Job, Target, Timeouts
from processor.core.secrets import Secret
from processor.http.client import HttpTransport
from processor.http.settings import TransportSettings
from processor.simulator.faults import Faults
from processor.simulator.http_server import serve
from processor.simulator.provider import SimulatedProvider
from processor.simulator.settings import SimulatorSettings

TOOL = {"type": "function", "function": {"name": "look_up", "parameters": {"type": "object", "properties": {}}}}
JOB_KINDS: tuple[tuple[str, JSON], ...] = (
    ("/v1/chat/completions", {}),
    ("/v1/chat/completions", {"n": 3}),
    ("/v1/chat/completions", {"tools": [TOOL], "tool_choice": "required"}),
    ("/v1/completions", {"n": 2}),
    ("/v1/chat/completions", {"stream": False}),
)


def make_job(number: int) -> Job:
    path, options = JOB_KINDS[number % len(JOB_KINDS)]
    question: JSON = {"messages": [{"role": "user", "content": f"Question {number}?"}]}
    if path == "/v1/completions":
        question = {"prompt": f"Question {number}:"}
    body = {"model": "gpt-4o-mini", **question, "max_tokens": 40, **options}
    return Job(line=number, custom_id=str(number), fingerprint="0" * 32, path=path, model="gpt-4o-mini", body=body)


async def send_all(faults: str, jobs: int, attempts: int) -> tuple[dict[int, JSON], list[str], SimulatedProvider]:
    """Returns the replies by job, the codes of the errors, and the provider."""
    settings = SimulatorSettings(
        first_token_s=0.001, speed_tps=20_000, faults=Faults.parse(faults), reply_tokens=(5, 60)
    )
    provider = SimulatedProvider(settings)
    server = await serve(provider)
    target = Target(base_url=server.base_url, key=Secret("not-a-key"))
    replies: dict[int, JSON] = {}
    codes: list[str] = []
    slots = asyncio.Semaphore(30)

    async def send(number: int, transport: HttpTransport) -> None:
        for _ in range(attempts):
            try:
                async with slots:
                    replies[number] = (await transport(make_job(number), target, lambda _: None)).body
            except RequestError as error:
                codes.append(error.code)
            else:
                return

    try:
        async with HttpTransport(TransportSettings(timeouts=Timeouts(stall_timeout_s=0.2))) as transport:
            await asyncio.gather(*(send(number, transport) for number in range(jobs)))
    finally:
        await server.close()
    return replies, codes, provider


def without_usage(body: JSON) -> dict[str, Any]:
    return {name: value for name, value in body.items() if name != "usage"}


@pytest.mark.parametrize("faults", ["", "all=0.05,burst_429=0"])
def test_every_reply_equals_what_the_provider_sent(faults: str) -> None:
    jobs = 200
    replies, codes, provider = asyncio.run(asyncio.wait_for(send_all(faults, jobs, attempts=12), 60))
    assert len(replies) == jobs
    assert bool(codes) == bool(faults)
    for number, body in replies.items():
        job = make_job(number)
        expected = provider.expected_body(job.path, job.body)
        assert without_usage(body) == without_usage(expected)
        assert body.get("usage", expected["usage"]) == expected["usage"]
