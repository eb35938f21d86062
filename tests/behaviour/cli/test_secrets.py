"""The key is in no file, stream, log or traceback, however a run ends and whatever repeats it."""

from __future__ import annotations

import asyncio
import gc
import json
import signal
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from processor.app import run_reporter
from processor.tokens.counter import TokenCounter
from tests.support.cli_world import KEY, ProgramResult, Shell, chat_jobs
from tests.support.slow_cases import slow_except
from tests.support.threaded_server import in_thread

Run = Callable[..., ProgramResult]

NEEDLE = KEY[:12]
"""A part that is left where a text is cut would be found, too."""

MESSAGES = [f"no: {KEY}", f"Bearer {KEY}", "x" * 484 + KEY + " and more", f"<b>{KEY}</b>", "y" * 65 + KEY + " and more"]


class RepeatingServer(ThreadingHTTPServer):
    """Answers with the key that it was sent: in headers, in error messages, in replies. ``status`` 0: never."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.status = 200
        self.streams = False
        self.count = 0
        self.key_seen = ""
        self.never = threading.Event()

    def handle_error(self, *_: object) -> None:
        """Write nothing: a run that breaks off has closed its connections."""


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    server: RepeatingServer

    def log_message(self, *args: object) -> None:
        """Write nothing."""

    def do_POST(self) -> None:
        server = self.server
        self.rfile.read(int(self.headers["Content-Length"]))
        server.key_seen = key = (self.headers["Authorization"] or "").removeprefix("Bearer ")
        server.count += 1
        if not server.status:
            server.never.wait(60)
        message = MESSAGES[server.count % len(MESSAGES)].replace(KEY, key)
        if server.status != 200:
            body = json.dumps({"error": {"message": message, "param": key, "code": f"c-{key}"}, "request_id": key})
            return self._send(server.status, body if server.count % 3 else message, "application/json")
        if not server.streams:
            return self._send(200, json.dumps(_completion(message, key)), "application/json")
        pieces = [message[at : at + 5] for at in range(0, len(message), 5)]
        events = [{"id": key, "choices": [{"index": 0, "delta": {"content": piece}}]} for piece in pieces]
        events.append({"id": key, "choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}]})
        text = "".join(f"data: {json.dumps(event)}\n\n" for event in events) + "data: [DONE]\n\n"
        return self._send(200, text, "text/event-stream")

    def _send(self, status: int, text: str, kind: str) -> None:
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(text.encode())))
        if status == 429:
            self.send_header("Retry-After", "5")
        self.send_header("x-request-id", f"req-{self.server.key_seen}")
        self.end_headers()
        self.wfile.write(text.encode())


def _completion(text: str, key: str) -> dict[str, object]:
    message = {"role": "assistant", "content": text, key: key}
    return {
        "id": key,
        "object": "chat.completion",
        "choices": [{"index": 0, "message": message, "finish_reason": "stop"}],
    }


@pytest.fixture
def repeating() -> Iterator[RepeatingServer]:
    server = RepeatingServer()
    with in_thread(server):
        yield server
        server.never.set()


@pytest.fixture
def arguments(shell: Shell, repeating: RepeatingServer) -> list[str]:
    shell.write("jobs.jsonl", *chat_jobs(12))
    waiting = "backoff_min_s = 0.01\nbackoff_max_s = 0.02\nmax_wait_s = 0.5\nmax_outage_s = 0.5\n"
    (shell.folder / "fast.toml").write_text(f"[waiting]\n{waiting}")
    shell.environ["OPENAI_API_KEY"] = KEY
    url = f"http://127.0.0.1:{repeating.server_port}/v1"
    files = ("--out", "r.jsonl", "--log-file", "log", "--summary-json", "s.json", "--config", "fast.toml")
    return ["jobs.jsonl", "--base-url", url, *files]


def assert_nowhere(folder: Path, *texts: str) -> None:
    for path in folder.rglob("*"):
        if path.is_file():
            assert NEEDLE.encode() not in path.read_bytes(), path
    for text in texts:
        assert NEEDLE not in text


@pytest.mark.parametrize("streams", [False, True])
@pytest.mark.parametrize(
    "more", slow_except([[], ["--echo"], ["--no-progress"], ["--quiet"]], ["--echo"]), ids=" ".join
)
def test_key_in_replies_of_a_complete_run(
    shell: Shell, run_inside: Run, repeating: RepeatingServer, arguments: list[str], streams: bool, more: list[str]
) -> None:
    repeating.streams = streams
    result = run_inside(*arguments, *more)
    assert (result.code, repeating.key_seen) == (0, KEY)
    assert_nowhere(shell.folder, result.out, result.err)
    rows = shell.rows("r.jsonl")
    assert len(rows) == 12
    assert all(row["altered"] == ["key"] for row in rows)
    assert all("•••" in row["response"]["body"]["choices"][0]["message"]["content"] for row in rows)
    assert all(row["response"]["request_id"] == "req-•••" for row in rows)


def test_key_in_replies_on_stdout(
    shell: Shell, run_inside: Run, repeating: RepeatingServer, arguments: list[str]
) -> None:
    result = run_inside(*arguments, "--out", "-")
    assert result.code == 0
    assert_nowhere(shell.folder, result.out, result.err)


@pytest.mark.parametrize("status", slow_except([400, 404, 413, 500], 400))
def test_key_in_refusals_of_jobs(
    shell: Shell, run_inside: Run, repeating: RepeatingServer, arguments: list[str], status: int
) -> None:
    assert run_inside(*arguments, "--limit", "1").code == 0
    repeating.status = status
    result = run_inside(*arguments, "--max-attempts", "2", "--limit", "6")
    assert result.code in (1, 3)
    assert_nowhere(shell.folder, result.out, result.err)


@pytest.mark.parametrize("status", slow_except([401, 402, 403, 429, 302], 401))
def test_key_in_the_refusal_that_ends_a_run(
    shell: Shell, run_inside: Run, repeating: RepeatingServer, arguments: list[str], status: int
) -> None:
    repeating.status = status
    result = run_inside(*arguments, "--max-attempts", "2")
    assert result.code in (1, 3)
    assert_nowhere(shell.folder, result.out, result.err)


@pytest.mark.parametrize(
    "wrong",
    [
        ["--base-url", f"https://user:{KEY}@host/v1"],
        ["--base-url", f"ftp://{KEY}@host/v1"],
        ["--api-key-env", f"sk-{KEY}"],
        ["--base-url", "http://llm.example.org/v1", "--api-key-env", "OPENAI_API_KEY"],
    ],
)
def test_key_in_wrong_usage(shell: Shell, run_inside: Run, arguments: list[str], wrong: list[str]) -> None:
    result = run_inside(*arguments, *wrong)
    assert result.code == 2
    assert_nowhere(shell.folder, result.out, result.err)


def test_key_in_the_query_of_the_base_url(
    shell: Shell, run_inside: Run, repeating: RepeatingServer, arguments: list[str]
) -> None:
    url = f"http://127.0.0.1:{repeating.server_port}/v1?api_key={KEY}"
    repeating.status = 401
    result = run_inside(*arguments, "--base-url", url)
    assert result.code == 3
    assert_nowhere(shell.folder, result.out, result.err)


@pytest.mark.process
def test_key_in_an_interrupted_run(shell: Shell, repeating: RepeatingServer, arguments: list[str]) -> None:
    repeating.status = 0
    process = shell.start(*arguments, "--grace", "0")
    while not repeating.count:
        assert process.poll() is None
    process.send_signal(signal.SIGINT)
    result = shell.end(process)
    assert result.code == 130
    assert_nowhere(shell.folder, result.out, result.err)


def test_key_in_an_internal_error_of_the_run(
    shell: Shell, run_inside: Run, arguments: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: object) -> None:
        raise RuntimeError(f"a bug, and the key {KEY}")

    monkeypatch.setattr(TokenCounter, "for_model", broken)
    result = run_inside(*arguments)
    assert result.code == 70
    assert_nowhere(shell.folder, result.out, result.err)


def test_key_in_an_error_that_nothing_awaits(
    shell: Shell,
    run_inside: Run,
    arguments: list[str],
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    report_lack = run_reporter.report_lack

    async def fail() -> None:
        raise RuntimeError(f"headers: {KEY}")

    def abandon(*args: Any, **options: Any) -> None:
        asyncio.create_task(fail())  # noqa: RUF006 - so that nothing awaits it
        report_lack(*args, **options)

    monkeypatch.setattr(run_reporter, "report_lack", abandon)
    result = run_inside(*arguments)
    gc.collect()
    assert result.code == 0
    assert "RuntimeError: headers: •••" in caplog.text
    assert_nowhere(shell.folder, result.out, result.err, caplog.text)


def test_key_in_a_traceback(
    shell: Shell, run_inside: Run, arguments: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: object, **__: object) -> None:
        raise RuntimeError(f"a bug, and the key {KEY}")

    monkeypatch.setattr(run_reporter, "report_end", broken)
    result = run_inside(*arguments)
    shell.outputs.clear()  # the shell's check refuses tracebacks
    assert result.code == 70
    assert "a bug, and the key •••" in result.err
    assert_nowhere(shell.folder, result.out, result.err)
