"""Jobs answered by a real language model on a server that nobody here wrote: llama.cpp's, and SmolLM2-135M."""

from __future__ import annotations

import json
import re
import subprocess
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from tests.support.model_server import IN_FLIGHT, MODEL

pytestmark = [pytest.mark.model, pytest.mark.slow]

Row = dict[str, Any]

LONGEST = 20

TOPICS = ("the sea", "bread", "a bicycle", "winter", "an owl", "music", "a lighthouse", "rain", "chess", "coffee")


def chat(name: str, prompt: str, **more: Any) -> dict[str, Any]:
    return {"id": name, "model": MODEL, "prompt": prompt, "max_tokens": LONGEST, "temperature": 0, **more}


def completion(name: str, prompt: str, **more: Any) -> dict[str, Any]:
    return chat(name, prompt, url="/v1/completions", **more)


def lines(jobs: Sequence[dict[str, Any]]) -> bytes:
    return "".join(json.dumps(job) + "\n" for job in jobs).encode()


def rows(folder: Path) -> dict[str, Row]:
    text = (folder / "r.jsonl").read_text(encoding="utf-8")
    return {row["custom_id"]: row for row in map(json.loads, text.splitlines())}


def said(row: Row) -> str:
    (choice,) = row["response"]["body"]["choices"]
    return str(choice["message"]["content"] if "message" in choice else choice["text"])


def run(
    command: list[str],
    environ: dict[str, str],
    folder: Path,
    jobs: Sequence[dict[str, Any]],
    *,
    concurrency: int = IN_FLIGHT,
) -> dict[str, Row]:
    """All jobs answered, none failed."""
    (folder / "jobs.jsonl").write_bytes(lines(jobs))
    args = ["jobs.jsonl", "--out", "r.jsonl", "--concurrency", str(concurrency)]
    ended = subprocess.run(
        [*command[:3], *args, *command[3:]],
        cwd=folder,
        env=environ,
        capture_output=True,
        text=True,
        timeout=400,
        check=False,
    )
    assert ended.returncode == 0, ended.stderr
    assert not (folder / "r.errors.jsonl").exists()
    found = rows(folder)
    assert set(found) == {job["id"] for job in jobs}
    return found


def is_sensible(text: str) -> bool:
    """Words with blanks between, mostly of letters."""
    words = re.findall(r"[A-Za-z]{2,}", text)
    return len(words) >= 5 and sum(map(len, words)) > len(text) / 2


def test_chat_and_completions_streamed_at_four_in_flight(
    command: list[str], environ: dict[str, str], tmp_path: Path
) -> None:
    jobs = [chat(f"chat-{at}", f"Write one sentence about {topic}.") for at, topic in enumerate(TOPICS)]
    jobs += [completion(f"text-{at}", f"This is a short story about {topic}. Once") for at, topic in enumerate(TOPICS)]
    jobs += [
        chat("capital", "What is the capital of France?", system="You are a helpful assistant."),
        completion("known", "The capital of France is"),
        chat("short", "Say hello.", max_tokens=1),
        chat("whole", "Write one sentence about tea.", stream=False),
    ]
    found = run(command, environ, tmp_path, jobs)
    assert "Paris" in said(found["capital"])
    assert "Paris" in said(found["known"])
    assert said(found["short"])
    for name, row in found.items():
        assert name == "short" or is_sensible(said(row)), said(row)
        usage, reported = row["usage"], row["response"]["body"]["usage"]
        assert row["usage_source"] == "reported"
        assert reported["completion_tokens"] <= LONGEST
        # Another tokenizer than the model's, so about as many.
        assert 0.5 < usage["completion_tokens"] / reported["completion_tokens"] < 2
        assert usage["prompt_tokens"] >= 5
        assert row["attempts"] >= 1
        assert row["response"]["body"]["choices"][0]["finish_reason"] in ("stop", "length")


def test_streamed_reply_equals_the_unstreamed_one(command: list[str], environ: dict[str, str], tmp_path: Path) -> None:
    ask = "Name the days of the week."
    found = run(command, environ, tmp_path, [chat("streamed", ask), chat("whole", ask, stream=False)])
    streamed, whole = (found[name]["response"]["body"] for name in ("streamed", "whole"))
    assert streamed["choices"][0].keys() >= whole["choices"][0].keys() - {"logprobs"}
    assert streamed["choices"][0]["message"].keys() >= {"role", "content"}
    assert streamed["choices"][0]["message"]["role"] == whole["choices"][0]["message"]["role"] == "assistant"
    assert streamed["object"] == whole["object"] == "chat.completion"
    assert streamed["model"] == whole["model"] == MODEL
    assert said(found["streamed"]).split()[:3] == said(found["whole"]).split()[:3]


def test_connection_closed_by_the_server_after_a_reply_loses_no_job(
    command: list[str], environ: dict[str, str], tmp_path: Path
) -> None:
    """It closes a connection that was idle for five seconds, and sometimes one that has just been used again."""
    jobs = [chat(f"job-{at}", f"Say {at}.", max_tokens=2) for at in range(56)]
    process = subprocess.Popen(
        [*command[:3], "-", "--out", "r.jsonl", "--concurrency", str(IN_FLIGHT), *command[3:]],
        cwd=tmp_path,
        env=environ,
        stdin=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    assert process.stdin
    process.stdin.write(lines(jobs[:48]))
    process.stdin.flush()
    for _ in range(600):
        if (tmp_path / "r.jsonl").exists() and len(rows(tmp_path)) == 48:
            break
        time.sleep(0.1)
    time.sleep(5.6)
    _, err = process.communicate(lines(jobs[48:]), timeout=60)
    assert process.returncode == 0, err.decode()
    found = rows(tmp_path)
    assert len(found) == 56
    assert not (tmp_path / "r.errors.jsonl").exists()
    assert sum(row["attempts"] for row in found.values()) < 2 * 56
