"""The examples of docs/architecture.md are complete and work as they are printed."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

import processor
from processor.config import PROVIDERS
from processor.protocols.base import Protocol
from processor.protocols.registry import PROTOCOLS
from tests.support.threaded_server import in_thread

PAGE = (Path(__file__).parents[3] / "docs" / "architecture.md").read_text(encoding="utf-8")


def example(heading: str) -> str:
    """The Python code below a heading of the page."""
    section = PAGE.partition(f"\n### {heading}\n")[2]
    section = re.split(r"^#{2,3} (?=Add |Concurrency)", section, maxsplit=1, flags=re.MULTILINE)[0]
    blocks: list[str] = re.findall(r"^```python\n(.*?)^```$", section, flags=re.MULTILINE | re.DOTALL)
    assert blocks, f"there is no example below {heading!r}"
    return "\n".join(blocks)


def execute(heading: str, **names: Any) -> dict[str, Any]:
    namespace: dict[str, Any] = {"__name__": "example", **names}
    exec(compile(example(heading), heading, "exec", dont_inherit=True), namespace)
    return namespace


def write_jobs(folder: Path, *jobs: dict[str, Any]) -> None:
    (folder / "jobs.jsonl").write_text("".join(json.dumps(job) + "\n" for job in jobs))


def rows(folder: Path) -> dict[str, Any]:
    lines = (folder / "results.jsonl").read_text().splitlines()
    return {row["custom_id"]: row for row in map(json.loads, lines)}


class RerankServer(BaseHTTPRequestHandler):
    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        order = sorted(range(len(body["documents"])), key=lambda index: body["query"] not in body["documents"][index])
        answer = json.dumps({"results": [{"index": index} for index in order]}).encode()
        self.send_response(200 if self.path == "/v1/rerank" else 404)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(answer)))
        self.end_headers()
        self.wfile.write(answer)

    def log_message(self, *args: Any) -> None:
        """Write nothing to stderr."""


@pytest.fixture
def rerank_url() -> Iterator[str]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), RerankServer)
    with in_thread(server):
        yield f"http://127.0.0.1:{server.server_port}/v1"


def test_protocol_example_runs_jobs_of_its_api(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, rerank_url: str
) -> None:
    registered: dict[str, Protocol] = {}
    execute("Add a protocol", PROTOCOLS=registered)
    for path, protocol in registered.items():
        monkeypatch.setitem(PROTOCOLS, path, protocol)
    documents = ["a cat", "a dog"]
    write_jobs(
        tmp_path,
        {"custom_id": "bare", "model": "m", "query": "dog", "documents": documents},
        {"custom_id": "short", "model": "m", "prompt": "cat", "documents": documents},
    )
    plan = processor.Plan(
        jobs=str(tmp_path / "jobs.jsonl"),
        out=str(tmp_path / "results.jsonl"),
        settings=processor.Settings(base_url=rerank_url, endpoint="/v1/rerank"),
        quiet=True,
    )
    assert processor.run(plan, environ={}) == 0
    order = {
        name: [result["index"] for result in row["response"]["body"]["results"]] for name, row in rows(tmp_path).items()
    }
    assert order == {"bare": [1, 0], "short": [0, 1]}
    assert all(row["usage"]["prompt_tokens"] > 0 for row in rows(tmp_path).values())


def test_provider_example_is_found_by_its_name() -> None:
    try:
        execute("Add a provider")
        assert PROVIDERS["example"].key_variable == "EXAMPLE_API_KEY"
    finally:
        PROVIDERS.pop("example", None)


@pytest.mark.usefixtures("quick_simulator")
def test_listener_example_counts_the_attempts_of_a_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    write_jobs(tmp_path, *({"id": str(number), "model": "m", "prompt": "hi"} for number in range(3)))
    names = execute("Add a listener")
    assert names["exit_code"] == 0
    assert names["counter"].outcomes == {"success": 3}


def test_transport_example_answers_each_job(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    monkeypatch.delenv("OPENAI_BASE_URL", raising=False)
    write_jobs(tmp_path, {"id": "a", "model": "m", "prompt": "hello"})
    assert execute("Add a transport")["exit_code"] == 0
    assert rows(tmp_path)["a"]["response"]["body"]["choices"][0]["message"]["content"] == "hello"
