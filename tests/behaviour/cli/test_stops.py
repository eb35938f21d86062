"""What stops a run: one line with the reason, the exit code, and the command to resume."""

from __future__ import annotations

import errno
import json
import os
import signal
import subprocess
import time
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import replace
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from typing import BinaryIO

import pytest

from processor.input.job_file import JobFile
from processor.simulator.faults import Faults
from processor.simulator.settings import INSTANT, SimulatorSettings
from tests.support.cli_world import ProgramResult, Server, Shell, chat_job, chat_jobs, free_port, wait_until
from tests.support.threaded_server import in_thread

Run = Callable[..., ProgramResult]
StartServer = Callable[[SimulatorSettings], Server]

STEADY = replace(
    INSTANT, first_token_s=0.2, first_token_jitter=0.0, canned=False, speed_tps=40.0, reply_tokens=(60, 60)
)
"""Replies of one and a half seconds."""

ENDLESS = replace(STEADY, speed_tps=1.0)
"""Replies of a minute."""

SOON_S = 10.0
"""Longer than an abort takes on a busy machine, shorter than a reply."""


# ---------------------------------------------------------------- errors


def test_wrong_key_stops_the_run_after_one_request(shell: Shell, run_inside: Run, start_server: StartServer) -> None:
    server = start_server(replace(INSTANT, auth="refused"))
    shell.write("jobs.jsonl", *chat_jobs(100))
    result = run_inside("jobs.jsonl", "--out", "r.jsonl")
    assert (result.code, result.out) == (3, "")
    assert result.row("stopped") == "100 jobs remaining: the provider refused: Incorrect API key provided."
    assert result.row("to resume") == "process jobs.jsonl --out r.jsonl"
    assert len(server.requests) == 1
    assert shell.rows("r.jsonl") == []
    assert not (shell.folder / "r.errors.jsonl").exists()


def test_refused_connection_stops_the_run_with_a_hint(shell: Shell, run_inside: Run) -> None:
    shell.write("jobs.jsonl", *chat_jobs(100))
    port = free_port()
    result = run_inside("jobs.jsonl", "--out", "r.jsonl", "--base-url", f"http://127.0.0.1:{port}/v1", "--quiet")
    assert result.code == 3
    assert result.error == (
        f"cannot connect to 127.0.0.1:{port}: Connection refused; is --base-url right, and the server up?"
    )
    assert shell.rows("r.jsonl") == []


def test_unknown_host_stops_the_run(shell: Shell, run_inside: Run) -> None:
    shell.write("jobs.jsonl", chat_job("a"))
    shell.environ["OPENAI_API_KEY"] = "not-a-key-of-anyone"
    result = run_inside("jobs.jsonl", "--base-url", "https://llm.invalid/v1", "--quiet")
    assert result.code == 3
    assert result.error.startswith("the host of llm.invalid:443 is not found: ")


def test_wrong_model_stops_the_run_after_twenty_requests(
    shell: Shell, run_inside: Run, start_server: StartServer
) -> None:
    server = start_server(replace(INSTANT, models=("gpt-5",)))
    shell.write("jobs.jsonl", *({"prompt": f"Count to {number}."} for number in range(300)))
    result = run_inside("jobs.jsonl", "--out", "r.jsonl", "--model", "gtp-5")
    assert result.code == 3
    why = "the provider does not know the model gtp-5: The model `gtp-5` does not exist"
    assert result.row("stopped").startswith(f"300 jobs remaining: {why}")
    assert len(server.requests) == 20
    assert not (shell.folder / "r.errors.jsonl").exists()

    corrected = run_inside("jobs.jsonl", "--out", "r.jsonl", "--model", "gpt-5")
    assert corrected.code == 0
    assert len(shell.rows("r.jsonl")) == 300


def test_server_that_is_not_an_llm_server_stops_the_run(shell: Shell, run_inside: Run) -> None:
    """A file server, which has no LLM API."""
    paths: list[str] = []

    class Files(SimpleHTTPRequestHandler):
        def log_message(self, *args: object) -> None:
            paths.append(self.path)

    shell.write("jobs.jsonl", *chat_jobs(50))
    files = ThreadingHTTPServer(("127.0.0.1", 0), Files)
    with in_thread(files):
        url = f"http://127.0.0.1:{files.server_port}"
        result = run_inside("jobs.jsonl", "--out", "r.jsonl", "--base-url", url, "--quiet")
    assert result.code == 3
    assert result.error.startswith("there is nothing at /v1/chat/completions: HTTP 501 Not Implemented")
    assert result.error.endswith("; is --base-url right?")
    assert set(paths) == {"/v1/chat/completions"}
    assert shell.rows("r.jsonl") == [] and not (shell.folder / "r.errors.jsonl").exists()


def test_exhausted_quota_stops_the_run_and_the_next_run_resumes(
    shell: Shell, run_inside: Run, start_server: StartServer
) -> None:
    start_server(replace(INSTANT, quota=5))
    shell.write("jobs.jsonl", *chat_jobs(40))
    result = run_inside("jobs.jsonl", "--out", "r.jsonl", "--concurrency", "4")
    assert result.code == 3
    assert "You exceeded your current quota" in result.row("stopped")
    assert len(shell.rows("r.jsonl")) == 5
    start_server(INSTANT)
    assert run_inside("jobs.jsonl", "--out", "r.jsonl").code == 0
    assert len(shell.rows("r.jsonl")) == 40


@pytest.mark.parametrize(("readable", "code"), [(2, 3), (1, 2)])
def test_unreadable_job_file_stops_the_run_in_order(
    shell: Shell, run_inside: Run, server: Server, monkeypatch: pytest.MonkeyPatch, readable: int, code: int
) -> None:
    """As with a bad sector: the lines can be counted, but reading them again fails after some chunks."""
    shell.write("jobs.jsonl", *chat_jobs(2000))

    async def chunks(source: JobFile) -> AsyncIterator[bytes]:
        with source._as_input_error():
            for chunk in (b"\n", json.dumps(chat_job("a")).encode() + b"\n")[:readable]:
                yield chunk
            raise OSError(errno.EIO, os.strerror(errno.EIO))

    monkeypatch.setattr(JobFile, "_chunks", chunks)
    result = run_inside("jobs.jsonl", "--out", "r.jsonl", "--quiet")
    assert (result.code, result.error) == (code, "cannot read jobs.jsonl: input/output error")
    rows = shell.rows("r.jsonl") if (shell.folder / "r.jsonl").exists() else []
    assert len(rows) == len(server.requests) == readable - 1


@pytest.mark.process
@pytest.mark.slow
def test_full_disk_stops_the_run_in_order_and_the_next_run_resumes(shell: Shell, start_server: StartServer) -> None:
    """The system does not let the file grow beyond the size of some rows."""
    start_server(INSTANT)
    shell.write("jobs.jsonl", *chat_jobs(60))
    result = shell("jobs.jsonl", "--out", "r.jsonl", max_file_bytes=20_000)
    assert result.code == 3
    lines = result.err.splitlines()
    assert any(line.endswith(" stopping: cannot write r.jsonl: file too large") for line in lines)
    assert result.row("to resume") == "process jobs.jsonl --out r.jsonl"
    whole = (shell.folder / "r.jsonl").read_bytes().splitlines(keepends=True)
    assert 0 < len(whole) < 60
    again = shell("jobs.jsonl", "--out", "r.jsonl")
    assert (again.code, len(shell.rows("r.jsonl"))) == (0, 60)
    kept = [line for line in whole if line.endswith(b"\n")]
    assert (shell.folder / "r.jsonl").read_bytes().startswith(b"".join(kept))


def test_job_fails_after_max_attempts_at_a_failing_server(
    shell: Shell, run_inside: Run, start_server: StartServer
) -> None:
    server = start_server(replace(INSTANT, faults=Faults({"error_500": 1.0})))
    shell.write("jobs.jsonl", chat_job("a"))
    (shell.folder / "config.toml").write_text("[waiting]\nbackoff_min_s = 0.01\nbackoff_max_s = 0.02\n")
    result = run_inside("jobs.jsonl", "--out", "r.jsonl", "--max-attempts", "3")
    assert result.code == 1
    (row,) = shell.rows("r.errors.jsonl")
    assert row["attempts"] == len(server.requests) == 3
    assert row["error"]["message"].endswith(" (the last of 3 failed attempts)")
    assert result.row("to resume") == "process jobs.jsonl --out r.jsonl --max-attempts 3"


# ---------------------------------------------------------------- signals


@pytest.fixture
def running(shell: Shell, start_server: StartServer) -> Callable[..., subprocess.Popen[bytes]]:
    """Starts a run of 40 jobs and returns when four are in flight."""
    shell.write("jobs.jsonl", *[chat_job(f"job-{at}", max_tokens=60) for at in range(40)])

    def start(*args: str, settings: SimulatorSettings = STEADY) -> subprocess.Popen[bytes]:
        server = start_server(settings)
        process = shell.start("jobs.jsonl", "--out", "r.jsonl", "--concurrency", "4", *args)
        wait_until(lambda: len(server.requests) >= 4)
        return process

    return start


Running = Callable[..., subprocess.Popen[bytes]]


@pytest.fixture
def starting(shell: Shell) -> Iterator[tuple[subprocess.Popen[bytes], BinaryIO]]:
    """A run that is still reading its settings from a pipe, and the writing end of the pipe."""
    shell.write("jobs.jsonl", chat_job("a"))
    os.mkfifo(shell.folder / "settings.toml")
    process = shell.start("jobs.jsonl", "--out", "r.jsonl", "--simulate", "--config", "settings.toml")
    with (shell.folder / "settings.toml").open("wb", buffering=0) as settings:
        yield process, settings


Starting = tuple[subprocess.Popen[bytes], BinaryIO]


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.process
def test_signal_before_the_run_starts_ends_it_at_once_and_leaves_no_files(
    shell: Shell, starting: Starting, number: int
) -> None:
    process, _ = starting
    process.send_signal(number)
    assert shell.end(process) == ProgramResult(130, "", "interrupted: run the same command again to resume\n")
    assert sorted(path.name for path in shell.folder.iterdir()) == ["jobs.jsonl", "settings.toml"]


@pytest.mark.process
def test_sigusr1_before_the_run_starts_is_ignored(shell: Shell, starting: Starting) -> None:
    process, settings = starting
    process.send_signal(signal.SIGUSR1)
    settings.write(b"concurrency = 2\n")
    settings.close()
    assert shell.end(process).code == 0
    assert len(shell.rows("r.jsonl")) == 1


@pytest.mark.parametrize(
    ("number", "name"),
    [(signal.SIGINT, "Ctrl-C"), pytest.param(signal.SIGTERM, "SIGTERM", marks=pytest.mark.slow)],
)
@pytest.mark.process
def test_first_signal_lets_requests_in_flight_finish(shell: Shell, running: Running, number: int, name: str) -> None:
    process = running()
    process.send_signal(number)
    result = shell.end(process)
    assert result.code == 130
    rows = shell.rows("r.jsonl")
    assert 4 <= len(rows) < 40
    assert f"stopping: interrupted ({name}); " in result.err
    assert result.row("stopped") == f"{40 - len(rows)} jobs remaining: interrupted ({name})"
    assert result.row("to resume") == "process jobs.jsonl --out r.jsonl --concurrency 4"
    assert "error: " not in result.err


@pytest.mark.process
def test_second_signal_aborts_requests_and_the_next_run_reports_them_as_possibly_billed(
    shell: Shell, running: Running, start_server: StartServer
) -> None:
    process = running(settings=ENDLESS)
    process.send_signal(signal.SIGINT)
    time.sleep(0.1)
    signalled_at = time.monotonic()
    process.send_signal(signal.SIGINT)
    result = shell.end(process)
    assert time.monotonic() - signalled_at < SOON_S
    assert result.code == 130
    assert result.row("possibly billed") == "4 attempts sent, but ended without a reply"
    assert shell.rows("r.jsonl") == []

    start_server(INSTANT)
    again = shell("jobs.jsonl", "--out", "r.jsonl", "--limit", "1")
    assert again.code == 0
    assert again.row("warning").startswith("4 requests of an earlier run may have been billed without a reply")


@pytest.mark.process
def test_signal_without_grace_aborts_requests_at_once(shell: Shell, running: Running) -> None:
    process = running("--grace", "0", settings=ENDLESS)
    signalled_at = time.monotonic()
    process.send_signal(signal.SIGTERM)
    assert shell.end(process).code == 130
    assert time.monotonic() - signalled_at < SOON_S


@pytest.mark.process
def test_sigusr1_prints_a_status_report(shell: Shell, running: Running) -> None:
    process = running(settings=ENDLESS)
    process.send_signal(signal.SIGUSR1)
    time.sleep(0.2)
    process.send_signal(signal.SIGINT)
    time.sleep(0.1)
    process.send_signal(signal.SIGINT)
    result = shell.end(process)
    assert result.code == 130
    assert "/40 done (" in result.err
    assert result.err.count("  in flight for ") == 4


@pytest.mark.process
@pytest.mark.slow
def test_killed_run_keeps_every_written_row(shell: Shell, running: Running, start_server: StartServer) -> None:
    process = running()
    wait_until(lambda: shell.row_count("r.jsonl") >= 2)
    process.kill()
    process.wait()
    shell.end(process)
    done = {row["custom_id"] for row in shell.rows("r.jsonl")}
    start_server(INSTANT)
    again = shell("jobs.jsonl", "--out", "r.jsonl")
    assert again.code == 0
    assert again.row("done").endswith(f", {len(done)} in earlier runs)")
    assert len(shell.rows("r.jsonl")) == len({row["custom_id"] for row in shell.rows("r.jsonl")}) == 40


def test_deadline_that_is_too_near_stops_the_run_before_anything_is_sent(
    shell: Shell, server: Server, run_inside: Run
) -> None:
    shell.write("jobs.jsonl", *chat_jobs(3))
    in_a_minute = time.strftime("%H:%M", time.localtime(time.time() + 60))
    result = run_inside("jobs.jsonl", "--out", "r.jsonl", "--until", in_a_minute)
    assert (result.code, len(server.requests)) == (3, 0)
    assert "leaves no time for a further reply, which may take 600 s" in result.row("stopped")
