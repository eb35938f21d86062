"""Responses, Messages and embeddings of llama.cpp's server, whose streams lack fields that the reference has.

``MODEL_JOBS`` sets how many jobs of each API are sent in one run.
"""

from __future__ import annotations

import base64
import os
import struct
import sys
from pathlib import Path
from typing import Any

import pytest

from processor.protocols import protocol_for
from tests.behaviour.local_model.test_replies import LONGEST, TOPICS, Row, is_sensible, run
from tests.support.fault_proxy import fault_proxy
from tests.support.model_server import IN_FLIGHT, MODEL

pytestmark = [pytest.mark.model, pytest.mark.slow]

JOBS_OF_EACH_API = int(os.environ.get("MODEL_JOBS", "12"))

DIFFERS = frozenset({"id", "created_at", "completed_at", "timings"})
"""What two answers to one request need not have in common."""


def responses(name: str, ask: str, **more: Any) -> dict[str, Any]:
    return {"id": name, "url": "/v1/responses", "model": MODEL, "prompt": ask, "max_output_tokens": LONGEST, **more}


def messages(name: str, ask: str, **more: Any) -> dict[str, Any]:
    return {"id": name, "url": "/v1/messages", "model": MODEL, "prompt": ask, "max_tokens": LONGEST, **more}


APIS = pytest.mark.parametrize("make", [responses, messages])


def text_of(body: dict[str, Any]) -> str:
    """The text of a response or a message."""
    items = body.get("output", [body])
    return "".join(part.get("text", "") for item in items for part in item["content"])


def comparable(value: Any) -> Any:
    """Without ids, times, cache counts and what says nothing."""
    if isinstance(value, dict):
        kept = {name: comparable(item) for name, item in value.items() if name not in DIFFERS and "cache" not in name}
        return {name: item for name, item in kept.items() if item not in (None, [], {})}
    return [comparable(item) for item in value] if isinstance(value, list) else value


def chat(name: str, ask: str, **more: Any) -> dict[str, Any]:
    return {"id": name, "model": MODEL, "prompt": ask, "max_tokens": LONGEST, **more}


def completions(name: str, ask: str, **more: Any) -> dict[str, Any]:
    return chat(name, f"{ask}\n\nOnce upon a time", url="/v1/completions", **more)


def embeddings(name: str, ask: str, **more: Any) -> dict[str, Any]:
    return {"id": name, "url": "/v1/embeddings", "model": "embeddings", "prompt": ask}


MAKERS = (chat, completions, responses, messages, embeddings)


def test_jobs_of_each_api_in_one_run_through_proxies_that_break_connections(
    model: str, embedding_model: str, environ: dict[str, str], tmp_path: Path
) -> None:
    """Each server, the one of texts and the one of embeddings, has four jobs in flight."""
    jobs = [
        make(f"{make.__name__} {at}", f"Write one sentence about {TOPICS[at % 10]}.", temperature=at / JOBS_OF_EACH_API)
        for at in range(JOBS_OF_EACH_API)
        for make in MAKERS
    ]
    with fault_proxy(model, seed=7) as (text_url, text_proxy), fault_proxy(embedding_model, seed=8) as (url, proxy):
        tables = (
            f'[[endpoints]]\nname = "texts"\nbase_url = "{text_url}"\nconcurrency = {IN_FLIGHT}\n'
            f'models = {{ "{MODEL}" = "*" }}\n'
            f'[[endpoints]]\nname = "embeddings"\nbase_url = "{url}"\nconcurrency = {IN_FLIGHT}\n'
            f'models = {{ "embeddings" = "{MODEL}" }}\n'
        )
        (tmp_path / "mine.toml").write_text(tables, encoding="utf-8")
        command = [sys.executable, "-m", "processor", "--config", "mine.toml", "--max-attempts", "12"]
        found = run(command, environ, tmp_path, jobs, concurrency=2 * IN_FLIGHT)
    assert text_proxy.broken > 0 < proxy.broken
    paths = {job["id"]: job.get("url", "/v1/chat/completions") for job in jobs}
    texts = [protocol_for(paths[name]).text(row["response"]["body"]) for name, row in found.items()]
    assert all(text or paths[name] == "/v1/embeddings" for name, text in zip(found, texts, strict=True))
    assert all(vectors(row) for name, row in found.items() if paths[name] == "/v1/embeddings")
    assert all(row["usage_source"] == "reported" for row in found.values())
    assert sum(row["streamed"] for row in found.values()) == 4 * JOBS_OF_EACH_API
    assert sum(map(is_sensible, texts)) >= 0.8 * 4 * JOBS_OF_EACH_API


@APIS
def test_streamed_reply_equals_the_unstreamed_one(
    make: Any, command: list[str], environ: dict[str, str], tmp_path: Path
) -> None:
    ask = "Name the days of the week."
    jobs = [make("streamed", ask, temperature=0), make("whole", ask, temperature=0, stream=False)]
    jobs.append(make("system", ask, system="You are a helpful assistant.", temperature=0))
    found = run([*command, "--concurrency", "1"], environ, tmp_path, jobs)
    streamed, whole = (comparable(found[name]["response"]["body"]) for name in ("streamed", "whole"))
    assert text_of(streamed).split()[:3] == text_of(whole).split()[:3]
    assert shape(streamed) == shape(whole)


def shape(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: shape(item) for name, item in value.items()}
    return [shape(item) for item in value] if isinstance(value, list) else type(value)


@APIS
def test_reply_that_the_limit_has_cut_is_counted_as_such(
    make: Any, command: list[str], environ: dict[str, str], tmp_path: Path
) -> None:
    limit = "max_tokens" if make is messages else "max_output_tokens"
    job = make("cut", "Tell me a long story.", **{limit: 3})
    (row,) = run(command, environ, tmp_path, [job]).values()
    assert protocol_for(job["url"]).is_cut_short(row["response"]["body"], job)


def test_embeddings_as_numbers_and_as_base64_agree(
    embedding_model: str, environ: dict[str, str], tmp_path: Path
) -> None:
    command = [sys.executable, "-m", "processor", "--base-url", embedding_model, "--endpoint", "/v1/embeddings"]
    jobs: list[dict[str, Any]] = [
        {"id": f"{at}", "model": MODEL, "prompt": f"About {TOPICS[at % 10]}"} for at in range(48)
    ]
    jobs.append({"id": "floats", "model": MODEL, "input": ["one", "two"]})
    jobs.append({"id": "base64", "model": MODEL, "input": ["one", "two"], "encoding_format": "base64"})
    found = run(command, environ, tmp_path, jobs)
    floats, packed = (vectors(found[name]) for name in ("floats", "base64"))
    assert len(floats) == 2
    for numbers, data in zip(floats, packed, strict=True):
        assert struct.unpack(f"<{len(numbers)}f", base64.b64decode(data)) == pytest.approx(numbers, abs=1e-5)


def vectors(row: Row) -> list[Any]:
    return [entry["embedding"] for entry in row["response"]["body"]["data"]]
