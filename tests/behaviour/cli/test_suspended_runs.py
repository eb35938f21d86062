"""Runs whose terminal closes, and whose process is stopped and continued."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import replace

import pytest

from processor.simulator.settings import INSTANT, SimulatorSettings
from tests.support.cli_world import Server, Shell, chat_jobs

StartServer = Callable[[SimulatorSettings], Server]

pytestmark = pytest.mark.process

STEADY = replace(
    INSTANT, first_token_s=0.2, first_token_jitter=0.0, canned=False, speed_tps=40.0, reply_tokens=(60, 60)
)
"""Replies of one and a half seconds."""


def wait_for_rows(shell: Shell, number: int) -> None:
    for _ in range(3000):
        path = shell.folder / "r.jsonl"
        if path.exists() and path.read_bytes().count(b"\n") >= number:
            return
        time.sleep(0.02)
    raise AssertionError(f"there were no {number} rows within a minute")


@pytest.mark.slow
def test_closed_terminal_stops_the_run_in_order(shell: Shell, start_server: StartServer) -> None:
    """The shell and the system both send SIGHUP: the second one does not abort the requests."""
    start_server(STEADY)
    shell.write("jobs.jsonl", *chat_jobs(40))
    process = shell.start("jobs.jsonl", "--out", "r.jsonl", "--concurrency", "4")
    wait_for_rows(shell, 1)
    process.send_signal(signal.SIGHUP)
    time.sleep(0.1)
    process.send_signal(signal.SIGHUP)
    result = shell.end(process)
    assert result.code == 130
    assert result.row("stopped").endswith("interrupted (SIGHUP: the terminal was closed)")
    assert "possibly billed" not in result.err


def test_run_that_ignores_sighup_goes_on(shell: Shell, start_server: StartServer) -> None:
    start_server(STEADY)
    shell.write("jobs.jsonl", *chat_jobs(8))
    process = subprocess.Popen(
        ["nohup", sys.executable, "-m", "processor", "jobs.jsonl", "--out", "r.jsonl", "--concurrency", "4"],
        cwd=shell.folder,
        env=shell.environ,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    wait_for_rows(shell, 1)
    process.send_signal(signal.SIGHUP)
    assert shell.end(process).code == 0
    assert len(shell.rows("r.jsonl")) == 8


@pytest.mark.parametrize("is_uvloop", [True, False])
@pytest.mark.slow
def test_replies_that_came_while_the_process_was_stopped_are_read(
    shell: Shell, start_server: StartServer, is_uvloop: bool
) -> None:
    """It is stopped for longer than all its timeouts, and sends no request twice."""
    server = start_server(replace(STEADY, first_token_s=0.6))
    shell.write("jobs.jsonl", *chat_jobs(12))
    timeouts = "stall_timeout_s = 1.0\nfirst_byte_timeout_s = 1.0\nrequest_timeout_s = 3.5\n"
    (shell.folder / "config.toml").write_text(f"[waiting]\n{timeouts}")
    if not is_uvloop:
        (shell.folder / "without").mkdir()
        (shell.folder / "without" / "uvloop.py").write_text("raise ImportError\n")
        shell.environ["PYTHONPATH"] = f"{shell.folder / 'without'}{os.pathsep}{shell.environ['PYTHONPATH']}"
    process = shell.start("jobs.jsonl", "--out", "r.jsonl", "--concurrency", "4")
    wait_for_rows(shell, 1)
    time.sleep(0.3)
    process.send_signal(signal.SIGSTOP)
    time.sleep(4)
    process.send_signal(signal.SIGCONT)
    result = shell.end(process)
    assert result.code == 0
    assert result.row("attempts") == "12"
    assert len(server.requests) == 12
