"""What ``process run`` makes of servers that refuse, redirect, or are no API at all."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from processor.core.models import JSON
from tests.support.cli_world import ProgramResult, Shell, chat_job, chat_jobs
from tests.support.odd_server import Answer, OddServer, refusal, reply_to

pytestmark = pytest.mark.sampled

Run = Callable[..., ProgramResult]
StartOdd = Callable[[Callable[[JSON], Answer]], OddServer]

UNVERIFIED = refusal(400, "You must be verified to stream this model.", param="stream", code="unsupported_value")


@pytest.fixture
def odd_server(shell: Shell) -> Iterator[StartOdd]:
    servers: list[OddServer] = []

    def start(answer: Callable[[JSON], Answer]) -> OddServer:
        server = OddServer(answer)
        servers.append(server)
        shell.environ |= {"OPENAI_BASE_URL": server.base_url}
        return server

    yield start
    for server in servers:
        server.close()


def answer_unstreamed(request: JSON) -> Answer:
    return UNVERIFIED if request.get("stream") else reply_to(request)


def rows_of(shell: Shell, name: str) -> dict[str, dict[str, Any]]:
    path = shell.folder / name
    return {row["custom_id"]: row for row in shell.rows(name)} if path.exists() else {}


def test_jobs_are_asked_unstreamed_where_the_server_refuses_streams(
    shell: Shell, run_inside: Run, odd_server: StartOdd
) -> None:
    server = odd_server(answer_unstreamed)
    jobs = shell.write("jobs.jsonl", *chat_jobs(5), chat_job("own", stream=True))
    result = run_inside(jobs, "--out", "r.jsonl")
    assert result.code == 1
    replies, failures = rows_of(shell, "r.jsonl"), rows_of(shell, "r.errors.jsonl")
    assert [row["streamed"] for row in replies.values()] == [False] * 5
    assert failures["own"]["streamed"] is True
    assert failures["own"]["error"]["code"] == "rejected"
    assert len(server.requests) <= 5 + 2 + 4


@pytest.mark.parametrize("way", ["flag", "config", "job"])
def test_job_that_failed_as_a_stream_is_sent_again_once_it_is_asked_for_unstreamed(
    shell: Shell, run_inside: Run, odd_server: StartOdd, way: str
) -> None:
    server = odd_server(answer_unstreamed)
    jobs = shell.write("jobs.jsonl", chat_job("a"), chat_job("own", stream=True))
    assert run_inside(jobs, "--out", "r.jsonl").code == 1
    sent = len(server.requests)
    assert run_inside(jobs, "--out", "r.jsonl").code == 1
    assert len(server.requests) == sent, "asked in the same way, it would fail again"
    if way == "job":
        shell.write("jobs.jsonl", chat_job("a"), chat_job("own", stream=False))
    if way == "config":
        (shell.folder / "config.toml").write_text("stream = false\n")
    result = run_inside(jobs, "--out", "r.jsonl", *(["--no-stream"] if way == "flag" else []))
    assert result.code == 0
    assert len(server.requests) == sent + 1
    assert rows_of(shell, "r.jsonl")["own"]["streamed"] is False


def test_requests_that_cannot_be_streamed_cost_one_request(shell: Shell, run_inside: Run, odd_server: StartOdd) -> None:
    server = odd_server(answer_unstreamed)
    best = {"custom_id": "best", "url": "/v1/completions", "body": {"model": "m", "prompt": "Hi", "best_of": 3}}
    jobs = shell.write("jobs.jsonl", best, chat_job("audio", audio={"format": "wav", "voice": "x"}))
    assert run_inside(jobs, "--out", "r.jsonl").code == 0
    assert len(server.requests) == 2


SPENT = [
    refusal(403, "pre-consume failed", code="insufficient_user_quota", type="new_api_error"),
    refusal(402, "Insufficient Balance", code="invalid_request_error"),
    refusal(400, "Your credit balance is too low to access the API.", type="invalid_request_error"),
    refusal(429, "Rate limit reached on requests per day (RPD): Limit 200. Please try again in 7h12m."),
    Answer(status=400, body=[{"error": {"code": 400, "message": "API key not valid.", "status": "INVALID_ARGUMENT"}}]),
    Answer(body={"base_resp": {"status_code": 1008, "status_msg": "insufficient balance"}}),
]


@pytest.mark.parametrize("answer", SPENT)
def test_spent_account_or_wrong_key_stops_the_run_and_leaves_no_failed_row(
    shell: Shell, run_inside: Run, odd_server: StartOdd, answer: Answer
) -> None:
    server = odd_server(lambda request: answer)
    jobs = shell.write("jobs.jsonl", *chat_jobs(30))
    result = run_inside(jobs, "--out", "r.jsonl", "--max-attempts", "2")
    assert result.code == 3
    assert len(server.requests) == 1
    assert not rows_of(shell, "r.errors.jsonl")


def test_redirect_stops_the_run_and_is_not_counted_as_billed(
    shell: Shell, run_inside: Run, odd_server: StartOdd
) -> None:
    moved = Answer(status=302, headers={"Location": "https://elsewhere.example/login?next=1"})
    server = odd_server(lambda request: moved)
    result = run_inside(shell.write("jobs.jsonl", *chat_jobs(30)), "--out", "r.jsonl")
    assert result.code == 3
    assert "redirected to https://elsewhere.example/login" in result.err
    assert "billed" not in result.err
    assert len(server.requests) == 1


def test_web_page_in_place_of_a_reply_shows_its_title(shell: Shell, run_inside: Run, odd_server: StartOdd) -> None:
    page = b"<!DOCTYPE html><html><head><title>Sign in</title></head><body>" + b"x" * 3000 + b"</body></html>"
    odd_server(lambda request: Answer(body=page, headers={"Content-Type": "text/html"}))
    jobs = shell.write("jobs.jsonl", chat_job("a"))
    result = run_inside(jobs, "--out", "r.jsonl", "--max-attempts", "1")
    assert result.code in (1, 3)
    assert "a web page" in result.err or "a web page" in json.dumps(rows_of(shell, "r.errors.jsonl"))
    assert "Sign in" in result.err or "Sign in" in json.dumps(rows_of(shell, "r.errors.jsonl"))


NESTED = b'{"error":' * 900 + b'"x"' + b"}" * 900
ODD_CALLS: list[Any] = [
    None,
    {},
    "call",
    [None],
    [[]],
    ["x"],
    [{"function": None}],
    [{"function": "name"}],
    [{"function": ["name"]}],
    [{"function": {"name": 7, "arguments": {"a": 1}}}],
    [{"index": "0", "function": {"arguments": ["x"]}}],
    {"0": {"function": {"name": "f"}}},
    7,
    True,
]
ODD_CONTENT: list[Any] = [
    7,
    True,
    {"text": "x"},
    [None],
    [7],
    [[]],
    [{"type": None}],
    [{"type": ["text"], "text": "x"}],
    [{"type": "text", "text": None}],
    [{"type": "text", "text": {"a": 1}}],
    [{"type": "image_url", "image_url": 7}],
]


def odd_message(streamed: bool, message: JSON, finish_reason: Any = "stop") -> Answer:
    part = "delta" if streamed else "message"
    body = {"choices": [{"index": 0, part: message, "finish_reason": finish_reason}]}
    return Answer(body=b"data: " + json.dumps(body).encode() + b"\n\ndata: [DONE]\n\n" if streamed else body)


def with_message(fields: JSON, finish_reason: Any = "stop") -> Callable[[JSON], Answer]:
    return lambda request: odd_message(bool(request["stream"]), fields, finish_reason)


ODD_REASONS: list[Any] = [["stop"], {}, {"a": 1}, 7, True, [[]]]
ODD_FIELDS: list[Any] = [7, ["x"], {"a": 1}]
ODD_ANSWERS: list[tuple[str, Callable[[JSON], Answer]]] = [
    ("nested 400", lambda request: Answer(status=400, body=NESTED)),
    ("nested 200", lambda request: Answer(body=NESTED)),
    ("nested event", lambda request: Answer(body=b"data: " + NESTED + b"\n\n")),
    *((f"calls {calls!r:.40}", with_message({"content": None, "tool_calls": calls})) for calls in ODD_CALLS),
    *((f"content {content!r:.40}", with_message({"content": content})) for content in ODD_CONTENT),
    *((f"reason {reason!r:.40}", with_message({"content": "x"}, reason)) for reason in ODD_REASONS),
    *(
        (f"{name} {value!r:.40}", with_message({name: value}))
        for name in ("refusal", "function_call", "reasoning", "reasoning_content", "audio", "annotations", "role")
        for value in ODD_FIELDS
    ),
]


@pytest.mark.parametrize("mode", ["--stream", "--no-stream"])
@pytest.mark.parametrize("answer", [pytest.param(answer, id=name) for name, answer in ODD_ANSWERS])
def test_odd_reply_is_echoed_and_written_without_an_internal_error(
    shell: Shell, run_inside: Run, odd_server: StartOdd, answer: Callable[[JSON], Answer], mode: str
) -> None:
    odd_server(answer)
    shell.environ["OPENAI_API_KEY"] = "sk-test-0123456789abcdef"
    jobs = shell.write("jobs.jsonl", chat_job("a"))
    result = run_inside(jobs, "--out", "r.jsonl", "--echo", "--max-attempts", "1", mode)
    assert result.code in (0, 1, 3)


@pytest.mark.parametrize(
    "key", ['{"error":{"message":', '"message":"no such thing', "invalid_request_error", "message"]
)
def test_key_that_occurs_in_json_is_masked_in_its_strings_only(
    shell: Shell, run_inside: Run, odd_server: StartOdd, key: str
) -> None:
    odd_server(lambda request: refusal(400, f"no such thing as {key}", type="invalid_request_error"))
    shell.environ["OPENAI_API_KEY"] = key
    result = run_inside(shell.write("jobs.jsonl", chat_job("a")), "--out", "r.jsonl")
    assert result.code in (1, 3)
    for row in rows_of(shell, "r.errors.jsonl").values():
        assert row["response"]["body"]["error"]["message"].startswith("no such thing as ")


WAITS = ["1790000000", "1790000000000", "1790000000000000", "1000000000000", "1e309", "nan", "-1", "9" * 400, "soon"]


@pytest.mark.parametrize("wait", WAITS)
def test_wait_of_any_shape_ends_no_run(shell: Shell, run_inside: Run, odd_server: StartOdd, wait: str) -> None:
    seen: list[JSON] = []

    def answer(request: JSON) -> Answer:
        seen.append(request)
        if len(seen) == 1:
            return refusal(503, f"busy, try again in {wait}s", {"Retry-After": wait, "X-RateLimit-Reset": wait})
        return reply_to(request)

    odd_server(answer)
    (shell.folder / "config.toml").write_text("[waiting]\nbackoff_min_s = 0.01\nbackoff_max_s = 0.02\n")
    assert run_inside(shell.write("jobs.jsonl", *chat_jobs(3)), "--out", "r.jsonl").code == 0
