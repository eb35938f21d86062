"""The main job on a system that lacks what only some have: each part is taken away before the program starts."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path
from typing import Any

import pytest

from tests.support.cli_world import ROOT, Shell, chat_jobs
from tests.support.slow_cases import slow_except

PREPARATION = """
import asyncio, multiprocessing.connection, os, shutil, signal, socket, sys, tempfile
"""
"""What the standard library itself needs is imported first."""

REMOVALS = {
    "fcntl": "sys.modules['fcntl'] = None",
    "resource": "sys.modules['resource'] = None",
    "uvloop": "sys.modules['uvloop'] = None",
    "SIGUSR1": "del signal.SIGUSR1",
    "pread": "del os.pread, os.pwrite",
    "statvfs": "usage = shutil.disk_usage('.'); shutil.disk_usage = lambda folder: usage; del os.statvfs",
    "SO_RCVLOWAT": "del socket.SO_RCVLOWAT",
    "sched_getaffinity": "del os.sched_getaffinity",
    "add_signal_handler": """
def missing(*arguments): raise NotImplementedError
asyncio.SelectorEventLoop.add_signal_handler = asyncio.SelectorEventLoop.remove_signal_handler = missing
sys.modules['uvloop'] = None
""",
}
"""By what is missing: the code that takes it away."""

LACKS = ["fcntl", "resource", "uvloop", "SIGUSR1", "all"]


def lacking(folder: Path, lack: str) -> dict[str, Any]:
    """The variables that start Python without something."""
    removals = REMOVALS.values() if lack == "all" else [REMOVALS[lack]]
    folder.mkdir(exist_ok=True)
    (folder / "sitecustomize.py").write_text(PREPARATION + "\n".join(removals))
    return {"PYTHONPATH": f"{folder}{os.pathsep}{ROOT}"}


def wait_for_rows(path: Path, count: int) -> None:
    deadline = time.monotonic() + 30
    while not path.exists() or path.read_bytes().count(b"\n") < count:
        assert time.monotonic() < deadline
        time.sleep(0.01)


def run_until_killed(shell: Shell, environ: dict[str, Any], number: signal.Signals) -> tuple[int, str]:
    """Starts a run of 40 jobs, sends the signal when it has three rows, and returns its exit code and messages."""
    shell.write("jobs.jsonl", *chat_jobs(40))
    arguments = ("jobs.jsonl", "--out", "r.jsonl", "--simulate", "--concurrency", "2", "--grace", "5")
    process = shell.start(*arguments, **environ)
    wait_for_rows(shell.folder / "r.jsonl", 3)
    process.send_signal(number)
    result = shell.end(process)
    assert len(shell.rows("r.jsonl")) < 40
    return result.code, result.err


@pytest.mark.process
@pytest.mark.parametrize("lack", slow_except(LACKS, "all"))
def test_killed_run_is_resumed_without_what_some_systems_lack(shell: Shell, tmp_path: Path, lack: str) -> None:
    environ = lacking(tmp_path / "lacking", lack)
    code, _ = run_until_killed(shell, environ, signal.SIGKILL)
    assert code == -signal.SIGKILL
    before = [row["custom_id"] for row in shell.rows("r.jsonl")]
    again = shell("jobs.jsonl", "--out", "r.jsonl", "--simulate", **environ)
    assert again.code == 0, again.err
    names = [row["custom_id"] for row in shell.rows("r.jsonl")]
    assert names[: len(before)] == before
    assert sorted(names) == sorted(job["id"] for job in chat_jobs(40))
    assert ("this system has no file locks" in again.err) == (lack in ("fcntl", "all"))


@pytest.mark.process
@pytest.mark.parametrize("lack", slow_except(["add_signal_handler", "all"], "all"))
@pytest.mark.parametrize("number", slow_except([signal.SIGINT, signal.SIGTERM], signal.SIGTERM))
def test_signal_stops_a_run_in_order_on_a_loop_without_signal_handlers(
    shell: Shell, tmp_path: Path, lack: str, number: signal.Signals
) -> None:
    code, messages = run_until_killed(shell, lacking(tmp_path / "lacking", lack), number)
    assert code == 130
    assert "Traceback" not in messages
    assert "interrupted" in messages


@pytest.mark.process
@pytest.mark.slow
def test_large_job_file_is_skipped_and_superseded_rows_are_dropped_without_positioned_reads(
    shell: Shell, tmp_path: Path
) -> None:
    """A file of 3 MB: its done jobs are skipped by reading at positions, in one process."""
    environ = lacking(tmp_path / "lacking", "all")
    jobs: list[dict[str, Any]] = [
        {"id": f"long-{at}", "model": "m", "prompt": "x" * 40_000, "max_tokens": 5} for at in range(80)
    ]
    shell.write("jobs.jsonl", *jobs)
    first = shell("jobs.jsonl", "--out", "r.jsonl", "--simulate", "--limit", "60", **environ)
    assert first.code == 0, first.err
    jobs[5]["prompt"] = "changed"
    shell.write("jobs.jsonl", *jobs)
    again = shell("jobs.jsonl", "--out", "r.jsonl", "--simulate", "--changed", "resend", **environ)
    assert again.code == 0, again.err
    assert sorted(row["custom_id"] for row in shell.rows("r.jsonl")) == sorted(job["id"] for job in jobs)
