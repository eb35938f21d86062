"""Labelled rows and errors on a terminal and in a log."""

from __future__ import annotations

import io

import pytest

from processor.terminal import console, label_table
from processor.terminal.label_table import LabelRow
from tests.support.terminal import FakeTerminal, without_escape_codes

LONG = [
    LabelRow("label", "word " * 40, "bad"),
    LabelRow("", "more"),
    LabelRow("to resume", "process " + "x" * 100, "command"),
]


def test_rows_on_a_terminal_are_coloured_and_wrapped_behind_their_label() -> None:
    terminal = FakeTerminal()
    label_table.print_rows(LONG, terminal)
    drawn = terminal.getvalue()
    assert "\x1b[31m" in drawn
    lines = without_escape_codes(drawn).splitlines()
    assert all(len(line) <= 80 for line in lines[:-1])
    assert lines[0].startswith("label      word word")
    assert lines[1].startswith("           word word")


def test_command_is_not_wrapped() -> None:
    terminal = FakeTerminal()
    label_table.print_rows(LONG, terminal)
    assert without_escape_codes(terminal.getvalue()).splitlines()[-1] == "to resume  process " + "x" * 100


def test_no_color_disables_colours(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NO_COLOR", "1")
    terminal = FakeTerminal()
    label_table.print_rows(LONG, terminal)
    assert "\x1b[31m" not in terminal.getvalue()


def test_square_brackets_in_a_message_are_not_markup() -> None:
    terminal = FakeTerminal()
    label_table.print_rows([LabelRow("failed", "[red]not[/red] :smile:")], terminal)
    assert "[red]not[/red] :smile:" in without_escape_codes(terminal.getvalue())


def test_rows_in_a_log_are_not_wrapped_and_have_no_escape_codes(capsys: pytest.CaptureFixture[str]) -> None:
    label_table.print_rows(LONG)
    assert capsys.readouterr().err == label_table.plain_text(LONG)
    assert "\x1b" not in label_table.plain_text(LONG)
    assert len(label_table.plain_text(LONG).splitlines()) == 3


def test_error_is_one_line_without_control_characters(capsys: pytest.CaptureFixture[str]) -> None:
    console.print_error("no key: set OPENAI_API_KEY")
    console.print_error("no such file:\n\x1b[2Jjobs.jsonl")
    assert capsys.readouterr().err == "error: no key: set OPENAI_API_KEY\nerror: no such file: �[2Jjobs.jsonl\n"


def test_error_is_red_on_a_terminal() -> None:
    terminal = FakeTerminal()
    console.print_error("no key: " + "x" * 100, terminal)
    assert "\x1b[1;31m" in terminal.getvalue()
    assert without_escape_codes(terminal.getvalue()) == f"error: no key: {'x' * 100}\n"


def test_dumb_terminal_is_not_a_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TERM", "dumb")
    assert not console.is_terminal(FakeTerminal())


@pytest.mark.parametrize("error", [BrokenPipeError(), OSError(28, "full"), ValueError("closed")])
def test_write_errors_of_the_stream_are_ignored(error: Exception) -> None:
    class Gone(io.StringIO):
        def write(self, text: str) -> int:
            raise error

        def flush(self) -> None:
            raise error

        def isatty(self) -> bool:
            return True

    label_table.print_rows(LONG, Gone())
    console.print_error("no key", stream=Gone())


def test_closed_stream_is_not_a_terminal() -> None:
    closed = FakeTerminal()
    closed.close()
    closed.isatty = io.StringIO.isatty.__get__(closed)  # type: ignore[method-assign]
    label_table.print_rows(LONG, closed)
