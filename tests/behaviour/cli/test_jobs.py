"""The samples in jobs/: each gets its replies, and shows the feature it is named after."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest

from tests.support.cli_world import ROOT, ProgramResult, Shell

Run = Callable[..., ProgramResult]

SAMPLES = sorted((ROOT / "jobs").glob("*.jsonl"))


def jobs_of(name: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (ROOT / f"jobs/{name}.jsonl").read_text(encoding="utf-8").splitlines()]


@pytest.fixture
def replies(shell: Shell, run_inside: Run) -> Callable[[str], list[dict[str, Any]]]:
    """Runs a sample and returns its reply bodies by line."""

    def run(name: str) -> list[dict[str, Any]]:
        result = run_inside(str(ROOT / f"jobs/{name}.jsonl"), "--out", "r.jsonl", "--simulate", "--quiet")
        assert result == ProgramResult(0, "", "")
        rows = sorted(shell.rows("r.jsonl"), key=lambda row: int(row["line"]))
        assert [row["line"] for row in rows] == list(range(1, len(jobs_of(name)) + 1))
        return [row["response"]["body"] for row in rows]

    return run


Replies = Callable[[str], list[dict[str, Any]]]


@pytest.mark.parametrize("name", ["chat", "few-shot", "conversation", "counting", "mixed"])
def test_sample_gets_a_reply_for_every_job(replies: Replies, name: str) -> None:
    for body in replies(name):
        assert all(choice["finish_reason"] in ("stop", "length") for choice in body["choices"])


def test_every_sample_is_tested() -> None:
    tested = {"chat", "few-shot", "conversation", "counting", "mixed", "tools", "choices", "completions", "batch"}
    assert {path.stem for path in SAMPLES} == tested | {"sample", "embeddings", "moderations", "responses", "messages"}


def test_tool_calls_have_complete_json_arguments(replies: Replies) -> None:
    calls = [call for body in replies("tools") for call in body["choices"][0]["message"].get("tool_calls") or ()]
    assert calls
    assert all(isinstance(json.loads(call["function"]["arguments"]), dict) for call in calls)


def test_job_with_three_choices_gets_three(replies: Replies) -> None:
    for body in replies("choices"):
        assert [choice["index"] for choice in body["choices"]] == [0, 1, 2]


def test_completions_get_texts(replies: Replies) -> None:
    bodies = replies("completions")
    assert all(body["object"] == "text_completion" for body in bodies)
    assert all(isinstance(choice["text"], str) for body in bodies for choice in body["choices"])


def test_batch_format_selects_the_api_by_url(replies: Replies) -> None:
    assert [body["object"] for body in replies("batch")] == ["chat.completion", "chat.completion", "text_completion"]


def test_few_shot_samples_name_their_example_messages() -> None:
    for job in jobs_of("few-shot"):
        names = [message.get("name") for message in job["messages"]]
        assert names[1:-1] == ["example_user", "example_assistant"] * 2


def test_embeddings_get_a_vector_for_each_input(replies: Replies) -> None:
    bodies = replies("embeddings")
    assert [len(body["data"]) for body in bodies] == [1, 3, 1, 2]
    assert [len(entry["embedding"]) for entry in bodies[1]["data"]] == [8, 8, 8]
    assert isinstance(bodies[2]["data"][0]["embedding"], str)
    assert all(body["usage"].keys() == {"prompt_tokens", "total_tokens"} for body in bodies)


def test_moderations_get_a_verdict_for_each_input_and_no_usage(replies: Replies) -> None:
    bodies = replies("moderations")
    assert [len(body["results"]) for body in bodies] == [1, 2, 1]
    assert all("usage" not in body for body in bodies)


def test_responses_get_messages_reasoning_and_calls(replies: Replies) -> None:
    bodies = replies("responses")
    assert [body["status"] for body in bodies] == ["completed", "incomplete", "completed", "completed"]
    assert [sorted({item["type"] for item in body["output"]}) for body in bodies] == [
        ["message"],
        ["message"],
        ["message", "reasoning"],
        ["function_call"],
    ]


def test_messages_get_text_thinking_and_calls(replies: Replies) -> None:
    bodies = replies("messages")
    assert [body["stop_reason"] for body in bodies] == ["end_turn", "max_tokens", "end_turn", "tool_use"]
    assert [sorted({block["type"] for block in body["content"]}) for body in bodies] == [
        ["text"],
        ["text"],
        ["text", "thinking"],
        ["tool_use"],
    ]
