"""What ``--ray`` refuses, before anything is started. Runs in a cluster: ``tests/behaviour/cluster/test_ray.py``."""

from __future__ import annotations

from collections.abc import Callable
from importlib.util import find_spec

import pytest

from tests.support.cli_world import ProgramResult, Server, Shell, chat_jobs

Run = Callable[..., ProgramResult]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            ["--ray", "ray://head:10001"],
            "--ray ray://head:10001: the Ray client would pass every call through a proxy: ",
        ),
        (["--ray", "here"], "--ray must be local, auto or HOST:PORT, not 'here'"),
        (["--ray", "http://head:6379"], "--ray must be local, auto or HOST:PORT, not 'http://head:6379'"),
        (["--ray", ""], "--ray must be local, auto or HOST:PORT, not ''"),
        (["--workers", "3"], "--workers needs a cluster: add --ray local, or leave it out"),
        (["--ray", "local", "--workers", "0"], "--workers must be a whole number of at least 1, not 0"),
        (["--ray", "local", "--local", "a.gguf"], "--local serves the model on this machine, and needs no workers"),
        (["--ray", "local", "--batch"], "--batch sends a few large requests, and needs no workers: leave out --ray"),
        (["--ray", "auto", "--simulate"], "--simulate answers on this machine: use --ray local"),
        (["--ray", "local"], "--ray needs the extra `ray`: pip install 'processor[ray]'"),
    ],
)
def test_wrong_use_sends_nothing(
    shell: Shell, server: Server, run_inside: Run, arguments: list[str], message: str
) -> None:
    if message.startswith("--ray needs") and find_spec("ray") is not None:
        pytest.skip("ray is installed")
    shell.write("jobs.jsonl", *chat_jobs(1))
    result = run_inside("jobs.jsonl", "--out", "r.jsonl", *arguments)
    assert result.code == 2
    assert result.error.startswith(message)
    assert server.requests == []
    assert not (shell.folder / "r.jsonl").exists()


def test_cluster_that_a_file_of_the_working_folder_names_is_not_used(
    shell: Shell, server: Server, run_inside: Run
) -> None:
    shell.write("jobs.jsonl", *chat_jobs(1))
    (shell.folder / "config.toml").write_text('[ray]\naddress = "elsewhere:6379"\n')
    result = run_inside("jobs.jsonl", "--out", "r.jsonl")
    assert result.code == 0
    assert "ray.address in config.toml is ignored: to allow the address, name the file" in result.row("warning")
    named = run_inside("jobs.jsonl", "--out", "s.jsonl", "--config", "config.toml")
    assert (named.code, "--ray" in named.error) == (2, True)
