"""Errors of the user: one line that says what to do, and exit code 2, with nothing sent."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from processor.config import settings_loading
from tests.support.cli_world import KEY, ProgramResult, Shell

Run = Callable[..., ProgramResult]


@pytest.fixture
def jobs(tmp_path: Path) -> str:
    (tmp_path / "jobs.jsonl").write_text('{"id": "a", "model": "m", "prompt": "Hi"}\n')
    return "jobs.jsonl"


@pytest.mark.parametrize(
    ("args", "error"),
    [
        (["--bogus"], "no such option: --bogus"),
        (["jobs.jsonl", "--bogus"], "no such option: --bogus"),
        (["jobs.jsonl", "--concurency", "3"], "no such option: --concurency (Possible options: --concurrency)"),
        (["jobs.jsonl", "more.jsonl"], "several job files need --out RESULTS"),
        (["jobs.jsonl", "more.jsonl", "--out", "r", "--simulate"], "cannot read more.jsonl: no such file or directory"),
        (["jobs.jsonl", "./jobs.jsonl", "--out", "r", "--simulate"], "jobs.jsonl is given twice: name each job file"),
        (["-", "-", "--out", "r", "--simulate"], "stdin (-) is given twice as a job file, and"),
        (["jobs.jsonl", "--simulate", "--out", "r.jsonl.gz"], "r.jsonl.gz: results are not compressed, as runs append"),
        (["simulate", "jobs.jsonl"], "process simulate does not take jobs.jsonl: to send a job file named simulate, "),
        (["simulat"], "cannot read simulat: no such file, and no such command; did you mean process simulate?"),
        (["nowhere.jsonl"], "cannot read nowhere.jsonl: it is a link to a file that does not exist"),
        (["jobs.jsonl", "--out"], "option '--out' requires an argument"),
        (
            ["jobs.jsonl", "--out", "--simulate"],
            "--out needs a value, but --simulate follows: write the value after it",
        ),
        (["jobs.jsonl", "--rpm", "many"], "invalid value for '--rpm': 'many' is not a number"),
        (["jobs.jsonl", "--limit", "1.5"], "invalid value for '--limit': '1.5' is not a whole number"),
        (["jobs.jsonl", "--changed", "drop"], "invalid value for '--changed': "),
        (["run"], "missing argument 'JOBS'"),
        (["jobs.jsonl", "--limit", "0"], "--limit must be at least 1, not 0"),
        (["jobs.jsonl", "--rpm", "0"], "--rpm must be a number greater than 0, not 0"),
        (["jobs.jsonl", "--tpm", "inf"], "--tpm must be a number greater than 0, not inf"),
        (["jobs.jsonl", "--concurrency", "0"], "--concurrency must be a whole number of at least 1 or auto, not 0"),
        (["jobs.jsonl", "--grace", "-1"], "--grace must be a number of at least 0, not -1"),
        (["jobs.jsonl", "--endpoint", "/v1/haikus"], "the endpoint must be /v1/chat/completions, "),
        (["jobs.jsonl", "--provider", "opneai"], "unknown provider 'opneai'; known are openai, "),
        (["jobs.jsonl", "--base-url", "host"], "the base URL must look like https://host/v1, not 'host'"),
        (["jobs.jsonl", "--config", "no.toml"], "cannot read no.toml: no such file or directory"),
        (["jobs.jsonl"], "no key: OPENAI_API_KEY is not set: set it in the environment or in .env, or name another "),
        (
            ["jobs.jsonl", "--api-key-env", "MINE"],
            "no key: MINE is not set: set it in the environment or in .env, or name another variable ",
        ),
        (["", "--simulate"], "the name of the job file is empty"),
        (["jobs.jsonl", "--simulate", "--out", ""], "--out is empty: give a file, or leave it out for the default"),
        (["jobs.jsonl", "--simulate", "--out", "dangling.jsonl"], "dangling.jsonl is a link to a file that does not "),
        (["jobs.jsonl", "--api-key-env", "sk-abc"], "--api-key-env (or api_key_env) takes the name of a variable"),
        (["jobs.jsonl", "--base-url", "https://a:b@h/v1"], "the base URL must not contain a user name or password"),
        (["jobs.jsonl", "--base-url", "ftp://a:b@h/v1"], "the base URL must not contain a user name or password"),
        (["no.jsonl", "--simulate"], "cannot read no.jsonl: no such file or directory"),
        ([".", "--simulate"], "cannot read .: is a directory"),
        (["-", "--simulate"], "jobs from stdin need --out"),
        (["jobs.jsonl", "--simulate", "--out", "no/r.jsonl"], "the folder no for the results file does not exist"),
        (["jobs.jsonl", "--simulate", "--out", "jobs.jsonl"], "jobs.jsonl cannot be both the results file and the job"),
        (["jobs.jsonl", "--simulate", "--summary-json", "jobs.jsonl"], "jobs.jsonl cannot be both the summary and the"),
        (["r.errors.jsonl", "--simulate", "--out", "r.jsonl"], "r.errors.jsonl cannot be both the errors file and the"),
        (
            ["jobs.jsonl", "--simulate", "--out", "r", "--log-file", "r"],
            "r cannot be both the results file and the log",
        ),
        (["jobs.jsonl", "--simulate", "--log-file", "no/log"], "the folder no for the log does not exist"),
        (["jobs.jsonl", "--simulate", "--log-file", "."], "cannot write .: it is a folder, name a file in it"),
        (["jobs.jsonl", "--simulate", "--summary-json", "."], "cannot write .: it is a folder, name a file in it"),
        (["jobs.jsonl", "--simulate", "--out", "."], "cannot write .: it is a folder, name a file in it"),
        (["jobs.jsonl", "--simulate", "--out", "/"], "cannot write /: it is a folder, name a file in it"),
        (["simulate", "--faults", "rain=0.1"], "unknown fault 'rain'; known are error_500, "),
        (["simulate", "--faults", "cut"], "a fault is written name=rate, e.g. cut=0.05, not 'cut'"),
        (["simulate", "--faults", "cut=2"], "the rate of cut must be between 0 and 1, not 2"),
        (["simulate", "--rpm", "0"], "a limit must be at least 1 per minute"),
        (["simulate", "--speed", "0"], "the speed must be more than 0 tokens per second"),
        (["simulate", "--kind", "strict"], "invalid value for '--kind': "),
        (["simulate", "--host", "0.0.0.0"], "cannot listen on 0.0.0.0, port 8000: the simulator listens on loopback"),
        (["simulate", "--port", "99999"], "cannot listen on 127.0.0.1, port 99999: "),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_usage_error_is_one_line(run_inside: Run, jobs: str, tmp_path: Path, args: list[str], error: str) -> None:
    (tmp_path / "r.errors.jsonl").touch()
    (tmp_path / "nowhere.jsonl").symlink_to("nothing")
    (tmp_path / "dangling.jsonl").symlink_to("nowhere/r.jsonl")
    result = run_inside(*args)
    assert (result.code, result.out) == (2, "")
    assert result.error.startswith(error)


def test_output_that_is_not_a_results_file_is_left_alone(run_inside: Run, jobs: str, tmp_path: Path) -> None:
    (tmp_path / "r.jsonl").write_text("dear diary\n")
    result = run_inside(jobs, "--simulate", "--out", "r.jsonl")
    assert result.code == 2
    assert result.error == "r.jsonl is not a results file: give another --out, or move it away"
    assert (tmp_path / "r.jsonl").read_text() == "dear diary\n"


@pytest.mark.skipif(os.geteuid() == 0, reason="the superuser may write everywhere")
def test_unwritable_folder_is_reported(run_inside: Run, jobs: str, tmp_path: Path) -> None:
    (tmp_path / "locked").mkdir(mode=0o500)
    result = run_inside(jobs, "--simulate", "--out", "locked/r.jsonl")
    assert result.code == 2
    assert result.error.startswith("cannot write ")


def test_error_in_the_settings_names_file_and_setting(run_inside: Run, jobs: str, tmp_path: Path) -> None:
    (tmp_path / "config.toml").write_text("[limits]\nrmp = 3\n")
    assert run_inside(jobs, "--simulate").error == "config.toml: unknown setting limits.rmp; did you mean rpm?"


def test_unknown_encoding_is_one_line(run_inside: Run, jobs: str, tmp_path: Path) -> None:
    (tmp_path / "config.toml").write_text('encoding = "o2k"\n')
    result = run_inside(jobs, "--simulate")
    assert result.code == 2
    assert result.error.startswith("unknown encoding 'o2k': use one of ")


def test_unusable_ca_file_is_one_line(run_inside: Run, jobs: str, shell: Shell) -> None:
    shell.environ["OPENAI_API_KEY"] = KEY
    result = run_inside(jobs, "--ca-file", "no.pem")
    assert result.code == 2
    assert result.error == "the CA file no.pem cannot be used: no such file or directory"


def test_key_is_not_sent_over_http_to_another_machine(run_inside: Run, jobs: str, shell: Shell) -> None:
    shell.environ["OPENAI_API_KEY"] = KEY
    result = run_inside(jobs, "--base-url", "http://llm.example.org/v1", "--api-key-env", "OPENAI_API_KEY")
    assert result.code == 2
    said = "the key in OPENAI_API_KEY would be sent unencrypted to llm.example.org: use https"
    assert result.error.startswith(said)
    assert KEY not in result.err


def test_job_file_may_be_named_like_a_command(run_inside: Run, tmp_path: Path) -> None:
    (tmp_path / "simulate").write_text("broken\n")
    assert "simulate holds no job" in run_inside("./simulate", "--simulate", "--quiet").error


def test_job_file_without_jobs_is_one_line(run_inside: Run, tmp_path: Path) -> None:
    (tmp_path / "empty.jsonl").write_text("\n \n")
    result = run_inside("empty.jsonl", "--simulate", "--quiet")
    assert (result.code, result.row("note")) == (0, "empty.jsonl holds no job")
    assert len(result.err.splitlines()) == 1


def test_job_file_of_broken_lines_has_failed_rows_only(run_inside: Run, tmp_path: Path) -> None:
    (tmp_path / "broken.jsonl").write_text("one\ntwo\n")
    result = run_inside("broken.jsonl", "--simulate", "--quiet")
    assert (result.code, result.error) == (1, "broken.jsonl holds no job: every line is invalid")
    assert len((tmp_path / "broken.simulated.errors.jsonl").read_text().splitlines()) == 2


@pytest.mark.parametrize("data", [b"id,prompt\n1,Hello\n", b"BZh9", b"[\n  {\n"])
def test_job_file_of_another_format_sends_and_writes_nothing(run_inside: Run, tmp_path: Path, data: bytes) -> None:
    (tmp_path / "jobs.txt").write_bytes(data)
    result = run_inside("jobs.txt", "--simulate")
    assert result.code == 2
    assert result.error.startswith("jobs.txt is ")
    assert [path.name for path in tmp_path.iterdir()] == ["jobs.txt"]


@pytest.mark.parametrize("data", [b"id,prompt\n1,Hello\n", b"\x1f\x8b\x08\0", b"[\n  {\n", b""])
def test_stdin_of_another_format_or_without_jobs_leaves_no_files(shell: Shell, run_inside: Run, data: bytes) -> None:
    result = run_inside("-", "--simulate", "--out", "r.jsonl", "--quiet", stdin=data)
    assert result.code == 2
    assert result.error.startswith("stdin is " if data else "stdin holds no job")
    assert list(shell.folder.iterdir()) == []


def test_results_that_exist_are_not_removed_by_a_run_that_sends_nothing(run_inside: Run, tmp_path: Path) -> None:
    (tmp_path / "r.jsonl").touch()
    (tmp_path / "jobs.jsonl").write_bytes(b'{"model": "m", "prompt": "Hi"}\n')
    assert run_inside("jobs.jsonl", "--base-url", "http://127.0.0.1:1:1/v1", "--out", "r.jsonl").code == 2
    assert (tmp_path / "r.jsonl").exists()


def test_job_files_that_differ_in_their_suffix_have_results_of_their_own(run_inside: Run, shell: Shell) -> None:
    for name in ("jobs.txt", "jobs.jsonl"):
        shell.write(name, {"id": name, "model": "m", "prompt": "Hi"})
        assert run_inside(name, "--simulate", "--quiet").code == 0
    assert [row["custom_id"] for row in shell.rows("jobs.txt.simulated.jsonl")] == ["jobs.txt"]
    assert [row["custom_id"] for row in shell.rows("jobs.simulated.jsonl")] == ["jobs.jsonl"]


def test_results_under_their_old_name_are_used_where_one_job_file_can_have_them(run_inside: Run, shell: Shell) -> None:
    shell.write("jobs.txt", {"id": "a", "model": "m", "prompt": "Hi"})
    assert run_inside("jobs.txt", "--simulate", "--quiet", "--out", "jobs.simulated.jsonl").code == 0
    assert run_inside("jobs.txt", "--simulate").row("jobs").endswith("1 already done, nothing to do")
    shell.write("jobs.jsonl", {"id": "b", "model": "m", "prompt": "Hi"})
    result = run_inside("jobs.txt", "--simulate")
    assert result.code == 2
    assert result.error == (
        "jobs.simulated.jsonl may hold the results of jobs.txt or of jobs.jsonl: "
        "give --out jobs.txt.simulated.jsonl, or --out jobs.simulated.jsonl"
    )


def test_internal_error_prints_a_traceback_and_exits_with_70(
    run_inside: Run, jobs: str, shell: Shell, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: object) -> None:
        raise ZeroDivisionError("a bug")

    monkeypatch.setattr(settings_loading, "load", broken)
    result = run_inside(jobs, "--simulate")
    shell.outputs.clear()  # the shell's check refuses tracebacks; this one is expected and has no key (see below)
    assert result.code == 70
    assert "ZeroDivisionError: a bug" in result.err
    assert KEY not in result.err
    assert result.err.splitlines()[-1].startswith("error: internal error; ")


def test_keyboard_interrupt_before_the_run_exits_with_130(
    run_inside: Run, jobs: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(settings_loading, "load", interrupted)
    assert run_inside(jobs, "--simulate") == ProgramResult(130, "", "")


@pytest.mark.process
def test_run_works_with_closed_standard_streams(shell: Shell) -> None:
    jobs = shell.write("jobs.jsonl", {"id": "a", "model": "m", "prompt": "Hi"})
    command = f'"$0" -m processor {jobs} --simulate --out r.jsonl <&- >&- 2>&-'
    result = subprocess.run(["sh", "-c", command, sys.executable], cwd=shell.folder, env=shell.environ, check=False)
    assert result.returncode == 0
    assert len(shell.rows("r.jsonl")) == 1


@pytest.mark.process
def test_closed_stdin_has_no_jobs(shell: Shell) -> None:
    command = '"$0" -m processor - --simulate --out r.jsonl --quiet <&-'
    result = subprocess.run(
        ["sh", "-c", command, sys.executable], cwd=shell.folder, env=shell.environ, check=False, capture_output=True
    )
    assert (result.returncode, result.stderr) == (2, b"error: stdin holds no job\n")
