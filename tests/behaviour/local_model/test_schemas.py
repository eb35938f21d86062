"""Schemas at llama.cpp's server, which enforces them on chat, and ignores them on Responses."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.support.model_server import IN_FLIGHT, MODEL

pytestmark = [pytest.mark.model, pytest.mark.slow]

SCHEMA = {
    "type": "object",
    "properties": {"mood": {"enum": ["good", "bad"]}, "sure": {"type": "boolean"}},
    "required": ["mood", "sure"],
    "additionalProperties": False,
}
NAMED = {"name": "verdict", "schema": SCHEMA}
TEXTS = ("I love it.", "It broke.")


def chat(name: str, text: str) -> dict[str, Any]:
    asked = {"response_format": {"type": "json_schema", "json_schema": NAMED}}
    return {"id": name, "model": MODEL, "prompt": f"Is this good or bad? {text}", "max_tokens": 60, **asked}


def response(name: str, text: str) -> dict[str, Any]:
    asked = {"text": {"format": {"type": "json_schema", **NAMED}}}
    prompt = f"In three words, is this good or bad? {text}"
    return {"id": name, "url": "/v1/responses", "model": MODEL, "prompt": prompt, "max_output_tokens": 60, **asked}


def test_output_is_valid_where_the_schema_is_enforced_and_asked_again_where_it_is_ignored(
    model: str, environ: dict[str, str], tmp_path: Path
) -> None:
    jobs = [make(f"{make.__name__}-{at}", text) for at, text in enumerate(TEXTS) for make in (chat, response)]
    (tmp_path / "jobs.jsonl").write_text("".join(json.dumps({**job, "temperature": 0}) + "\n" for job in jobs))
    more = ["--base-url", model, "--validate", "job", "--concurrency", str(IN_FLIGHT)]
    command = [sys.executable, "-m", "processor", "jobs.jsonl", "--out", "r.jsonl", *more]
    ended = subprocess.run(command, cwd=tmp_path, env=environ, capture_output=True, text=True, timeout=120, check=False)
    rows, failures = (_rows(tmp_path / name) for name in ("r.jsonl", "r.errors.jsonl"))
    assert {name for name in rows if name.startswith("chat")} == {f"chat-{at}" for at in range(len(TEXTS))}, (
        ended.stderr
    )
    # The server sometimes closes a connection that a request is to be sent on, or was: it is then sent once more.
    history = map(json.loads, (tmp_path / "r.history.jsonl").read_text(encoding="utf-8").splitlines())
    lost = sum(minute["retried"].get("connection_lost", 0) for minute in history if "retried" in minute)
    all_rows = (*rows.values(), *failures.values())
    sent_again = [row["attempts"] - row["validation"]["asks"] for row in all_rows]
    assert min(sent_again) >= 0
    assert sum(sent_again) <= lost
    for at in range(len(TEXTS)):
        row = rows[f"chat-{at}"]
        assert set(json.loads(row["response"]["body"]["choices"][0]["message"]["content"])) == {"mood", "sure"}
        assert row["validation"]["asks"] == 1
    ignored = {**rows, **failures}
    assert {name for name in ignored if name.startswith("response")} == {f"response-{at}" for at in range(len(TEXTS))}
    assert failures, "the model cannot follow a schema that is not in its prompt"
    assert {row["error"]["code"] for row in failures.values()} == {"invalid_output"}
    assert all(row["response"]["body"]["object"] == "response" for row in failures.values())
    asked_again = [row for row in failures.values() if row["validation"]["asks"] == 3]
    assert asked_again, failures
    for row in asked_again:
        last = row["response"]["body"]["usage"]["input_tokens"]
        assert row["validation"]["billed_usage"]["prompt_tokens"] > last


def _rows(path: Path) -> dict[str, Any]:
    return {row["custom_id"]: row for row in map(json.loads, path.read_text(encoding="utf-8").splitlines())}
