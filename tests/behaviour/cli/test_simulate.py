"""``process simulate``: the simulator as a program of its own."""

from __future__ import annotations

import re
import signal
import socket
import subprocess
from collections.abc import Callable
from typing import get_args

import pytest

from processor.cli import options
from processor.simulator.rate_limit_headers import Dialect
from processor.simulator.rate_limiter import LIMITER_KINDS
from processor.simulator.settings import Auth
from tests.support.cli_world import KEY, ProgramResult, Shell, chat_jobs, free_port

Run = Callable[..., ProgramResult]


def start_server(shell: Shell, *args: str) -> tuple[subprocess.Popen[bytes], str]:
    """Starts a server and returns it with the address that it prints."""
    process = shell.start("simulate", "--port", "0", *args)
    assert process.stdout
    line = process.stdout.readline().decode()
    printed = re.fullmatch(r"simulating at (\S+): process JOBS --base-url (\S+)  \(Ctrl-C ends it\)\n", line)
    assert printed, line
    assert printed[1] == printed[2]
    return process, printed[1]


@pytest.mark.process
def test_simulate_prints_its_address_serves_and_ends_with_ctrl_c(shell: Shell, run_inside: Run) -> None:
    process, url = start_server(shell, "--first-token", "0", "--speed", "inf", "--rpm", "6000")
    shell.write("jobs.jsonl", *chat_jobs(5))
    result = run_inside("jobs.jsonl", "--out", "r.jsonl", "--base-url", url)
    assert result.code == 0
    assert result.row("endpoint") == f"{url}, no key"
    assert len(shell.rows("r.jsonl")) == 5
    process.send_signal(signal.SIGINT)
    assert shell.end(process) == ProgramResult(0, "", "")


@pytest.mark.process
def test_simulate_injects_faults_and_a_run_still_completes(shell: Shell, run_inside: Run) -> None:
    process, url = start_server(
        shell, "--first-token", "0", "--speed", "inf", "--faults", "cut=0.25,comments=1", "--seed", "3"
    )
    shell.write("jobs.jsonl", *chat_jobs(12))
    (shell.folder / "config.toml").write_text(
        "max_attempts = 50\n[waiting]\nbackoff_min_s = 0.01\nbackoff_max_s = 0.02\n"
    )
    result = run_inside("jobs.jsonl", "--out", "r.jsonl", "--base-url", url)
    assert result.code == 0
    assert "stream_truncated" in result.row("attempts")
    assert sum(row["attempts"] for row in shell.rows("r.jsonl")) > 12
    process.send_signal(signal.SIGTERM)
    assert shell.end(process).code == 0


@pytest.mark.process
def test_simulate_rejects_models_that_are_not_listed(shell: Shell, run_inside: Run) -> None:
    process, url = start_server(shell, "--first-token", "0", "--speed", "inf", "--models", "gpt-5, gpt-4o-mini")
    shell.write("jobs.jsonl", *({"prompt": f"Say {number}."} for number in range(50)))
    mistyped = run_inside("jobs.jsonl", "--out", "r.jsonl", "--base-url", url, "--model", "gpt-4o-mni", "--quiet")
    assert mistyped.code == 3
    assert mistyped.error.startswith("the provider does not know the model gpt-4o-mni: The model `gpt-4o-mni` does not")
    assert (shell.rows("r.jsonl"), (shell.folder / "r.errors.jsonl").exists()) == ([], False)
    corrected = run_inside("jobs.jsonl", "--out", "r.jsonl", "--base-url", url, "--model", "gpt-4o-mini")
    assert (corrected.code, corrected.row("attempts")) == (0, "50")
    assert sum(row["attempts"] for row in shell.rows("r.jsonl")) == 70, "20 requests of the first run are counted"
    process.send_signal(signal.SIGTERM)
    assert shell.end(process).code == 0


@pytest.mark.process
def test_wrong_model_of_the_first_job_does_not_stop_the_others(shell: Shell, run_inside: Run) -> None:
    process, url = start_server(shell, "--first-token", "0", "--speed", "inf", "--models", "gpt-4o-mini")
    shell.write("jobs.jsonl", {"id": "bad", "model": "gpt-9", "prompt": "Hi"}, *chat_jobs(20))
    result = run_inside("jobs.jsonl", "--out", "r.jsonl", "--base-url", url)
    assert result.code == 3
    assert len(shell.rows("r.jsonl")) == 20
    assert "does not know the model gpt-9" in result.row("stopped") and "(job bad)" in result.row("stopped")
    assert not (shell.folder / "r.errors.jsonl").exists()
    process.send_signal(signal.SIGTERM)
    assert shell.end(process).code == 0


@pytest.mark.process
def test_simulate_can_refuse_every_key(shell: Shell, run_inside: Run) -> None:
    process, url = start_server(shell, "--auth", "refused")
    shell.write("jobs.jsonl", *chat_jobs(5))
    shell.environ["OPENAI_API_KEY"] = KEY
    result = run_inside("jobs.jsonl", "--out", "r.jsonl", "--base-url", url, "--quiet")
    assert (result.code, result.error) == (3, "the provider refused: Incorrect API key provided.")
    process.send_signal(signal.SIGTERM)
    assert shell.end(process).code == 0


def test_port_in_use_is_reported_in_one_line(run_inside: Run) -> None:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", free_port()))
        listener.listen()
        port = listener.getsockname()[1]
        result = run_inside("simulate", "--port", str(port))
    assert result.code == 2
    assert result.error == f"port {port} is taken: give another --port, or 0 for any free one"


@pytest.mark.parametrize(
    ("flag", "known"),
    [(options.Kind, LIMITER_KINDS), (options.Dialect, get_args(Dialect)), (options.ServerAuth, get_args(Auth))],
    ids=["kind", "dialect", "auth"],
)
def test_flags_of_simulate_offer_every_value_of_the_simulator(flag: object, known: tuple[str, ...]) -> None:
    literal = get_args(flag)[0]
    assert set(get_args(literal)) == set(known)
