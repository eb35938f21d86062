"""A new API needs one class and its registration: the whole program then runs its jobs.

The API here writes haikus. Its requests, events, replies, end marker, options and reasons to stop differ from those of
every API that the program knows.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import orjson
import pytest

from processor.core.errors import BadRequest, InvalidJob, ProtocolError, StatusError, StreamTruncated
from processor.core.models import JSON, Job
from processor.protocols.base import Protocol, RequestOptions
from processor.protocols.registry import PROTOCOLS
from processor.protocols.reply_json import parse_object
from processor.tokens.rules import ModelCounter
from tests.support.cli_world import KEY, ProgramResult, Shell
from tests.support.threaded_server import in_thread

Run = Callable[..., ProgramResult]

HAIKU = ["An old silent pond", "a frog jumps in", "splash"]


# ---------------------------------------------------------------- the protocol


class HaikuAccumulator:
    """Events: `{"line": "..."}` for each line, then `{"bye": REASON, "usage": {...}}`."""

    def __init__(self) -> None:
        self._body: JSON = {"lines": []}
        self._popped = 0
        self.altered: set[str] = set()
        self.has_content = False
        self.saw_end_marker = False

    @property
    def is_complete(self) -> bool:
        return self.saw_end_marker

    def feed(self, events: Sequence[bytes]) -> None:
        for event in map(parse_object, events):
            if "line" in event:
                self.has_content = True
                self._body["lines"].append(event["line"])
            else:
                self.saw_end_marker = True
                self._body |= event

    def pop_text(self) -> str:
        new, self._popped = self._body["lines"][self._popped :], len(self._body["lines"])
        return "".join(f"{line}\n" for line in new)

    def result(self) -> JSON:
        if not self.saw_end_marker:
            raise StreamTruncated("the haiku ended without a bye")
        return self._body


class Haikus(Protocol):
    path = "/v1/haikus"
    input_field = "topic"
    prompt_fields = ("topic",)
    end_marker = b'"bye"'

    def validate(self, body: JSON) -> None:
        if not isinstance(body.get("topic"), str):
            raise InvalidJob("has no topic")

    def from_short(self, fields: JSON) -> JSON:
        return {"topic": fields.pop("prompt"), **fields}

    def encode(self, job: Job, options: RequestOptions) -> bytes:
        mode = "live" if self.is_streamed(job, options) else "whole"
        added = {"tell_usage": True} if options.include_usage else {}
        return orjson.dumps({**job.body, "mode": mode, **added})

    def adapt(self, error: StatusError, job: Job, options: RequestOptions) -> RequestOptions | None:
        if options.include_usage and isinstance(error, BadRequest) and "tell_usage" in str(error):
            return replace(options, include_usage=False)
        return None

    def accumulator(self, job: Job) -> HaikuAccumulator:
        return HaikuAccumulator()

    def parse_json(self, data: bytes) -> JSON:
        body = parse_object(data, "the reply")
        if "lines" not in body:
            raise ProtocolError("the reply has no lines")
        return body

    def text(self, body: JSON) -> str:
        return "\n".join(body["lines"])

    def finish_reasons(self, body: JSON) -> list[str]:
        return [body["bye"]]

    def is_cut_short(self, body: JSON, request: JSON) -> bool:
        return bool(body["bye"] == "out of ink")

    def max_output_tokens(self, body: JSON) -> int | None:
        return body.get("ink")

    def _count_prompt(self, body: JSON, counter: ModelCounter, reasons: set[str]) -> int:
        return counter.count_text(body["topic"])

    def _count_reply(self, reply: JSON, request: JSON, counter: ModelCounter, reasons: set[str]) -> int:
        return sum(map(counter.count_text, reply["lines"]))


# ---------------------------------------------------------------- the server


class HaikuServer(BaseHTTPRequestHandler):
    """Refuses `tell_usage`; `ink` is the most lines that it writes."""

    requests: list[JSON]

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        self.requests.append({"path": self.path, **body})
        if "tell_usage" in body:
            self.answer(400, "application/json", b'{"error": "unknown field: tell_usage"}')
            return
        lines = HAIKU[: body.get("ink")]
        bye = {"bye": "done" if lines == HAIKU else "out of ink", "usage": {"input_tokens": 7, "output_tokens": 9}}
        if body["mode"] == "whole":
            self.answer(200, "application/json", orjson.dumps({"lines": lines, **bye}))
            return
        events = [*({"line": line} for line in lines), bye]
        stream = b"".join(b"data: %b\n\n" % orjson.dumps(event) for event in events)
        self.answer(200, "text/event-stream", stream)

    def answer(self, status: int, content_type: str, body: bytes) -> None:
        self.send_response(status)
        self.send_header("Content-Type", content_type)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *args: Any) -> None:
        """Write nothing to stderr."""


@pytest.fixture
def requests(shell: Shell, monkeypatch: pytest.MonkeyPatch) -> Iterator[list[JSON]]:
    """The haiku API is registered, and served; yields the requests that came."""
    monkeypatch.setitem(PROTOCOLS, Haikus.path, Haikus())
    requests: list[JSON] = []
    monkeypatch.setattr(HaikuServer, "requests", requests, raising=False)
    server = ThreadingHTTPServer(("127.0.0.1", 0), HaikuServer)
    with in_thread(server):
        shell.environ |= {"OPENAI_BASE_URL": f"http://127.0.0.1:{server.server_port}/v1", "OPENAI_API_KEY": KEY}
        yield requests


# ---------------------------------------------------------------- the run


def test_jobs_of_a_new_protocol_run_in_all_three_formats(shell: Shell, run_inside: Run, requests: list[JSON]) -> None:
    jobs = shell.write(
        "jobs.jsonl",
        {"id": "short", "model": "gpt-4o", "prompt": "a pond"},
        {"id": "bare", "model": "gpt-4o", "topic": "a pond", "ink": 2},
        {"custom_id": "batch", "url": Haikus.path, "body": {"model": "gpt-4o", "topic": "a pond", "stream": False}},
        {"id": "invalid", "model": "gpt-4o", "topic": 7},
    )
    result = run_inside(jobs, "--out", "r.jsonl", "--endpoint", Haikus.path, "--echo", "--summary-json", "summary.json")
    assert result.code == 1
    rows = {row["custom_id"]: row for row in shell.rows("r.jsonl")}
    usage = {"input_tokens": 7, "output_tokens": 9}
    done = {"lines": HAIKU, "bye": "done", "usage": usage}
    assert {name: row["response"]["body"] for name, row in rows.items()} == {
        "short": done,
        "bare": {"lines": HAIKU[:2], "bye": "out of ink", "usage": usage},
        "batch": done,
    }
    (failed,) = shell.rows("r.errors.jsonl")
    assert (failed["custom_id"], failed["error"]["code"]) == ("invalid", "invalid_job")
    assert "has no topic" in failed["error"]["message"]

    # Tokens: as computed with the rules of the protocol, and as reported by the server.
    assert rows["short"]["usage"] == {"prompt_tokens": 2, "completion_tokens": 10, "total_tokens": 12}
    assert all(row["usage_source"] == "reported" for row in rows.values())

    # The refused option was sent once, and the job that it was sent with again without it.
    assert [request["path"] for request in requests] == [Haikus.path] * 4
    assert ["tell_usage" in request for request in requests] == [True, False, False, False]
    assert [request["mode"] for request in requests] == ["live", "live", "live", "whole"]
    assert rows["short"]["attempts"] == 2

    # Echo and summary.
    assert result.err.count("\n".join(HAIKU)) == 2, "one reply streamed, one came in one piece"
    assert result.row("cut short").startswith("1 reply")
    summary = json.loads((shell.folder / "summary.json").read_text())
    assert summary["finish_reasons"] == {"done": 2, "out of ink": 1}


def test_a_path_without_a_protocol_is_refused_with_the_paths_that_have_one(
    shell: Shell, run_inside: Run, requests: list[JSON]
) -> None:
    jobs = shell.write("jobs.jsonl", {"model": "m", "prompt": "x"})
    result = run_inside(jobs, "--out", "r.jsonl", "--endpoint", "/v1/sonnets")
    assert result.code == 2
    assert Haikus.path in result.error
    assert requests == []
