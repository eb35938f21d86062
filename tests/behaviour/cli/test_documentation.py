"""The pages name every option, field, fault and exit code that there is, and no other."""

from __future__ import annotations

import inspect
import re
from typing import get_args

import pytest

from processor.cli.main import COMMANDS
from processor.core import exit_codes
from processor.core.errors import RequestError, TransportError
from processor.core.events import Bottleneck
from processor.core.process_errors import LocalModelFailed
from processor.output import row_json
from processor.simulator.batch_settings import BATCH_FAULTS
from processor.simulator.faults import FAILURES, QUIRKS, WRONG_CONTENT
from processor.stats.history import MinuteCounter, RunDescription
from processor.stats.run_stats import RunStats
from tests.support.cli_world import ROOT

PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
TEXT = "\n".join(page.read_text(encoding="utf-8") for page in PAGES)
OPERATIONS = (ROOT / "docs" / "operations.md").read_text(encoding="utf-8")
OPTIONS = {
    command.name: {name for parameter in command.load().params for name in (*parameter.opts, *parameter.secondary_opts)}
    for command in COMMANDS
}


def section(title: str) -> str:
    found = OPERATIONS.partition(f"\n## {title}\n")[2].partition("\n## ")[0]
    assert found, title
    return found


def named_in_first_column(table: str) -> set[str]:
    """The names in code in the first column of all tables of a section."""
    rows = [line.split("|")[1] for line in table.splitlines() if line.startswith("| ")]
    return {name for cell in rows for name in re.findall(r"`(\w+)[^`]*`", cell)}


@pytest.mark.parametrize("command", OPTIONS)
def test_every_option_is_documented(command: str) -> None:
    named = set(re.findall(r"(?<![\w-])--[a-z][a-z-]*", TEXT))
    assert {option for option in OPTIONS[command] if option.startswith("--")} - named - {"--help"} == set()


def test_every_command_line_in_the_pages_uses_options_that_there_are() -> None:
    lines = re.findall(r"(?m)(?:^|`)(process (?:[^`\n#|&;>]|\\\n)+)", TEXT)
    assert len(lines) > 60
    for line in lines:
        words = line.split()
        known = OPTIONS.get(words[1], OPTIONS["run"])
        given = {word.partition("=")[0].rstrip(".,:") for word in words[1:] if re.match(r"--[a-z]", word)}
        assert given <= known | {"--help", "--version"}, line


def test_fields_of_a_row_are_documented() -> None:
    source = inspect.getsource(row_json.to_row) + inspect.getsource(row_json._add_verdicts)
    fields = set(re.findall(r'row\["(\w+)"\] =|(?m:^ {8}"(\w+)":)', source))
    names = {name for pair in fields for name in pair if name}
    assert len(names) > 20
    assert names - named_in_first_column(section("Result rows")) == {"error"}


def test_fields_of_the_history_are_documented() -> None:
    description = RunDescription(
        run="r", version="1", started_at="", command="", process=1, host="h", settings={}, limits={}
    )
    line = MinuteCounter(RunStats(), 0.0).next_line("r", 1.0, "")
    documented = named_in_first_column(section("The history"))
    in_all = set(re.findall(r"`(\w+)`", section("The history")))
    assert {*description.as_json(), *line} - in_all == set()
    assert documented - {*description.as_json(), *line} <= {"exit_code", "workers", "total_s"}
    assert set(get_args(Bottleneck)) <= in_all


def test_codes_of_errors_are_documented() -> None:
    def codes(error: type[RequestError]) -> set[str]:
        below = [codes(each) for each in error.__subclasses__() if each.__module__.startswith("processor.")]
        return {error.code}.union(*below)

    assert LocalModelFailed.code in codes(RequestError)
    bases = {RequestError.code, TransportError.code}
    documented = set(re.findall(r"`(\w+)`", section("Error codes") + section("The JSON log")))
    assert codes(RequestError) - bases - documented == set()


def test_exit_codes_are_documented() -> None:
    documented = {int(code) for code in re.findall(r"(?m)^\| (\d+) \|", section("Exit codes"))}
    assert documented == {value for name, value in vars(exit_codes).items() if name.isupper()}


def test_faults_of_the_simulator_are_documented() -> None:
    table = section("A fake provider").partition("| faults | |")[2]
    assert set(re.findall(r"`(\w+)`", table)) == {*FAILURES, *QUIRKS, *WRONG_CONTENT, *BATCH_FAULTS}
