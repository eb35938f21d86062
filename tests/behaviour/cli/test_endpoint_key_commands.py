"""Several endpoints, each with a command that prints its key: each renews its own, and only its own."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.support.cli_world import ProgramResult, Shell, chat_jobs
from tests.support.key_server import PRINTER, SECRET, KeyServer

pytestmark = pytest.mark.process

Run = Callable[..., ProgramResult]
Servers = dict[str, KeyServer]


@pytest.fixture
def servers() -> Iterator[Servers]:
    both = {"east": KeyServer(), "west": KeyServer()}
    yield both
    for server in both.values():
        server.close()


@pytest.fixture
def folder(shell: Shell) -> Path:
    (shell.folder / "login.py").write_text(PRINTER)
    shell.environ.pop("OPENAI_BASE_URL", None)
    shell.write("jobs.jsonl", *chat_jobs(40))
    return shell.folder


def table(name: str, base_url: str, *args: str, more: str = "") -> str:
    command = json.dumps([sys.executable, "login.py", *(args or ("1000", "1000")), f"count-{name}"])
    return f'[[endpoints]]\nname = "{name}"\nbase_url = "{base_url}"\napi_key_command = {command}\n{more}\n'


def runs_of(folder: Path, name: str) -> int:
    return int((folder / f"count-{name}").read_text())


def run_with(run_inside: Run, folder: Path, *tables: str) -> ProgramResult:
    (folder / "mine.toml").write_text("".join(tables))
    return run_inside("jobs.jsonl", "--out", "r.jsonl", "--config", "mine.toml", "--concurrency", "8")


def test_key_that_one_endpoint_refuses_is_renewed_there_alone(
    shell: Shell, run_inside: Run, servers: Servers, folder: Path
) -> None:
    servers["east"].accepted = {2}
    result = run_with(run_inside, folder, *(table(name, server.base_url) for name, server in servers.items()))
    assert result.code == 0, result.err
    assert len(shell.rows("r.jsonl")) == 40
    assert (runs_of(folder, "east"), runs_of(folder, "west")) == (2, 1)
    assert servers["east"].keys().count("1") == 1, "the canary alone was refused"
    keys_of = {name: set(server.keys()) for name, server in servers.items()}
    assert keys_of == {"east": {"1", "2"}, "west": {"1"}}
    assert SECRET not in result.err


def test_each_endpoint_renews_its_key_at_its_own_age(
    shell: Shell, run_inside: Run, servers: Servers, folder: Path
) -> None:
    shell.write("jobs.jsonl", *chat_jobs(6))
    for server in servers.values():
        server.accepted = set(range(1, 1000))
    limits = "rpm = 60\nconcurrency = 1\n"
    result = run_with(
        run_inside,
        folder,
        table("east", servers["east"].base_url, more=limits + "api_key_ttl_s = 0.2"),
        table("west", servers["west"].base_url, more=limits),
    )
    assert result.code == 0, result.err
    assert len(set(servers["east"].keys())) > 1
    assert set(servers["west"].keys()) == {"1"}


def test_endpoint_whose_command_fails_later_is_stopped_and_its_jobs_go_elsewhere(
    shell: Shell, run_inside: Run, servers: Servers, folder: Path
) -> None:
    servers["east"].accepted = set()
    result = run_with(
        run_inside,
        folder,
        table("east", servers["east"].base_url, "1", "1000"),
        table("west", servers["west"].base_url),
    )
    assert result.code == 0, result.err
    assert len(shell.rows("r.jsonl")) == 40
    assert len(servers["east"].requests) == 1
    assert not (folder / "r.errors.jsonl").exists()


def test_command_that_fails_at_start_names_the_endpoint_and_sends_nothing(
    run_inside: Run, servers: Servers, folder: Path
) -> None:
    result = run_with(
        run_inside,
        folder,
        table("east", servers["east"].base_url),
        table("west", servers["west"].base_url, "0"),
    )
    assert result.code == 2
    assert result.error.startswith("the endpoint 'west': no key: the key command ")
    assert not servers["east"].requests


def test_command_in_a_table_of_a_found_file_is_ignored_with_one_line(
    shell: Shell, run_inside: Run, servers: Servers, folder: Path
) -> None:
    (folder / "config.toml").write_text(table("east", servers["east"].base_url))
    result = run_inside("jobs.jsonl", "--out", "r.jsonl")
    assert "endpoints[1].api_key_command in config.toml is ignored: to allow the command, name" in result.err
    assert not (folder / "count-east").exists()


def test_variable_and_command_in_one_table_are_refused(run_inside: Run, servers: Servers, folder: Path) -> None:
    result = run_with(run_inside, folder, table("east", servers["east"].base_url, more='api_key_env = "KEY"'))
    assert result.code == 2
    assert "the endpoint 'east' must not have both api_key_env and api_key_command" in result.error
