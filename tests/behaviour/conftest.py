"""Runs the program, in a process of its own or in this one, and checks that no run leaves the key behind."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache
from math import inf
from pathlib import Path
from typing import Any

import pytest

from processor.cli import main
from tests.support.cli_world import KEY, ProgramResult, Shell
from tests.support.ray_cluster import RayCluster

PIPE_BUFFER_BYTES = 4096
"""What every system keeps for the reader of a pipe."""


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


@pytest.fixture(scope="session")
def cluster() -> Iterator[RayCluster]:
    """The Ray cluster of all tests that need one: starting it takes long."""
    cluster = RayCluster()
    yield cluster
    cluster.close()


@pytest.fixture
def quick_simulator(monkeypatch: pytest.MonkeyPatch) -> None:
    """The provider of ``--simulate`` replies at once: it is made for a person who watches."""
    monkeypatch.setattr("processor.app.factory.SIMULATED_FIRST_TOKEN_S", 0.0)
    monkeypatch.setattr("processor.app.factory.SIMULATED_SPEED_TPS", inf)
    monkeypatch.setattr("processor.app.factory.SIMULATED_BATCH_S", 0.05)
    monkeypatch.setattr("processor.app.batch_run.SIMULATED_POLL_S", 0.02)


@pytest.fixture
def run_inside(
    shell: Shell, quick_simulator: None, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> Iterator[Callable[..., ProgramResult]]:
    """Runs the program inside this process, in the shell's folder, which is faster than a process of its own.

    Tests of what only a process has start one: signals, closed streams, limits, the start of the interpreter.
    """
    monkeypatch.chdir(shell.folder)
    monkeypatch.setattr(main.Command, "load", _load)

    def run(*args: str, stdin: bytes = b"") -> ProgramResult:
        monkeypatch.setattr(sys, "argv", ["process", *args])
        monkeypatch.setattr(os, "environ", shell.environ)
        with _standard_input(stdin), pytest.raises(SystemExit) as end:
            main.main()
        written = capfd.readouterr()
        shell.outputs += [written.out, written.err]
        return ProgramResult(int(end.value.code or 0), written.out, written.err)

    yield run


@pytest.fixture
def without_charts(monkeypatch: pytest.MonkeyPatch) -> None:
    """Writes reports as where the packages are missing that draw charts, which takes half a second."""
    monkeypatch.setattr("processor.report.assets.find_spec", lambda name: None)


@cache
def _load(command: main.Command) -> Any:
    """Loads a command once for all tests, as a process does."""
    return _LOAD(command)


_LOAD = main.Command.load


@contextmanager
def _standard_input(data: bytes) -> Iterator[None]:
    """Gives this process a pipe with these bytes, which must fit into it, as its standard input."""
    assert len(data) <= PIPE_BUFFER_BYTES
    before = os.dup(0)
    reader, writer = os.pipe()
    try:
        os.write(writer, data)
        os.close(writer)
        os.dup2(reader, 0)
        os.close(reader)
        yield
    finally:
        os.dup2(before, 0)
        os.close(before)
