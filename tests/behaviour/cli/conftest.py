"""Fixtures of the command-line tests: a shell and servers, and a check that no run leaves the key anywhere."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from processor.cli import main
from processor.simulator.settings import INSTANT, SimulatorSettings
from tests.support.cli_world import KEY, ProgramResult, Server, Shell


@pytest.fixture
def shell(tmp_path: Path) -> Iterator[Shell]:
    shell = Shell(tmp_path)
    yield shell
    shell.close()
    for text in shell.outputs:
        assert KEY not in text
        assert "Traceback" not in text
        assert "Warning" not in text
    for path in tmp_path.rglob("*"):
        assert path.name == ".env" or not path.is_file() or KEY.encode() not in path.read_bytes()


@pytest.fixture
def start_server(shell: Shell) -> Iterator[Callable[[SimulatorSettings], Server]]:
    """Starts a server, and makes it the one that the shell's runs chat_job, with a key."""
    servers = []

    def serve(settings: SimulatorSettings) -> Server:
        server = Server(settings)
        servers.append(server)
        shell.environ |= {"OPENAI_BASE_URL": server.base_url, "OPENAI_API_KEY": KEY}
        return server

    yield serve
    for server in servers:
        server.close()


@pytest.fixture
def server(start_server: Callable[[SimulatorSettings], Server]) -> Server:
    """A server that answers at once."""
    return start_server(INSTANT)


@pytest.fixture
def run_inside(
    shell: Shell, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> Iterator[Callable[..., ProgramResult]]:
    """Runs the program inside this process, in the shell's folder, which is faster than a process of its own."""
    monkeypatch.chdir(shell.folder)

    def run(*args: str) -> ProgramResult:
        monkeypatch.setattr(sys, "argv", ["process", *args])
        monkeypatch.setattr(os, "environ", shell.environ)
        with pytest.raises(SystemExit) as end:
            main.main()
        written = capfd.readouterr()
        shell.outputs += [written.out, written.err]
        return ProgramResult(int(end.value.code or 0), written.out, written.err)

    yield run
