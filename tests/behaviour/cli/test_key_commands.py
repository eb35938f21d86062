"""Runs whose key is printed by a command: when it is run, what follows from a refusal, and who may name a command."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.support.cli_world import ProgramResult, Shell, chat_jobs
from tests.support.key_server import PRINTER, SECRET, KeyServer
from tests.support.odd_server import Answer, reply_to

pytestmark = pytest.mark.process

Run = Callable[..., ProgramResult]


@pytest.fixture
def keys() -> Iterator[KeyServer]:
    server = KeyServer()
    yield server
    server.close()


@pytest.fixture
def folder(shell: Shell) -> Iterator[Path]:
    """The shell's folder, with the command. Checks that a key is left nowhere."""
    (shell.folder / "login.py").write_text(PRINTER)
    yield shell.folder
    assert not any(SECRET in text for text in shell.outputs)
    for path in shell.folder.rglob("*"):
        assert path.name == "login.py" or not path.is_file() or SECRET.encode() not in path.read_bytes()


def config(base_url: str, *args: str, ttl_s: float = 1800.0) -> str:
    command = json.dumps([sys.executable, "login.py", *args])
    return f'base_url = "{base_url}"\napi_key_command = {command}\napi_key_ttl_s = {ttl_s}\n'


def run_with(shell: Shell, run_inside: Run, text: str, *flags: str, jobs: int = 5) -> ProgramResult:
    (shell.folder / "mine.toml").write_text(text)
    shell.write("jobs.jsonl", *chat_jobs(jobs))
    shell.environ.pop("OPENAI_BASE_URL", None)
    return run_inside("jobs.jsonl", "--out", "r.jsonl", "--config", "mine.toml", "--log-file", "log.jsonl", *flags)


def count(folder: Path) -> int:
    return int((folder / "count").read_text())


def test_command_is_run_once_at_start_and_the_first_line_names_it(
    shell: Shell, run_inside: Run, keys: KeyServer, folder: Path
) -> None:
    result = run_with(shell, run_inside, config(keys.base_url))
    assert (result.code, count(folder), set(keys.keys())) == (0, 1, {"1"})
    assert result.row("endpoint") == f"{keys.base_url}, key from the command {sys.executable}"


def test_expired_key_is_renewed_once_and_every_job_is_answered(
    shell: Shell, run_inside: Run, keys: KeyServer, folder: Path
) -> None:
    keys.accepted = {2}
    result = run_with(shell, run_inside, config(keys.base_url), "--concurrency", "4", jobs=20)
    assert (result.code, count(folder)) == (0, 2)
    assert len(shell.rows("r.jsonl")) == 20
    assert set(keys.keys()) == {"1", "2"}
    assert keys.keys().count("2") == 20


def test_key_that_expires_in_the_middle_of_a_run_is_renewed_once_for_all(
    shell: Shell, run_inside: Run, keys: KeyServer, folder: Path
) -> None:
    def answer(request: dict[str, object]) -> Answer:
        if len(keys.requests) >= 10:
            keys.accepted = {2}
        return reply_to(request)

    keys.answer = answer
    result = run_with(shell, run_inside, config(keys.base_url), "--concurrency", "8", jobs=40)
    assert (result.code, count(folder), len(shell.rows("r.jsonl"))) == (0, 2, 40)
    assert not (folder / "r.errors.jsonl").exists()


def test_same_key_again_ends_the_run(shell: Shell, run_inside: Run, keys: KeyServer, folder: Path) -> None:
    keys.accepted = set()
    result = run_with(shell, run_inside, config(keys.base_url, "1000", "1"))
    assert (result.code, count(folder), len(keys.requests)) == (3, 2, 1)
    assert "the provider refused: the key has expired" in result.err


def test_second_refusal_ends_the_run(shell: Shell, run_inside: Run, keys: KeyServer, folder: Path) -> None:
    keys.accepted = set()
    result = run_with(shell, run_inside, config(keys.base_url))
    assert (result.code, count(folder), keys.keys()) == (3, 2, ["1", "2"])
    assert not (folder / "r.errors.jsonl").exists()


def test_command_that_fails_at_start_sends_nothing(
    shell: Shell, run_inside: Run, keys: KeyServer, folder: Path
) -> None:
    result = run_with(shell, run_inside, config(keys.base_url, "0"))
    assert (result.code, keys.requests) == (2, [])
    name = Path(sys.executable).name
    assert result.error == f"no key: the key command {name} failed with exit code 7; run it by hand to see why"
    assert not (folder / "r.jsonl").exists()


@pytest.mark.parametrize("accepted", [set(), {1}])
def test_command_that_fails_later_ends_the_run(
    shell: Shell, run_inside: Run, keys: KeyServer, folder: Path, accepted: set[int]
) -> None:
    """After a refusal, or when the key is old."""
    keys.accepted = accepted
    slow = Answer(body={"error": {"message": "busy"}}, status=429, headers={"Retry-After": "1"})
    keys.answer = lambda request: slow
    result = run_with(shell, run_inside, config(keys.base_url, "1", ttl_s=0.5))
    assert (result.code, count(folder)) == (3, 2)
    assert "the key command" in result.err
    assert "failed with exit code 7" in result.err
    assert not (folder / "r.errors.jsonl").exists()


def test_key_is_renewed_when_it_is_old(shell: Shell, run_inside: Run, keys: KeyServer, folder: Path) -> None:
    keys.accepted = set(range(1, 1000))
    result = run_with(shell, run_inside, config(keys.base_url, ttl_s=0.3), "--rpm", "60", jobs=3)
    assert result.code == 0  # the last run of the command may have been killed at the end: its file is not read
    assert len(set(keys.keys())) > 1


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_signal_ends_the_command_too(shell: Shell, keys: KeyServer, folder: Path, number: signal.Signals) -> None:
    (folder / "login.py").write_text(
        "import os, time\nopen('pid.new', 'w').write(str(os.getpid()))\nos.rename('pid.new', 'pid')\ntime.sleep(25)\n"
    )
    (folder / "mine.toml").write_text(config(keys.base_url))
    shell.write("jobs.jsonl", *chat_jobs(1))
    process = shell.start("jobs.jsonl", "--config", "mine.toml")
    _wait_until((folder / "pid").exists)
    process.send_signal(number)
    assert shell.end(process).code == 130
    _wait_until(lambda: not _is_alive(int((folder / "pid").read_text())))


def _wait_until(holds: Callable[[], bool]) -> None:
    until = time.monotonic() + 20
    while not holds():
        assert time.monotonic() < until
        time.sleep(0.02)


def _is_alive(process_id: int) -> bool:
    """Whether it runs: a process whose end nobody has asked for still has its number."""
    status = subprocess.run(["ps", "-o", "stat=", "-p", str(process_id)], check=False, capture_output=True, text=True)
    return status.stdout.strip()[:1] not in ("", "Z")


# ---------------------------------------------------------------- who may name a command


def test_command_in_a_file_of_the_working_folder_is_ignored_with_one_line(
    shell: Shell, run_inside: Run, keys: KeyServer, folder: Path
) -> None:
    text = config(keys.base_url) + f'[providers.groq]\napi_key_command = ["{sys.executable}", "login.py"]\n'
    (folder / "config.toml").write_text(text)
    shell.write("jobs.jsonl", *chat_jobs(1))
    run_inside("jobs.jsonl", "--out", "r.jsonl", "--quiet")
    own = folder / "own-settings" / "processor" / "config.toml"
    said = [line.removeprefix("warning").strip() for line in shell.outputs[-1].splitlines()]
    remedy = f"to allow the command, name the file with --config config.toml, or put it into {own}"
    assert f"api_key_command in config.toml is ignored: {remedy}" in said
    assert f"providers.groq.api_key_command in config.toml is ignored: {remedy}" in said
    assert not (folder / "count").exists()


def test_missing_key_names_the_ignored_command(shell: Shell, run_inside: Run, folder: Path) -> None:
    (folder / "config.toml").write_text('api_key_command = ["login"]\n')
    shell.write("jobs.jsonl", *chat_jobs(1))
    result = run_inside("jobs.jsonl")
    assert result.code == 2
    assert "; api_key_command in config.toml is ignored: to allow the command, name the file" in result.error


def test_command_in_the_users_own_folder_is_run_but_not_for_an_address_of_a_found_file(
    shell: Shell, run_inside: Run, keys: KeyServer, folder: Path
) -> None:
    own = folder / "own-settings" / "processor"
    own.mkdir(parents=True)
    (own / "config.toml").write_text(config(keys.base_url))
    shell.write("jobs.jsonl", *chat_jobs(2))
    assert run_inside("jobs.jsonl", "--out", "r.jsonl").code == 0
    assert count(folder) == 1
    (folder / "config.toml").write_text(f'base_url = "{keys.base_url}/other"\n')
    result = run_inside("jobs.jsonl", "--out", "other.jsonl")
    assert result.code == 2
    assert result.error.startswith("config.toml chooses the address, to which the key of the command")
    assert count(folder) == 1


def test_folder_of_the_user_is_not_taken_from_dotenv(shell: Shell, run_inside: Run, folder: Path) -> None:
    (folder / "processor").mkdir()
    (folder / "processor" / "config.toml").write_text('api_key_command = ["login"]\n')
    (folder / ".env").write_text(f"XDG_CONFIG_HOME={folder}\nHOME={folder}\n")
    del shell.environ["XDG_CONFIG_HOME"]
    shell.environ.pop("HOME", None)
    shell.write("jobs.jsonl", *chat_jobs(1))
    result = run_inside("jobs.jsonl")
    assert result.error.startswith("no key: OPENAI_API_KEY is not set")


def test_flag_for_a_variable_wins_over_the_command(
    shell: Shell, run_inside: Run, keys: KeyServer, folder: Path
) -> None:
    shell.environ["MINE"] = "1" + SECRET
    assert run_with(shell, run_inside, config(keys.base_url), "--api-key-env", "MINE").code == 0
    assert not (folder / "count").exists()


def test_key_of_a_command_is_not_sent_unencrypted_to_another_machine(
    shell: Shell, run_inside: Run, folder: Path
) -> None:
    result = run_with(shell, run_inside, config("http://llm.example.org/v1"))
    assert result.code == 2
    assert "would be sent unencrypted to llm.example.org: use https, or allow it with --allow-http" in result.error
    assert not (folder / "count").exists()


def test_command_of_a_provider_is_run(shell: Shell, run_inside: Run, keys: KeyServer, folder: Path) -> None:
    section = f'provider = "vertex"\n[providers.vertex]\nbase_url = "{keys.base_url}"\n'
    command = f'api_key_command = ["{sys.executable}", "login.py"]\n'
    assert run_with(shell, run_inside, section + command).code == 0
    assert (count(folder), set(keys.keys())) == (1, {"1"})
