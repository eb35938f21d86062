"""Help pages: complete, at most eighty columns wide, and fast."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable

import pytest

from processor.cli.main import COMMANDS
from tests.support.cli_world import ROOT, ProgramResult, Shell, without_coverage

Run = Callable[..., ProgramResult]

COMMAND_BY_NAME = {command.name: command for command in COMMANDS}
NAMES = list(COMMAND_BY_NAME)
PAGES = [["--help"], *([name, "--help"] for name in NAMES)]


@pytest.fixture(autouse=True)
def narrow(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "80")


@pytest.mark.parametrize("args", PAGES, ids=" ".join)
def test_help_page_fits_eighty_columns(run_inside: Run, args: list[str]) -> None:
    page = run_inside(*args)
    assert (page.code, page.err) == (0, "")
    assert max(len(line) for line in page.out.splitlines()) <= 80


@pytest.mark.parametrize("command", NAMES)
def test_help_page_explains_every_option(run_inside: Run, command: str) -> None:
    page = run_inside(command, "--help").out
    parameters = COMMAND_BY_NAME[command].load().params
    options = [parameter for parameter in parameters if parameter.param_type_name == "option"]
    assert options
    for option in options:
        assert option.opts[0] in page
        assert option.help


def test_help_of_the_program_shows_first_commands(run_inside: Run) -> None:
    page = run_inside("--help").out
    for line in ("process jobs.jsonl --simulate", "process jobs.jsonl --out results.jsonl", "process run --help"):
        assert line in page
    for command in NAMES:
        assert f"\n  {command}" in page


def test_help_of_run_shows_formats_examples_and_exit_codes(run_inside: Run) -> None:
    page = run_inside("run", "--help").out
    assert "Usage: process run [OPTIONS] JOBS\n" in page
    for part in ('{"prompt": ', '{"messages": ', '"body": {...}}', "process jobs.jsonl --rpm 500", "Exit codes:"):
        assert part in page
    for code in (0, 1, 2, 3, 130):
        assert f"\n  {code:<3}  " in page


def test_help_after_a_job_file_is_the_help_of_run(run_inside: Run) -> None:
    assert run_inside("jobs.jsonl", "--help").out.startswith("Usage: process run")


def test_no_arguments_print_the_help_and_exit_with_2(run_inside: Run) -> None:
    page = run_inside()
    assert page.code == 2
    assert page.out == run_inside("--help").out


def test_version_is_printed(shell: Shell, run_inside: Run) -> None:
    assert run_inside("--version").out.startswith("process ")


@pytest.mark.process
def test_help_imports_no_slow_library() -> None:
    """A benchmark measures the time itself."""
    code = (
        "import sys\n"
        "from processor.__main__ import main\n"
        "sys.argv = ['process', '--help']\n"
        "try:\n    main()\n"
        "except SystemExit:\n    print(*{name.partition('.')[0] for name in sys.modules}, file=sys.stderr)\n"
    )
    shown = subprocess.run(
        [sys.executable, "-c", code],
        cwd=ROOT,
        env=without_coverage(os.environ),
        capture_output=True,
        text=True,
        check=True,
    )
    assert "Usage: process" in shown.stdout
    loaded = set(shown.stderr.split())
    assert "typer" in loaded
    slow = {
        "aiohttp",
        "aiolimiter",
        "asyncio",
        "dotenv",
        "multiprocessing",
        "orjson",
        "pydantic",
        "rich",
        "ssl",
        "tenacity",
        "tiktoken",
    }
    assert not loaded & slow
