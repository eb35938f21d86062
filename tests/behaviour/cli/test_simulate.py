"""`process simulate`: a provider that bills nobody, as a program of its own."""

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
from tests.support.cli_world import KEY, Ended, Shell, asks, free_port

Run = Callable[..., Ended]


def serving(shell: Shell, *args: str) -> tuple[subprocess.Popen[bytes], str]:
    """A server, and its address as it tells it."""
    process = shell.start("simulate", "--port", "0", *args)
    assert process.stdout
    line = process.stdout.readline().decode()
    said = re.fullmatch(r"simulating at (\S+): process JOBS --base-url (\S+)  \(Ctrl-C ends it\)\n", line)
    assert said, line
    assert said[1] == said[2]
    return process, said[1]


@pytest.mark.process
def test_it_says_where_it_is_serves_and_ends_with_ctrl_c(shell: Shell, inside: Run) -> None:
    process, url = serving(shell, "--first-token", "0", "--speed", "inf", "--rpm", "6000")
    shell.write("jobs.jsonl", *asks(5))
    ended = inside("jobs.jsonl", "--out", "r.jsonl", "--base-url", url)
    assert ended.code == 0
    assert ended.said("endpoint") == f"{url}, no key"
    assert len(shell.rows("r.jsonl")) == 5
    process.send_signal(signal.SIGINT)
    assert shell.end(process) == Ended(0, "", "")


@pytest.mark.process
def test_it_misbehaves_as_it_is_told_and_the_run_gets_through(shell: Shell, inside: Run) -> None:
    process, url = serving(
        shell, "--first-token", "0", "--speed", "inf", "--faults", "cut=0.25,comments=1", "--seed", "3"
    )
    shell.write("jobs.jsonl", *asks(12))
    (shell.folder / "config.toml").write_text(
        "max_attempts = 50\n[waiting]\nbackoff_min_s = 0.01\nbackoff_max_s = 0.02\n"
    )
    ended = inside("jobs.jsonl", "--out", "r.jsonl", "--base-url", url)
    assert ended.code == 0
    assert "stream_truncated" in ended.said("attempts")
    assert sum(row["attempts"] for row in shell.rows("r.jsonl")) > 12
    process.send_signal(signal.SIGTERM)
    assert shell.end(process).code == 0


@pytest.mark.process
def test_a_model_it_does_not_know_costs_one_request(shell: Shell, inside: Run) -> None:
    process, url = serving(shell, "--first-token", "0", "--speed", "inf", "--models", "gpt-5, gpt-4o-mini")
    shell.write("jobs.jsonl", *({"prompt": f"Say {number}."} for number in range(50)))
    mistyped = inside("jobs.jsonl", "--out", "r.jsonl", "--base-url", url, "--model", "gpt-4o-mni", "--quiet")
    assert mistyped.code == 3
    assert mistyped.error.startswith("the provider does not know the model gpt-4o-mni: The model `gpt-4o-mni` does not")
    assert (shell.rows("r.jsonl"), (shell.folder / "r.errors.jsonl").exists()) == ([], False)
    mended = inside("jobs.jsonl", "--out", "r.jsonl", "--base-url", url, "--model", "gpt-4o-mini")
    assert (mended.code, mended.said("attempts")) == (0, "50")
    assert sum(row["attempts"] for row in shell.rows("r.jsonl")) == 51
    process.send_signal(signal.SIGTERM)
    assert shell.end(process).code == 0


@pytest.mark.process
def test_a_first_job_with_a_wrong_model_does_not_keep_the_others_from_their_replies(shell: Shell, inside: Run) -> None:
    process, url = serving(shell, "--first-token", "0", "--speed", "inf", "--models", "gpt-4o-mini")
    shell.write("jobs.jsonl", {"id": "bad", "model": "gpt-9", "prompt": "Hi"}, *asks(20))
    ended = inside("jobs.jsonl", "--out", "r.jsonl", "--base-url", url)
    assert ended.code == 1
    assert len(shell.rows("r.jsonl")) == 20
    assert [row["custom_id"] for row in shell.rows("r.errors.jsonl")] == ["bad"]
    process.send_signal(signal.SIGTERM)
    assert shell.end(process).code == 0


@pytest.mark.process
def test_it_can_ask_for_a_key_and_refuse_it(shell: Shell, inside: Run) -> None:
    process, url = serving(shell, "--auth", "refused")
    shell.write("jobs.jsonl", *asks(5))
    shell.environ["OPENAI_API_KEY"] = KEY
    ended = inside("jobs.jsonl", "--out", "r.jsonl", "--base-url", url, "--quiet")
    assert (ended.code, ended.error) == (3, "the provider refused: Incorrect API key provided.")
    process.send_signal(signal.SIGTERM)
    assert shell.end(process).code == 0


def test_a_port_that_is_taken_is_one_line(inside: Run) -> None:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", free_port()))
        listener.listen()
        port = listener.getsockname()[1]
        ended = inside("simulate", "--port", str(port))
    assert ended.code == 2
    assert ended.error == f"port {port} is taken: give another --port, or 0 for any free one"


@pytest.mark.parametrize(
    ("flag", "known"),
    [(options.Kind, LIMITER_KINDS), (options.Dialect, get_args(Dialect)), (options.ServerAuth, get_args(Auth))],
    ids=["kind", "dialect", "auth"],
)
def test_its_flags_know_what_the_simulator_knows(flag: object, known: tuple[str, ...]) -> None:
    literal = get_args(flag)[0]
    assert set(get_args(literal)) == set(known)
