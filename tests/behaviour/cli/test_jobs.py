"""The samples in jobs/: each runs, and shows what it is there to show."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest

from tests.support.cli_world import ROOT, Ended, Shell

Run = Callable[..., Ended]

SAMPLES = sorted((ROOT / "jobs").glob("*.jsonl"))


def jobs_of(name: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (ROOT / f"jobs/{name}.jsonl").read_text(encoding="utf-8").splitlines()]


@pytest.fixture
def replies(shell: Shell, inside: Run) -> Callable[[str], list[dict[str, Any]]]:
    """The replies to a sample's jobs, by line."""

    def run(name: str) -> list[dict[str, Any]]:
        ended = inside(str(ROOT / f"jobs/{name}.jsonl"), "--out", "r.jsonl", "--simulate", "--quiet")
        assert ended == Ended(0, "", "")
        rows = sorted(shell.rows("r.jsonl"), key=lambda row: int(row["line"]))
        assert [row["line"] for row in rows] == list(range(1, len(jobs_of(name)) + 1))
        return [row["response"]["body"] for row in rows]

    return run


Replies = Callable[[str], list[dict[str, Any]]]


@pytest.mark.parametrize("name", ["chat", "few-shot", "conversation", "counting", "mixed"])
def test_a_sample_runs(replies: Replies, name: str) -> None:
    for body in replies(name):
        assert all(choice["finish_reason"] in ("stop", "length") for choice in body["choices"])


def test_every_sample_has_its_test_here() -> None:
    tested = {"chat", "few-shot", "conversation", "counting", "mixed", "tools", "choices", "completions", "batch"}
    assert {path.stem for path in SAMPLES} == tested | {"sample"}


def test_tools_are_called_with_arguments_that_are_whole_json(replies: Replies) -> None:
    calls = [call for body in replies("tools") for call in body["choices"][0]["message"].get("tool_calls") or ()]
    assert calls
    assert all(isinstance(json.loads(call["function"]["arguments"]), dict) for call in calls)


def test_three_choices_are_three(replies: Replies) -> None:
    for body in replies("choices"):
        assert [choice["index"] for choice in body["choices"]] == [0, 1, 2]


def test_completions_have_texts(replies: Replies) -> None:
    bodies = replies("completions")
    assert all(body["object"] == "text_completion" for body in bodies)
    assert all(isinstance(choice["text"], str) for body in bodies for choice in body["choices"])


def test_the_batch_formats_endpoints_are_its_own(replies: Replies) -> None:
    assert [body["object"] for body in replies("batch")] == ["chat.completion", "chat.completion", "text_completion"]


def test_names_in_few_shot_samples_are_those_of_examples() -> None:
    for job in jobs_of("few-shot"):
        names = [message.get("name") for message in job["messages"]]
        assert names[1:-1] == ["example_user", "example_assistant"] * 2
