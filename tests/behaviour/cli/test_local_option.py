"""``--local``: the run serves a model itself. Its process ends with the run, and is started once more if it dies."""

from __future__ import annotations

import os
import signal
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.support.cli_world import ProgramResult, Shell, wait_until
from tests.support.model_weights import WeightsNotFound, weights
from tests.support.packages import package

LOADED = [pytest.mark.model, pytest.mark.slow, pytest.mark.process]
JOB = {"prompt": "Say hello.", "max_tokens": 12}


@pytest.fixture(scope="module")
def gguf() -> Path:
    package("xllamacpp")
    try:
        return weights()
    except WeightsNotFound as error:
        pytest.skip(str(error))


def jobs(number: int, **more: object) -> list[dict[str, object]]:
    return [{**JOB, "id": f"j{n}", "model": "any-name", **more} for n in range(number)]


def model_processes(run: subprocess.Popen[bytes]) -> list[int]:
    """The processes of local models that a run has started."""
    found = subprocess.run(
        ["pgrep", "-P", str(run.pid), "-f", "local_model.server"], check=False, capture_output=True, text=True
    )
    return [int(line) for line in found.stdout.split()]


def has_row(shell: Shell) -> bool:
    path = shell.folder / "r.jsonl"
    return path.exists() and path.stat().st_size > 0


def is_alive(process_id: int) -> bool:
    try:
        state = Path(f"/proc/{process_id}/stat").read_text().rsplit(")", 1)[1].split()[0]
    except OSError:
        return False
    return state != "Z"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--local", "missing.gguf"], "--local: cannot read missing.gguf: no such file or directory"),
        (["--local", "."], "--local: cannot read .: is a directory"),
        (["--local", "jobs.jsonl"], "--local: jobs.jsonl is no GGUF file"),
        (["--local", "a.gguf", "--base-url", "http://127.0.0.1:1/v1"], "base_url names another endpoint: remove one"),
        (["--local", "a.gguf", "--provider", "ollama"], "provider names another endpoint: remove one"),
        pytest.param(["--local", "a.gguf"], "a.gguf cannot be served: ", marks=pytest.mark.process),
    ],
    ids=["missing", "folder", "no GGUF", "base url", "provider", "broken"],
)
def test_wrong_use_sends_nothing(
    shell: Shell, run_inside: Callable[..., ProgramResult], arguments: list[str], message: str
) -> None:
    if message.startswith("a.gguf"):
        package("xllamacpp")
    shell.write("jobs.jsonl", *jobs(1))
    (shell.folder / "a.gguf").write_bytes(b"GGUF" + bytes(100))
    result = run_inside("jobs.jsonl", "--out", "r.jsonl", *arguments)
    assert result.code == 2
    assert message in result.err
    assert not (shell.folder / "r.jsonl").exists()


@pytest.mark.process
def test_missing_extra_sends_nothing_and_says_how_to_install_it(shell: Shell) -> None:
    shell.write("jobs.jsonl", *jobs(1))
    (shell.folder / "a.gguf").write_bytes(b"GGUF" + bytes(100))
    hidden = shell.folder / "hidden"
    hidden.mkdir()
    (hidden / "xllamacpp.py").write_text("raise ModuleNotFoundError(name='xllamacpp')\n")
    found = os.pathsep.join((str(hidden), shell.environ["PYTHONPATH"]))
    result = shell("jobs.jsonl", "--out", "r.jsonl", "--local", "a.gguf", PYTHONPATH=found)
    assert result.code == 2
    assert result.error == "a.gguf cannot be served: the extra `local` is not installed: pip install 'processor[local]'"
    assert not (shell.folder / "r.jsonl").exists()


class TestWithModel:
    pytestmark = LOADED

    def test_jobs_get_replies_without_a_key_or_an_account(self, shell: Shell, gguf: Path) -> None:
        shell.write("jobs.jsonl", *jobs(6), {**JOB, "id": "no model"})
        result = shell("jobs.jsonl", "--out", "r.jsonl", "--local", str(gguf), timeout_s=300)
        assert result.code == 0
        assert "the model names of the jobs are ignored" in result.row("endpoint")
        assert len(shell.rows("r.jsonl")) == 7
        assert {row["cost_usd"] for row in shell.rows("r.jsonl")} == {0}
        assert shell("jobs.jsonl", "--out", "r.jsonl", "--local", str(gguf)).code == 0
        assert len(shell.rows("r.jsonl")) == 7

    def test_process_that_dies_is_started_once_more(self, shell: Shell, gguf: Path) -> None:
        shell.write("jobs.jsonl", *jobs(8, max_tokens=20))
        run = shell.start("jobs.jsonl", "--out", "r.jsonl", "--local", str(gguf))
        wait_until(lambda: shell.row_count("r.jsonl"), within_s=120)
        os.kill(model_processes(run)[0], signal.SIGKILL)
        result = shell.end(run, timeout_s=300)
        assert result.code == 0
        assert "the process of the local model died (killed by signal 9" in result.err
        assert sorted(row["custom_id"] for row in shell.rows("r.jsonl")) == [f"j{n}" for n in range(8)]

    def test_process_that_dies_twice_ends_the_run(self, shell: Shell, gguf: Path) -> None:
        shell.write("jobs.jsonl", *jobs(200, max_tokens=20))
        run = shell.start("jobs.jsonl", "--out", "r.jsonl", "--local", str(gguf))
        wait_until(lambda: shell.row_count("r.jsonl"), within_s=120)
        (first,) = model_processes(run)
        rows = shell.row_count("r.jsonl")
        os.kill(first, signal.SIGKILL)
        wait_until(lambda: shell.row_count("r.jsonl") > rows + 4, within_s=300)
        os.kill(model_processes(run)[0], signal.SIGKILL)
        result = shell.end(run, timeout_s=300)
        assert result.code == 3
        assert "the process of the local model died twice" in result.row("stopped")
        assert not (shell.folder / "r.errors.jsonl").exists()

    @pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGINT])
    def test_process_ends_with_the_run(self, shell: Shell, gguf: Path, number: int) -> None:
        shell.write("jobs.jsonl", *jobs(40, max_tokens=60))
        run = shell.start("jobs.jsonl", "--out", "r.jsonl", "--local", str(gguf), "--grace", "0.1")
        wait_until(lambda: model_processes(run), within_s=120)
        (child,) = model_processes(run)
        wait_until((shell.folder / "r.jsonl").exists, within_s=120)
        run.send_signal(number)
        run.communicate(timeout=60)
        assert run.returncode == (-number if number == signal.SIGKILL else 130)
        wait_until(lambda: not is_alive(child), within_s=20)
