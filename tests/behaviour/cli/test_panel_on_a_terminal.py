"""The panel as a person sees it: the program at a terminal, with its signals and sizes."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial

import pytest

from processor.simulator.settings import INSTANT, SimulatorSettings
from tests.support.cli_world import Server, Shell, chat_jobs
from tests.support.pty_program import PtyProgram
from tests.support.terminal import Screen

StartServer = Callable[[SimulatorSettings], Server]
StartAtTerminal = Callable[..., PtyProgram]

STEADY = replace(
    INSTANT, first_token_s=0.2, first_token_jitter=0.0, canned=False, speed_tps=80.0, reply_tokens=(60, 60)
)
"""Replies of about a second."""

pytestmark = [
    pytest.mark.process,
    pytest.mark.skipif(sys.platform != "linux", reason="elsewhere a terminal becomes the controlling one differently"),
]


@pytest.fixture
def at_terminal(shell: Shell) -> Iterator[StartAtTerminal]:
    programs: list[PtyProgram] = []

    def start(*args: str, **environ: str) -> PtyProgram:
        inherited = {name: value for name, value in shell.environ.items() if name not in ("COLUMNS", "LINES")}
        command = [sys.executable, "-m", "processor", *args]
        program = PtyProgram(command, folder=shell.folder, environ=inherited | environ)
        programs.append(program)
        return program

    yield start
    for program in programs:
        program.close()
        shell.outputs.append(program.output)


def titles(screen: Screen) -> list[str]:
    """The first lines of the panels on the screen; there should be one."""
    return [line for line in screen.visible if line.startswith("jobs.jsonl to 127.0.0.1:")]


def is_drawn_at(columns: int, screen: Screen) -> bool:
    """Whether the only panel on the screen has this width: its first line ends with the time that the run has taken."""
    drawn = titles(screen)
    return len(drawn) == 1 and columns - 2 <= len(drawn[0]) <= columns and drawn[0].endswith(" s")


def test_panel_follows_the_terminal_and_leaves_its_last_state(
    shell: Shell, start_server: StartServer, at_terminal: StartAtTerminal
) -> None:
    start_server(STEADY)
    shell.write("jobs.jsonl", *chat_jobs(500))
    program = at_terminal("jobs.jsonl", "--out", "r.jsonl", "--concurrency", "4")
    program.wait_for(lambda screen: any(line.startswith("ends at about ") for line in screen.visible))
    assert any(line.endswith("now      limit") for line in program.screen.visible)
    assert "\x1b[?" not in program.output, "no alternate screen, and the cursor stays visible"

    for columns in (72, 66, 60):
        program.resize(columns, 24)
        program.wait_for(partial(is_drawn_at, columns))
    assert any(line.endswith("now") for line in program.screen.visible)
    program.resize(50, 24)
    program.wait_for(lambda screen: not titles(screen) and "/500" in "".join(screen.visible))
    program.resize(160, 40)
    # A terminal that grows shows again what it pushed off the screen when the panel wrapped: perhaps an old first line.
    program.wait_for(lambda screen: any("requests a minute: " in line for line in screen.visible))
    assert 1 <= len(titles(program.screen)) <= 2
    program.resize(80, 40)
    program.wait_for(lambda screen: any(line.endswith("now      limit") for line in screen.visible))

    # A run of less than two seconds leaves no panel behind.
    program.wait_for(
        lambda screen: (
            bool(titles(screen)) and any(f"running {seconds}" in titles(screen)[-1] for seconds in range(3, 10))
        )
    )
    program.type("\x03")
    assert program.end() == 130
    visible = program.screen.visible
    title = titles(program.screen)[-1]
    assert " ran " in title
    assert visible[visible.index(title) + 2].startswith("stopped at ")
    assert visible.index(title) < next(at for at, line in enumerate(visible) if line.startswith("done  "))
    assert not any("^C" in line for line in visible)


def test_terminal_that_cannot_be_redrawn_gets_no_escape_codes(
    shell: Shell, start_server: StartServer, at_terminal: StartAtTerminal
) -> None:
    start_server(INSTANT)
    shell.write("jobs.jsonl", *chat_jobs(4))
    program = at_terminal("jobs.jsonl", "--out", "r.jsonl", "--progress", "panel", TERM="dumb")
    assert program.end() == 0
    assert "--progress panel needs a terminal that shows escape codes: this is a log" in program.output
    assert "\x1b" not in program.output
