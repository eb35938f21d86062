"""What stops a run: one clear line, the exit code that says so, and the command to go on."""

from __future__ import annotations

import errno
import json
import os
import signal
import subprocess
import threading
import time
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import replace
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from typing import BinaryIO

import pytest

from processor.input.job_file import JobFile
from processor.simulator.faults import Faults
from processor.simulator.settings import INSTANT, SimulatorSettings
from tests.support.cli_world import Ended, Server, Shell, ask, asks, free_port

Run = Callable[..., Ended]
Serving = Callable[[SimulatorSettings], Server]

STEADY = replace(
    INSTANT, first_token_s=0.2, first_token_jitter=0.0, canned=False, speed_tps=40.0, reply_tokens=(60, 60)
)
"""Replies of one and a half seconds."""

ENDLESS = replace(STEADY, speed_tps=1.0)
"""Replies of a minute."""

SOON_S = 10.0
"""However busy the machine is."""


def wait_until(is_so: Callable[[], bool]) -> None:
    for _ in range(3000):
        if is_so():
            return
        time.sleep(0.02)
    raise AssertionError("it did not happen within a minute")


# ---------------------------------------------------------------- what costs one request


@pytest.mark.process
def test_a_wrong_key_costs_one_request_and_says_so(shell: Shell, serving: Serving) -> None:
    server = serving(replace(INSTANT, auth="refused"))
    shell.write("jobs.jsonl", *asks(100))
    ended = shell("jobs.jsonl", "--out", "r.jsonl")
    assert (ended.code, ended.out) == (3, "")
    assert ended.said("stopped") == "100 jobs remaining: the provider refused: Incorrect API key provided."
    assert ended.said("to resume") == "process jobs.jsonl --out r.jsonl"
    assert len(server.asked) == 1
    assert shell.rows("r.jsonl") == []
    assert not (shell.folder / "r.errors.jsonl").exists()


def test_a_wrong_address_says_so(shell: Shell, inside: Run) -> None:
    shell.write("jobs.jsonl", *asks(100))
    port = free_port()
    ended = inside("jobs.jsonl", "--out", "r.jsonl", "--base-url", f"http://127.0.0.1:{port}/v1", "--quiet")
    assert ended.code == 3
    assert ended.error == (
        f"cannot connect to 127.0.0.1:{port}: Connection refused; is --base-url right, and the server up?"
    )
    assert shell.rows("r.jsonl") == []


def test_a_host_that_does_not_exist_says_so(shell: Shell, inside: Run) -> None:
    shell.write("jobs.jsonl", ask("a"))
    shell.environ["OPENAI_API_KEY"] = "not-a-key"
    ended = inside("jobs.jsonl", "--base-url", "https://llm.invalid/v1", "--quiet")
    assert ended.code == 3
    assert ended.error.startswith("the host of llm.invalid:443 is not found: ")


def test_a_wrong_model_costs_one_request_and_says_so(shell: Shell, inside: Run, serving: Serving) -> None:
    server = serving(replace(INSTANT, models=("gpt-5",)))
    shell.write("jobs.jsonl", *({"prompt": f"Count to {number}."} for number in range(300)))
    ended = inside("jobs.jsonl", "--out", "r.jsonl", "--model", "gtp-5")
    assert ended.code == 3
    why = "the provider does not know the model gtp-5: The model `gtp-5` does not exist"
    assert ended.said("stopped").startswith(f"300 jobs remaining: {why}")
    assert len(server.asked) == 1
    assert not (shell.folder / "r.errors.jsonl").exists()

    mended = inside("jobs.jsonl", "--out", "r.jsonl", "--model", "gpt-5")
    assert mended.code == 0
    assert len(shell.rows("r.jsonl")) == 300


def test_so_does_an_address_that_leads_to_something_else(shell: Shell, inside: Run) -> None:
    """A server of files, which knows nothing of LLMs."""
    asked: list[str] = []

    class Files(SimpleHTTPRequestHandler):
        def log_message(self, *args: object) -> None:
            asked.append(self.path)

    shell.write("jobs.jsonl", *asks(50))
    with ThreadingHTTPServer(("127.0.0.1", 0), Files) as files:
        thread = threading.Thread(target=files.serve_forever)
        thread.start()
        url = f"http://127.0.0.1:{files.server_port}"
        ended = inside("jobs.jsonl", "--out", "r.jsonl", "--base-url", url, "--quiet")
        files.shutdown()
        thread.join()
    assert ended.code == 3
    assert ended.error.startswith("there is nothing at /v1/chat/completions: HTTP 501 Not Implemented")
    assert ended.error.endswith("; is --base-url right?")
    assert set(asked) == {"/v1/chat/completions"}
    assert shell.rows("r.jsonl") == [] and not (shell.folder / "r.errors.jsonl").exists()


def test_an_account_without_credit_stops_the_run_where_it_is(shell: Shell, inside: Run, serving: Serving) -> None:
    serving(replace(INSTANT, quota=5))
    shell.write("jobs.jsonl", *asks(40))
    ended = inside("jobs.jsonl", "--out", "r.jsonl", "--concurrency", "4")
    assert ended.code == 3
    assert "You exceeded your current quota" in ended.said("stopped")
    assert len(shell.rows("r.jsonl")) == 5
    serving(INSTANT)
    assert inside("jobs.jsonl", "--out", "r.jsonl").code == 0
    assert len(shell.rows("r.jsonl")) == 40


@pytest.mark.parametrize(("readable", "code"), [(2, 3), (1, 2)])
def test_a_job_file_that_can_be_read_no_further_ends_the_run_in_order(
    shell: Shell, inside: Run, server: Server, monkeypatch: pytest.MonkeyPatch, readable: int, code: int
) -> None:
    """A bad sector: some chunks of it are read, after all of them were counted."""
    shell.write("jobs.jsonl", *asks(2000))

    async def chunks(source: JobFile) -> AsyncIterator[bytes]:
        with source._as_input_error():
            for chunk in (b"\n", json.dumps(ask("a")).encode() + b"\n")[:readable]:
                yield chunk
            raise OSError(errno.EIO, os.strerror(errno.EIO))

    monkeypatch.setattr(JobFile, "_chunks", chunks)
    ended = inside("jobs.jsonl", "--out", "r.jsonl", "--quiet")
    assert (ended.code, ended.error) == (code, "cannot read jobs.jsonl: input/output error")
    assert len(shell.rows("r.jsonl")) == len(server.asked) == readable - 1


@pytest.mark.process
def test_a_disk_that_is_full_ends_the_run_in_order_and_with_room_it_goes_on(shell: Shell, serving: Serving) -> None:
    """Room for some rows: the system refuses to let the file grow beyond that."""
    serving(INSTANT)
    shell.write("jobs.jsonl", *asks(60))
    ended = shell("jobs.jsonl", "--out", "r.jsonl", room_bytes=20_000)
    assert ended.code == 3
    assert ended.said("stopping:") == "cannot write r.jsonl: File too large"
    assert ended.said("to resume") == "process jobs.jsonl --out r.jsonl"
    whole = (shell.folder / "r.jsonl").read_bytes().splitlines(keepends=True)
    assert 0 < len(whole) < 60
    again = shell("jobs.jsonl", "--out", "r.jsonl")
    assert (again.code, len(shell.rows("r.jsonl"))) == (0, 60)
    kept = [line for line in whole if line.endswith(b"\n")]
    assert (shell.folder / "r.jsonl").read_bytes().startswith(b"".join(kept))


@pytest.mark.process
def test_where_nothing_can_be_unpacked_to_count_tokens_with_the_run_says_so(shell: Shell, server: Server) -> None:
    shell.write("jobs.jsonl", ask("a"))
    cache = str(shell.folder / "cache")
    ended = shell("jobs.jsonl", "--out", "r.jsonl", room_bytes=20_000, XDG_CACHE_HOME=cache, TMPDIR=str(shell.folder))
    assert ended.code == (3 if server.asked else 2)
    assert ended.said("stopping:").startswith("cannot unpack tiktoken's o200k_base: file too large; let XDG_CACHE_HOME")


def test_a_server_that_always_fails_costs_a_job_its_attempts(shell: Shell, inside: Run, serving: Serving) -> None:
    server = serving(replace(INSTANT, faults=Faults({"error_500": 1.0})))
    shell.write("jobs.jsonl", ask("a"))
    (shell.folder / "config.toml").write_text("[waiting]\nbackoff_min_s = 0.01\nbackoff_max_s = 0.02\n")
    ended = inside("jobs.jsonl", "--out", "r.jsonl", "--max-attempts", "3")
    assert ended.code == 1
    (row,) = shell.rows("r.errors.jsonl")
    assert row["attempts"] == len(server.asked) == 3
    assert row["error"]["message"].endswith(" (the last of 3 failed attempts)")
    assert ended.said("to resume") == "process jobs.jsonl --out r.jsonl --max-attempts 3"


# ---------------------------------------------------------------- signals


@pytest.fixture
def running(shell: Shell, serving: Serving) -> Callable[..., subprocess.Popen[bytes]]:
    """Starts a run of many jobs, and returns when four are in flight."""
    shell.write("jobs.jsonl", *[ask(f"job-{at}", max_tokens=60) for at in range(40)])

    def start(*args: str, settings: SimulatorSettings = STEADY) -> subprocess.Popen[bytes]:
        server = serving(settings)
        process = shell.start("jobs.jsonl", "--out", "r.jsonl", "--concurrency", "4", *args)
        wait_until(lambda: len(server.asked) >= 4)
        return process

    return start


Running = Callable[..., subprocess.Popen[bytes]]


@pytest.fixture
def starting(shell: Shell) -> Iterator[tuple[subprocess.Popen[bytes], BinaryIO]]:
    """A run that still reads its settings: from a pipe, whose writing end is given."""
    shell.write("jobs.jsonl", ask("a"))
    os.mkfifo(shell.folder / "settings.toml")
    process = shell.start("jobs.jsonl", "--out", "r.jsonl", "--simulate", "--config", "settings.toml")
    with (shell.folder / "settings.toml").open("wb", buffering=0) as settings:
        yield process, settings


Starting = tuple[subprocess.Popen[bytes], BinaryIO]


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.process
def test_a_run_that_has_not_begun_ends_at_once_without_a_trace(shell: Shell, starting: Starting, number: int) -> None:
    process, _ = starting
    process.send_signal(number)
    assert shell.end(process) == Ended(130, "", "interrupted: run the same command again to resume\n")
    assert sorted(path.name for path in shell.folder.iterdir()) == ["jobs.jsonl", "settings.toml"]


@pytest.mark.process
def test_asking_a_run_too_early_does_it_no_harm(shell: Shell, starting: Starting) -> None:
    process, settings = starting
    process.send_signal(signal.SIGUSR1)
    settings.write(b"concurrency = 2\n")
    settings.close()
    assert shell.end(process).code == 0
    assert len(shell.rows("r.jsonl")) == 1


@pytest.mark.parametrize(("number", "name"), [(signal.SIGINT, "Ctrl-C"), (signal.SIGTERM, "SIGTERM")])
@pytest.mark.process
def test_one_signal_lets_what_is_in_flight_finish(shell: Shell, running: Running, number: int, name: str) -> None:
    process = running()
    process.send_signal(number)
    ended = shell.end(process)
    assert ended.code == 130
    rows = shell.rows("r.jsonl")
    assert 4 <= len(rows) < 40
    assert f"stopping: interrupted ({name}); " in ended.err
    assert ended.said("stopped") == f"{40 - len(rows)} jobs remaining: interrupted ({name})"
    assert ended.said("to resume") == "process jobs.jsonl --out r.jsonl --concurrency 4"
    assert "error: " not in ended.err


@pytest.mark.process
def test_two_break_it_off_and_the_next_run_says_what_may_have_been_billed(
    shell: Shell, running: Running, serving: Serving
) -> None:
    process = running(settings=ENDLESS)
    process.send_signal(signal.SIGINT)
    time.sleep(0.1)
    asked_at = time.monotonic()
    process.send_signal(signal.SIGINT)
    ended = shell.end(process)
    assert time.monotonic() - asked_at < SOON_S
    assert ended.code == 130
    assert ended.said("possibly billed") == "4 attempts sent, but ended without a reply"
    assert shell.rows("r.jsonl") == []

    serving(INSTANT)
    again = shell("jobs.jsonl", "--out", "r.jsonl", "--limit", "1")
    assert again.code == 0
    assert again.said("warning").startswith("4 requests of an earlier run may have been billed without a reply")


@pytest.mark.process
def test_without_grace_one_is_enough(shell: Shell, running: Running) -> None:
    process = running("--grace", "0", settings=ENDLESS)
    asked_at = time.monotonic()
    process.send_signal(signal.SIGTERM)
    assert shell.end(process).code == 130
    assert time.monotonic() - asked_at < SOON_S


@pytest.mark.process
def test_it_can_be_asked_what_it_is_doing(shell: Shell, running: Running) -> None:
    process = running(settings=ENDLESS)
    process.send_signal(signal.SIGUSR1)
    time.sleep(0.2)
    process.send_signal(signal.SIGINT)
    time.sleep(0.1)
    process.send_signal(signal.SIGINT)
    ended = shell.end(process)
    assert ended.code == 130
    assert "/40 done (" in ended.err
    assert ended.err.count("  in flight for ") == 4


@pytest.mark.process
def test_a_killed_run_loses_nothing_that_was_written(shell: Shell, running: Running, serving: Serving) -> None:
    process = running()
    wait_until(lambda: (shell.folder / "r.jsonl").read_bytes().count(b"\n") >= 2)
    process.kill()
    process.wait()
    shell.end(process)
    done = {row["custom_id"] for row in shell.rows("r.jsonl")}
    serving(INSTANT)
    again = shell("jobs.jsonl", "--out", "r.jsonl")
    assert again.code == 0
    assert again.said("done").endswith(f", {len(done)} in earlier runs)")
    assert len(shell.rows("r.jsonl")) == len({row["custom_id"] for row in shell.rows("r.jsonl")}) == 40
