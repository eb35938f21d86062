"""Runs against servers of other projects: aimock, llmock and mock-ai-api.

They are installed by ``bash tests/independent_servers.sh``, which runs these tests; ``INDEPENDENT_SERVERS`` names the
folder in which they are.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import pytest

from processor.protocols import protocol_for
from tests.support.cli_world import Shell, free_port, wait_until

pytestmark = [pytest.mark.independent, pytest.mark.process]

JOBS = 50
IN_FLIGHT = 4
KEY = "sk-no-key-required"
FOLDER = Path(os.environ.get("INDEPENDENT_SERVERS", "."))

COMMANDS: dict[str, list[str]] = {
    "aimock": ["aimock/node_modules/.bin/llmock", "-p", "{port}", "-f", "{fixtures}", "--log-level", "warn"],
    "llmock": [
        *("llmock/bin/llmock", "serve", "--host", "127.0.0.1", "--port", "{port}"),
        *("--stream-fault", "truncate=0.1", "--error-rate", "503=0.05"),
    ],
    "llmock without faults": ["llmock/bin/llmock", "serve", "--host", "127.0.0.1", "--port", "{port}"],
    "mock-ai-api": ["mock-ai-api/bin/uvicorn", "app.openai_app:app", "--host", "127.0.0.1", "--port", "{port}"],
    "mock-ai-api messages": [
        *("mock-ai-api/bin/uvicorn", "app.anthropic_app:app", "--host", "127.0.0.1", "--port", "{port}"),
    ],
}

SERVED: dict[tuple[str, str], tuple[str, ...]] = {
    ("aimock", "/v1"): ("chat/completions", "responses", "messages", "embeddings", "moderations"),
    ("llmock", "/v1"): ("chat/completions", "responses", "embeddings"),
    ("llmock", "/anthropic/v1"): ("messages",),
    ("mock-ai-api", "/v1"): ("chat/completions", "completions", "responses", "embeddings", "moderations"),
    ("mock-ai-api messages", "/v1"): ("messages",),
}
"""The APIs by server and path of its base URL."""

BATCHES: dict[tuple[str, str], tuple[str, str]] = {
    ("aimock", "/v1"): ("openai", "chat/completions"),
    ("llmock without faults", "/v1"): ("openai", "chat/completions"),
    ("llmock without faults", "/groq/openai/v1"): ("groq", "chat/completions"),
    ("llmock without faults", "/mistral/v1"): ("mistral", "chat/completions"),
    ("llmock without faults", "/anthropic/v1"): ("anthropic", "messages"),
    ("mock-ai-api messages", "/v1"): ("anthropic", "messages"),
}
"""The provider and the API of jobs in batches. llmock's API of Together has not the documented path of uploads."""

FIXTURES = {
    "fixtures": [
        {
            "match": {"userMessage": "Weather"},
            "response": {"content": "It is sunny.", "reasoning": "Look out of the window."},
        },
        {
            "match": {"userMessage": "Tool"},
            "response": {"toolCalls": [{"name": "look", "arguments": '{"at": "the sky"}'}]},
        },
        {"match": {"inputText": "Weather"}, "response": {"embedding": [0.25, -0.5, 1.0]}},
    ]
}
"""What aimock answers."""

TOOLS: dict[str, Any] = {
    "chat/completions": [{"type": "function", "function": {"name": "look", "parameters": {"type": "object"}}}],
    "responses": [{"type": "function", "name": "look", "parameters": {"type": "object"}}],
    "messages": [{"name": "look", "input_schema": {"type": "object"}}],
}


@pytest.fixture(scope="module")
def addresses(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, str]]:
    """The address of each server that is installed."""
    fixtures = tmp_path_factory.mktemp("aimock") / "fixtures.json"
    fixtures.write_text(json.dumps(FIXTURES))
    with ExitStack() as stack:
        yield {
            name: stack.enter_context(started(command, fixtures))
            for name, command in COMMANDS.items()
            if (FOLDER / command[0]).exists()
        }


@contextmanager
def started(command: list[str], fixtures: Path) -> Iterator[str]:
    port = free_port()
    words = [word.format(port=port, fixtures=fixtures) for word in command]
    with subprocess.Popen(
        [str((FOLDER / words[0]).absolute()), *words[1:]], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    ) as server:
        try:
            wait_until(lambda: is_open(port), within_s=30)
            yield f"http://127.0.0.1:{port}"
        finally:
            server.terminate()


def is_open(port: int) -> bool:
    probe = f"import socket; socket.create_connection(('127.0.0.1', {port}), 1)"
    return subprocess.run([sys.executable, "-c", probe], check=False, capture_output=True).returncode == 0


def job(path: str, number: int) -> dict[str, Any]:
    """Of five jobs one has a tool, and one asks for a whole reply; where the API has these."""
    asks_tool = path in TOOLS and number % 5 == 0
    body: dict[str, Any] = {"model": "gpt-4o", "prompt": f"{'Tool' if asks_tool else 'Weather'} number {number}?"}
    if asks_tool:
        body["tools"] = TOOLS[path]
    if path == "messages":
        body["max_tokens"] = 200
    if path not in ("embeddings", "moderations") and number % 5 == 1:
        body["stream"] = False
    return {"id": f"{path} {number}", "url": f"/v1/{path}", **body}


@pytest.mark.parametrize(("server", "base"), SERVED, ids=lambda value: value.strip("/").replace("/", "-"))
def test_all_jobs_of_all_apis_get_whole_replies(
    addresses: dict[str, str], tmp_path: Path, server: str, base: str
) -> None:
    if server not in addresses:
        pytest.skip(f"{server} is not installed: bash tests/independent_servers.sh")
    shell = Shell(tmp_path)
    jobs = [job(path, number) for number in range(JOBS) for path in SERVED[server, base]]
    shell.write("jobs.jsonl", *jobs)
    done = shell(
        *("jobs.jsonl", "--out", "r.jsonl", "--base-url", addresses[server] + base, "--max-attempts", "12"),
        *("--concurrency", str(IN_FLIGHT), "--quiet"),
        OPENAI_API_KEY=KEY,
    )
    assert done.code == 0, done.err
    rows = {row["custom_id"]: row for row in shell.rows("r.jsonl")}
    assert rows.keys() == {one["id"] for one in jobs}
    for one in jobs:
        check_row(rows[one["id"]], one["url"].removeprefix("/v1/"))


@pytest.mark.parametrize(("server", "base"), BATCHES, ids=lambda value: value.strip("/").replace("/", "-"))
def test_all_jobs_in_a_batch_get_whole_replies(
    addresses: dict[str, str], tmp_path: Path, server: str, base: str
) -> None:
    if server not in addresses:
        pytest.skip(f"{server} is not installed: bash tests/independent_servers.sh")
    shell = Shell(tmp_path)
    provider, path = BATCHES[server, base]
    shell.write("jobs.jsonl", *(job(path, number) for number in range(JOBS)))
    (tmp_path / "config.toml").write_text("[batch]\npoll_min_s = 0.1\npoll_max_s = 0.5\n")
    flags = ("--out", "r.jsonl", "--batch", "--provider", provider, "--base-url", addresses[server] + base)
    left = shell("jobs.jsonl", *flags, "--detach", OPENAI_API_KEY=KEY)
    assert left.code == 3, left.err
    if server.startswith("mock-ai-api"):
        (batch,) = json.loads(shell("batch", "list", "r.jsonl", "--json").out)
        read(f"{addresses[server]}/v1/messages/batches/{batch['id']}/results")  # it ends once they have been read
    done = shell("jobs.jsonl", *flags, OPENAI_API_KEY=KEY)
    assert done.code == 0, done.err
    rows = shell.rows("r.jsonl")
    assert sorted(row["custom_id"] for row in rows) == sorted(f"{path} {number}" for number in range(JOBS))
    assert {row["served_by"] for row in rows} == {"batch"}
    assert not (tmp_path / "r.batches.jsonl").exists()


def read(url: str) -> None:
    with urllib.request.urlopen(url) as response:
        response.read()


def check_row(row: dict[str, Any], path: str) -> None:
    body, protocol = row["response"]["body"], protocol_for(f"/v1/{path}")
    assert row["error"] is None and row["usage"]["prompt_tokens"] > 0
    if path in TOOLS or path == "completions":
        assert protocol.text(body) or "look" in json.dumps(body)
        assert protocol.finish_reasons(body)
