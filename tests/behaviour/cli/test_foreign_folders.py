"""Runs in a folder whose files, environment or limits come from somebody else."""

from __future__ import annotations

import json
import os
import resource
import subprocess
import sys
from collections.abc import Callable

import pytest

from tests.support.cli_world import KEY, ProgramResult, Server, Shell, chat_job, chat_jobs

Run = Callable[..., ProgramResult]


@pytest.mark.process
def test_modules_in_the_working_folder_are_not_executed(shell: Shell, server: Server) -> None:
    """Neither by the program nor by the second process that it starts for a large file."""
    shell.write("jobs.jsonl", *chat_jobs(3))
    for name in ("orjson", "dotenv", "typer", "pickle", "subprocess", "tiktoken", "aiohttp", "rich", "multiprocessing"):
        (shell.folder / f"{name}.py").write_text("open('executed', 'a').write(__name__)\nraise SystemExit(9)\n")
    (shell.folder / "tiktoken_ext").mkdir()
    (shell.folder / "tiktoken_ext" / "evil.py").write_text("open('executed', 'a').write(__name__)\n")
    code = "from processor.__main__ import main; import sys; sys.argv[0] = 'process'; main()"
    command = [sys.executable, "-P", "-c", code, "jobs.jsonl", "--out", "r.jsonl"]
    # A measuring of coverage would begin before the program, with imports of its own.
    unmeasured = {name: value for name, value in shell.environ.items() if not name.startswith("COV")}
    environ = {**unmeasured, "PYTHONPATH": f"{shell.environ['PYTHONPATH']}{os.pathsep}"}
    ended = subprocess.run(command, cwd=shell.folder, env=environ, check=False, capture_output=True)
    assert ended.returncode == 0, ended.stderr
    helper = [
        sys.executable,
        "-c",
        "import sys\n"
        "from operator import neg\n"
        "from processor.core.worker_process import WorkerProcess\n"
        "worker = WorkerProcess(neg)\n"
        "worker.submit(iter([(0, 5)]))\n"
        "assert worker.next_result() == {0: -5}\n"
        "worker.stop()\n",
    ]
    safe = {**unmeasured, "PYTHONSAFEPATH": "1"}
    ended = subprocess.run(helper, cwd=shell.folder, env=safe, check=False, capture_output=True)
    assert ended.returncode == 0, ended.stderr
    assert not (shell.folder / "executed").exists()


def test_first_line_names_the_file_that_chose_the_address_and_where_the_key_is_from(
    shell: Shell, run_inside: Run, server: Server
) -> None:
    shell.write("jobs.jsonl", chat_job("a"))
    (shell.folder / "config.toml").write_text(f'base_url = "{server.base_url}"\n')
    del shell.environ["OPENAI_BASE_URL"]
    result = run_inside("jobs.jsonl")
    assert (
        result.row("endpoint")
        == f"{server.base_url} (chosen by config.toml), key from OPENAI_API_KEY in the environment"
    )


def test_variable_that_is_no_llm_key_is_not_sent_where_a_file_says(
    shell: Shell, run_inside: Run, server: Server
) -> None:
    shell.write("jobs.jsonl", chat_job("a"))
    (shell.folder / "config.toml").write_text(f'base_url = "{server.base_url}"\napi_key_env = "CLOUD_SECRET"\n')
    shell.environ["CLOUD_SECRET"] = KEY
    del shell.environ["OPENAI_BASE_URL"]
    refused = run_inside("jobs.jsonl")
    assert refused.code == 2
    assert refused.error.endswith("if that is right, give --api-key-env CLOUD_SECRET")
    assert server.requests == []
    assert run_inside("jobs.jsonl", "--api-key-env", "CLOUD_SECRET").code == 0


def test_settings_of_another_program_are_named_with_the_remedy(shell: Shell, run_inside: Run, server: Server) -> None:
    shell.write("jobs.jsonl", chat_job("a"))
    (shell.folder / "config.toml").write_text('[package]\nname = "other"\n')
    result = run_inside("jobs.jsonl")
    assert (result.code, result.error) == (
        2,
        "config.toml: unknown setting package; if this file is another program's, name the right one with --config "
        "FILE (--config /dev/null for none)",
    )
    assert run_inside("jobs.jsonl", "--config", "/dev/null").code == 0


def test_empty_variable_does_not_hide_the_key_in_dotenv(shell: Shell, run_inside: Run, server: Server) -> None:
    shell.write("jobs.jsonl", chat_job("a"))
    (shell.folder / ".env").write_text(f"OPENAI_API_KEY={KEY}\n")
    shell.environ["OPENAI_API_KEY"] = ""
    result = run_inside("jobs.jsonl")
    assert result.code == 0
    assert result.row("endpoint").endswith("key from OPENAI_API_KEY")


def test_key_that_is_set_by_default_is_not_sent_over_http_and_one_line_says_so(shell: Shell, run_inside: Run) -> None:
    """Quiet runs say it, too."""
    shell.write("jobs.jsonl", chat_job("a"))
    shell.environ["OPENAI_API_KEY"] = KEY
    result = run_inside("jobs.jsonl", "--base-url", "http://llm.invalid/v1", "--quiet")
    assert result.code == 3
    warning = "the key in OPENAI_API_KEY is not sent to http://llm.invalid/v1 unencrypted; --allow-http allows it"
    assert result.row("warning") == warning


@pytest.mark.parametrize("scheme", ["socks5", "socks5h", "socks4"])
def test_socks_proxy_is_refused_before_anything_is_sent(shell: Shell, run_inside: Run, scheme: str) -> None:
    shell.write("jobs.jsonl", chat_job("a"))
    shell.environ |= {"OPENAI_API_KEY": KEY, "ALL_PROXY": f"{scheme}://user:{KEY}@127.0.0.1:1080", "no_proxy": ""}
    result = run_inside("jobs.jsonl", "--base-url", "https://llm.example.org/v1", "--quiet")
    assert result.code == 2
    assert result.error == (
        f"the variable all_proxy names a {scheme} proxy, and only http proxies are supported: set it to an http proxy, "
        "or reach llm.example.org directly with no_proxy=llm.example.org"
    )
    assert not (shell.folder / "jobs.results.jsonl").exists()


@pytest.mark.process
def test_low_limit_on_open_files_says_that_it_limits_the_run(shell: Shell, server: Server) -> None:
    shell.write("jobs.jsonl", *chat_jobs(5))
    ended = subprocess.run(
        [sys.executable, "-m", "processor", "jobs.jsonl", "--no-progress"],
        cwd=shell.folder,
        env=shell.environ,
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_NOFILE, (70, 70)),
        capture_output=True,
        check=False,
    )
    assert ended.returncode == 0
    said = (
        "the limit on open files allows 6 connections at a time, which limits this run: raise it with `ulimit -n 320`"
    )
    assert said in ended.stderr.decode()


@pytest.mark.process
def test_names_of_files_that_are_not_utf8_can_be_used(shell: Shell, server: Server) -> None:
    name = os.fsdecode(b"j\xff.jsonl")
    (shell.folder / name).write_text(json.dumps(chat_job("a")) + "\n")
    result = shell(name, "--log-file", os.fsdecode(b"l\xff"), "--summary-json", os.fsdecode(b"s\xff"))
    assert result.code == 0
    assert len(shell.rows(os.fsdecode(b"j\xff.results.jsonl"))) == 1
    summary = json.loads((shell.folder / os.fsdecode(b"s\xff")).read_text())
    assert summary["results"] == name.replace(".jsonl", ".results.jsonl")


@pytest.mark.process
@pytest.mark.parametrize("flag", ["--log-file", "--summary-json"])
def test_named_pipe_without_a_reader_does_not_hang_the_run(shell: Shell, server: Server, flag: str) -> None:
    shell.write("jobs.jsonl", chat_job("a"))
    os.mkfifo(shell.folder / "pipe")
    result = shell("jobs.jsonl", "--quiet", flag, "pipe", timeout_s=30)
    (shell.folder / "pipe").unlink()
    assert "pipe" in result.error
    assert result.code == (2 if flag == "--log-file" else 0)


def test_control_characters_in_names_reach_no_terminal(shell: Shell, run_inside: Run, server: Server) -> None:
    shell.write("jobs.jsonl", {**chat_job("a\x1b[2J\x9b\u202e"), "model": "m\x1b]0;x\x07\u2066"})
    (shell.folder / "config.toml").write_text('[limits."x\\u001b[1m"]\nrpm = 5\n')
    for more in ([], ["--echo"]):
        result = run_inside("jobs.jsonl", "--out", f"r\x1b[31m{len(more)}.jsonl", *more)
        assert result.code == 0
        assert not set(result.err) & {chr(code) for code in (*range(9), 27, *range(127, 160), 0x202E, 0x2066)}
