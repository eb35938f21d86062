"""Provides a shell and servers to the command-line tests, and checks that no run leaves the key anywhere."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from processor.cli import main
from processor.simulator.settings import INSTANT, SimulatorSettings
from tests.support.cli_world import KEY, Ended, Server, Shell


@pytest.fixture
def shell(tmp_path: Path) -> Iterator[Shell]:
    shell = Shell(tmp_path)
    yield shell
    shell.close()
    for text in shell.said:
        assert KEY not in text
        assert "Traceback" not in text
        assert "Warning" not in text
    for path in tmp_path.rglob("*"):
        assert path.name == ".env" or not path.is_file() or KEY.encode() not in path.read_bytes()


@pytest.fixture
def serving(shell: Shell) -> Iterator[Callable[[SimulatorSettings], Server]]:
    """Starts a server, and makes it the one that the shell's runs ask, with a key."""
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
def server(serving: Callable[[SimulatorSettings], Server]) -> Server:
    """One that answers at once."""
    return serving(INSTANT)


@pytest.fixture
def inside(
    shell: Shell, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> Iterator[Callable[..., Ended]]:
    """The program inside this process, in the shell's folder: as a process of its own, but quicker."""
    monkeypatch.chdir(shell.folder)

    def run(*args: str) -> Ended:
        monkeypatch.setattr(sys, "argv", ["process", *args])
        monkeypatch.setattr(os, "environ", shell.environ)
        with pytest.raises(SystemExit) as end:
            main.main()
        said = capfd.readouterr()
        shell.said += [said.out, said.err]
        return Ended(int(end.value.code or 0), said.out, said.err)

    yield run
