"""How requests by the presets of the providers arrive at a server: address, key, headers and fields."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import orjson
import pytest

import processor
from processor.config import PROVIDERS
from processor.config.settings import ProviderSettings
from processor.core.events import LimitsChanged, Listener, RunEvent
from tests.support.odd_server import OddServer, reply_to

KEY = "not-a-key-of-anyone"
HEADER = {"bearer": ("authorization", f"Bearer {KEY}"), "api-key": ("api-key", KEY), "x-api-key": ("x-api-key", KEY)}


@pytest.fixture
def server() -> Iterator[OddServer]:
    server = OddServer(reply_to)
    yield server
    server.close()


def run(
    folder: Path,
    environ: dict[str, str],
    *jobs: dict[str, Any],
    listeners: Sequence[Listener] = (),
    **settings: Any,
) -> int:
    (folder / "jobs.jsonl").write_bytes(b"\n".join(orjson.dumps(job) for job in jobs))
    plan = processor.Plan(
        jobs=str(folder / "jobs.jsonl"),
        out=str(folder / "results.jsonl"),
        settings=processor.Settings(**settings),
        quiet=True,
    )
    return processor.run(plan, environ, listeners=listeners)


def chat(model: str = "m", **fields: Any) -> dict[str, Any]:
    return {
        "url": "/v1/chat/completions",
        "body": {"model": model, "messages": [{"role": "user", "content": "Hi"}], **fields},
    }


def at(server: OddServer, name: str) -> dict[str, ProviderSettings]:
    """The section that leads the preset of this name to the server."""
    return {name: ProviderSettings(base_url=server.base_url)}


@pytest.mark.parametrize("name", PROVIDERS)
def test_key_arrives_as_the_preset_says(name: str, server: OddServer, tmp_path: Path) -> None:
    preset = PROVIDERS[name]
    environ = {preset.key_variable: KEY, "OPENAI_BASE_URL": "https://another.example.org/v1"}
    assert run(tmp_path, environ, chat(), provider=name, providers=at(server, name)) == 0
    (headers,) = server.headers
    header, value = HEADER[preset.auth]
    assert headers.pop(header) == value
    assert KEY not in str(headers)
    assert server.paths == ["/v1/chat/completions"]
    assert ("stream_options" in server.requests[0]) is ("stream_options" not in preset.refuses)


def test_headers_of_a_section_are_sent(server: OddServer, tmp_path: Path) -> None:
    section = replace(at(server, "openai")["openai"], headers={"X-Team": "blue"})
    assert run(tmp_path, {"OPENAI_API_KEY": KEY}, chat(), provider="openai", providers={"openai": section}) == 0
    assert server.headers[0]["x-team"] == "blue"


def test_limit_of_output_tokens_has_the_name_that_the_provider_accepts(server: OddServer, tmp_path: Path) -> None:
    job = chat(max_completion_tokens=7)
    assert run(tmp_path, {"MISTRAL_API_KEY": KEY}, job, provider="mistral", providers=at(server, "mistral")) == 0
    assert server.requests[0]["max_tokens"] == 7
    assert "max_completion_tokens" not in server.requests[0]


def test_model_names_the_deployment_where_azure_is_asked_by_api_version(server: OddServer, tmp_path: Path) -> None:
    host = server.base_url.removesuffix("/v1")
    environ = {"AZURE_OPENAI_API_KEY": KEY, "AZURE_OPENAI_ENDPOINT": host}
    jobs = [chat("gpt-4o"), chat("my gpt/5"), {"url": "/v1/completions", "body": {"model": "e", "prompt": "x"}}]
    assert run(tmp_path, environ, *jobs, provider="azure", api_version="2024-10-21") == 0
    assert sorted(set(server.paths)) == [
        "/openai/deployments/e/completions?api-version=2024-10-21",
        "/openai/deployments/gpt-4o/chat/completions?api-version=2024-10-21",
        "/openai/deployments/my%20gpt%2F5/chat/completions?api-version=2024-10-21",
    ]
    server.paths.clear()
    (tmp_path / "results.jsonl").unlink()
    assert run(tmp_path, environ, chat("gpt-4o"), provider="azure") == 0
    assert server.paths == ["/openai/v1/chat/completions"]


def test_row_of_a_deployment_is_known_to_the_next_run(server: OddServer, tmp_path: Path) -> None:
    host = server.base_url.removesuffix("/v1")
    environ = {"AZURE_OPENAI_API_KEY": KEY, "AZURE_OPENAI_ENDPOINT": host}
    for _ in range(2):
        options: dict[str, Any] = {"provider": "azure", "api_version": "1", "changed": "resend"}
        assert run(tmp_path, environ, chat("gpt-4o"), **options) == 0
    assert len(server.requests) == 1
    row = orjson.loads((tmp_path / "results.jsonl").read_bytes())
    assert row["endpoint"] == f"{host}/openai/deployments/gpt-4o/chat/completions"


def test_address_without_v1_and_with_a_query_is_used_as_it_is(server: OddServer, tmp_path: Path) -> None:
    host = server.base_url.removesuffix("/v1")
    for base_url in (f"{host}/v1beta/openai", f"{host}/x/chat/completions?v=1", f"{host}/y?v=1"):
        assert run(tmp_path, {}, chat(), base_url=base_url) == 0
        (tmp_path / "results.jsonl").unlink()
    assert server.paths == ["/v1beta/openai/chat/completions", "/x/chat/completions?v=1", "/y/chat/completions?v=1"]


def test_limit_of_a_day_is_not_taken_for_one_of_a_minute(tmp_path: Path) -> None:
    """Groq's headers tell the requests of a day and the tokens of a minute."""
    told = {
        "x-ratelimit-limit-requests": "1000",
        "x-ratelimit-remaining-requests": "990",
        "x-ratelimit-limit-tokens": "18000",
        "x-ratelimit-remaining-tokens": "17000",
    }
    server = OddServer(lambda request: replace(reply_to(request), headers={**reply_to(request).headers, **told}))
    limits: set[tuple[float | None, float | None]] = set()

    def keep(event: RunEvent) -> None:
        if isinstance(event, LimitsChanged):
            limits.add((event.rpm, event.tpm))

    environ = {"GROQ_API_KEY": KEY}
    assert run(tmp_path, environ, chat(), listeners=[keep], provider="groq", providers=at(server, "groq")) == 0
    assert limits == {(None, 18000.0)}
    server.close()
