"""The official SDKs read the batches that the program submits, and submit those that it collects.

Runs where the SDKs are installed (the extra ``sdk``).
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from processor.simulator.batch_settings import BatchSettings
from processor.simulator.settings import INSTANT, SimulatorSettings
from tests.support.cli_world import ProgramResult, Server, Shell, chat_jobs, wait_until
from tests.support.packages import package

Run = Callable[..., ProgramResult]
StartServer = Callable[[SimulatorSettings], Server]
JOBS = 10

pytestmark = [
    pytest.mark.process,  # the SDKs ask uname for their user agent
    pytest.mark.filterwarnings("ignore"),
]


class Flow:
    """Submits the jobs of a file with one provider, hands the batch over to an SDK, and collects the SDK's batch."""

    def __init__(self, run: Run, shell: Shell, server: Server, provider: str) -> None:
        self._run = run
        self._shell = shell
        self.provider = server.provider
        self.host = server.base_url.removesuffix("/v1")
        self._flags = ("--provider", provider, "--base-url", server.base_url)
        (shell.folder / "config.toml").write_text("[batch]\npoll_min_s = 0.05\npoll_max_s = 0.1\n")
        url = "/v1/messages" if provider == "anthropic" else "/v1/chat/completions"
        shell.write("jobs.jsonl", *({**job, "url": url} for job in chat_jobs(JOBS)))
        assert run("jobs.jsonl", "--out", "r.jsonl", "--batch", "--detach", *self._flags).code == 3

    def adopt(self, batch_id: str) -> None:
        """Take the SDK's batch for the one that the program has submitted, of which it then knows nothing."""
        (ours,) = json.loads(self._run("batch", "list", "r.jsonl", "--json").out)
        journal = self._shell.folder / "r.batches.jsonl"
        lines = journal.read_text().splitlines(keepends=True)
        journal.write_text("".join(line for line in lines if not line.startswith('{"submit"')))
        assert self._run("batch", "adopt", "r.jsonl", f"{ours['batch']}={batch_id}").code == 0

    def collect(self) -> dict[str, Any]:
        """Collect the batch. Return the reply of each job by its name."""
        assert self._run("jobs.jsonl", "--out", "r.jsonl", "--batch", *self._flags, "--quiet").code == 0
        rows = self._shell.rows("r.jsonl")
        assert sorted(row["custom_id"] for row in rows) == sorted(f"job-{at}" for at in range(JOBS))
        return {row["custom_id"]: row["response"]["body"] for row in rows}


@pytest.fixture
def begin(run_inside: Run, start_server: StartServer, shell: Shell) -> Callable[[str], Flow]:
    def start(provider: str) -> Flow:
        server = start_server(replace(INSTANT, batches=BatchSettings(duration_s=0.3)))
        return Flow(run_inside, shell, server, provider)

    return start


def own_results(found: dict[str, Any]) -> dict[str, Any]:
    """The replies by the names of the jobs: the ids that the provider has end in their numbers."""
    return {f"job-{name.rpartition('-')[2]}": body for name, body in found.items()}


def test_openai(begin: Callable[[str], Flow]) -> None:
    openai = package("openai")
    flow = begin("openai")
    with openai.OpenAI(base_url=f"{flow.host}/v1", api_key="none") as client:
        (ours,) = client.batches.list()
        assert (ours.endpoint, ours.completion_window) == ("/v1/chat/completions", "24h")
        uploaded = client.files.content(ours.input_file_id).content
        lines = [json.loads(line) for line in uploaded.splitlines()]
        assert [line["body"]["max_tokens"] for line in lines] == [20] * JOBS
        file = client.files.create(file=("jobs.jsonl", uploaded), purpose="batch")
        theirs = client.batches.create(input_file_id=file.id, endpoint="/v1/chat/completions", completion_window="24h")
        wait_until(lambda: client.batches.retrieve(theirs.id).status == "completed")
        ended = client.batches.retrieve(theirs.id)
        assert ended.request_counts.completed == JOBS
        results = client.files.content(ended.output_file_id).content.splitlines()
        found = {line["custom_id"]: line["response"]["body"] for line in map(json.loads, results)}
        completion = openai.types.chat.ChatCompletion
        assert all(completion.model_validate(body, strict=True) for body in found.values())
    flow.adopt(theirs.id)
    assert flow.collect() == own_results(found)


def test_anthropic(begin: Callable[[str], Flow]) -> None:
    anthropic = package("anthropic")
    from anthropic.types.messages.batch_create_params import Request
    from pydantic import TypeAdapter

    flow = begin("anthropic")
    with anthropic.Anthropic(base_url=flow.host, api_key="none") as client:
        (ours,) = client.messages.batches.list()
        assert isinstance(ours, anthropic.types.messages.MessageBatch)
        uploaded = flow.provider.message_batches.batches[ours.id].lines
        requests = [{"custom_id": line.custom_id, "params": line.body} for line in uploaded]
        TypeAdapter(list[Request]).validate_python(requests)
        theirs = client.messages.batches.create(requests=requests)
        wait_until(lambda: client.messages.batches.retrieve(theirs.id).processing_status == "ended")
        counts = client.messages.batches.retrieve(theirs.id).request_counts
        assert (counts.succeeded, counts.processing) == (JOBS, 0)
        found = {
            entry.custom_id: entry.result.message.to_dict() for entry in client.messages.batches.results(theirs.id)
        }
    flow.adopt(theirs.id)
    assert flow.collect() == own_results(found)


def test_mistral(begin: Callable[[str], Flow]) -> None:
    package("mistralai.client")
    from mistralai.client import Mistral, models

    flow = begin("mistral")
    with Mistral(server_url=flow.host, api_key="none") as client:
        (ours,) = client.batch.jobs.list().data
        assert (ours.endpoint, ours.model) == ("/v1/chat/completions", "gpt-4o-mini")
        (name,) = ours.input_files
        uploaded = client.files.download(file_id=name).read()
        requests = [models.BatchRequest.model_validate(json.loads(line)) for line in uploaded.splitlines()]
        assert [request.body["max_tokens"] for request in requests] == [20] * JOBS
        file = client.files.upload(file={"file_name": "jobs.jsonl", "content": uploaded}, purpose="batch")
        theirs = client.batch.jobs.create(
            input_files=[file.id], model="gpt-4o-mini", endpoint="/v1/chat/completions", metadata={"by": "the SDK"}
        )
        wait_until(lambda: client.batch.jobs.get(job_id=theirs.id).status == "SUCCESS")
        ended = client.batch.jobs.get(job_id=theirs.id)
        assert (ended.succeeded_requests, ended.failed_requests) == (JOBS, 0)
        results = client.files.download(file_id=ended.output_file).read().splitlines()
        found = {line["custom_id"]: line["response"]["body"] for line in map(json.loads, results)}
        assert all(models.ChatCompletionResponse.model_validate(body) for body in found.values())
    flow.adopt(theirs.id)
    assert flow.collect() == own_results(found)
