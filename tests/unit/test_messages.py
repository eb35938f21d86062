"""The wording of the program's messages; ``python -m tests.support.messages`` lists them.

They name settings as their user writes them: flags on the command line, arguments in a program.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from dataclasses import fields
from functools import cache
from pathlib import Path
from typing import Any

import pytest

from processor.app.plan import Plan
from processor.cli.main import COMMANDS
from processor.config.settings import Limits, RaySettings, Settings
from processor.core.models import SourceFile
from processor.core.text import messages_for, place_of, setting_name
from tests.support.messages import NAMING, PACKAGE, Message, messages

all_messages = cache(messages)

BEGINS_IN_CAPITALS = re.compile(r"HTTP|[A-Z_]{3,}|TLS|JSON|NaN|CA ")
"""Names that are written so."""


def test_list_holds_the_messages_of_all_parts_of_the_program() -> None:
    assert len(all_messages()) > 120
    folders = {message.where.partition("/")[0] for message in all_messages()}
    assert folders >= {"app", "cli", "config", "core", "http", "input", "output", "protocols", "scheduler", "terminal"}


def is_one_line_in_lower_case_without_a_full_stop(text: str) -> bool:
    begins_well = not text[:1].isupper() or BEGINS_IN_CAPITALS.match(text)
    return "\n" not in text and not re.search(r"[.!]$", text) and bool(begins_well)


def names_the_place_and_the_remedy(text: str) -> bool:
    """It names a file, flag or setting, and says what must be so or what to do."""
    place = re.search(r"\{\}|--\w|base URL|file|transport|_s\b", text)
    return bool(place and re.search(r"[:;,]|\bmust\b|\bneed", text))


def test_messages_are_one_line_in_lower_case_without_a_full_stop() -> None:
    wrong = [message for message in all_messages() if not is_one_line_in_lower_case_without_a_full_stop(message.text)]
    assert wrong == []


def test_errors_of_usage_name_the_place_and_the_remedy() -> None:
    errors: list[Message] = [message for message in all_messages() if message.kind == "ConfigError"]
    assert len(errors) > 100
    assert [message for message in errors if not names_the_place_and_the_remedy(message.text)] == []


# ------------------------------------------------------------ names of settings

COMMAND_LINE_ONLY = ("cli", "estimate", "export", "report", "simulator")
"""Folders that no program uses: the commands, and what they print."""
ONLY_ON_IT = {
    "app/batch_access.py",  # the words of a command line
    "app/batch_commands.py",
    "app/estimate.py",
    "app/rehearse.py",
    "app/rehearsed_provider.py",
    "config/config_files.py",  # which settings file to name
    "core/text.py",
    "terminal/job_details.py",
    "terminal/summary.py",  # the command that goes on
}
FLAG = re.compile(r"(?<![\w-])--[a-z]")
COMMAND = re.compile(r"\bprocess [a-z-]+ .*")
"""What is to be typed into a shell, wherever it is read."""

FIELDS = {
    *(field.name for cls in (Plan, Settings) for field in fields(cls)),
    *(f"limits.{field.name}" for field in fields(Limits)),
    *(f"ray.{field.name}" for field in fields(RaySettings)),
}


NAMES_SETTINGS = re.compile("|".join(NAMING))


def texts(nodes: list[ast.AST]) -> Iterator[str]:
    """All texts of a file but its docstrings."""
    left_out: set[ast.AST] = {node.value for node in nodes if isinstance(node, ast.Expr)}
    for node in nodes:
        if isinstance(node, ast.JoinedStr):
            yield "".join(str(part.value) if isinstance(part, ast.Constant) else "{}" for part in node.values)
            left_out.update(node.values)
        elif isinstance(node, ast.Constant) and isinstance(node.value, str) and node not in left_out:
            yield node.value


def named_settings(nodes: list[ast.AST]) -> set[str]:
    """The settings that messages of a file name."""
    calls = [node for node in nodes if isinstance(node, ast.Call)]
    named = [call for call in calls if isinstance(call.func, ast.Name) and call.func.id in NAMING]
    return {call.args[0].value for call in named if isinstance(call.args[0], ast.Constant)}  # type: ignore[misc]


@cache
def texts_and_settings() -> tuple[list[tuple[str, str]], set[str]]:
    """All texts, each with its file, and all settings that are named: of the files in which a flag or a setting may
    stand. The others are not worth parsing."""
    found: list[tuple[str, str]] = []
    named: set[str] = set()
    for path in sorted(PACKAGE.rglob("*.py")):
        source = path.read_text(encoding="utf-8")
        if FLAG.search(source) or NAMES_SETTINGS.search(source):
            nodes = list(ast.walk(ast.parse(source)))
            found += ((path.relative_to(PACKAGE).as_posix(), text) for text in texts(nodes))
            named |= named_settings(nodes)
    return found, named


def options() -> set[str]:
    """The flags of all commands."""
    parameters: list[Any] = [one for command in COMMANDS for one in command.load().params]
    return {name for one in parameters for name in (*one.opts, *one.secondary_opts) if name.startswith("--")}


def test_no_text_that_a_program_can_see_has_a_flag_in_it() -> None:
    found = {
        (file, text)
        for file, text in texts_and_settings()[0]
        if file not in ONLY_ON_IT and Path(file).parts[0] not in COMMAND_LINE_ONLY
        if FLAG.search(COMMAND.sub("", text))
    }
    assert found == set()


def test_named_settings_are_arguments_of_a_program_and_flags_of_the_command_line() -> None:
    _, named = texts_and_settings()
    assert len(named) > 20
    assert named - FIELDS == {"config"}
    assert {setting_name(name) for name in named} <= options()


@pytest.mark.parametrize(
    ("setting", "flag", "argument"),
    [
        (("base_url",), "--base-url", "base_url="),
        (("out", "FILE"), "--out FILE", "out=FILE"),
        (("out", "r.jsonl"), "--out r.jsonl", "out='r.jsonl'"),
        (("allow_http", True), "--allow-http", "allow_http=True"),
        (("max_cost_usd",), "--max-cost", "max_cost_usd="),
        (("ray.address", "local"), "--ray local", "ray.address='local'"),
        (("config", "FILE"), "--config FILE", "settings="),
    ],
)
def test_setting_is_named_as_its_user_writes_it(setting: tuple[Any, ...], flag: str, argument: str) -> None:
    assert setting_name(*setting) == flag
    with messages_for("plan"):
        assert setting_name(*setting) == argument
    with messages_for("session"):
        assert setting_name(*setting) == argument.replace("out=", "journal=")
    assert setting_name(*setting) == flag


def test_jobs_of_a_session_have_no_lines() -> None:
    assert place_of(5, None) == "line 5"
    with messages_for("plan"):
        assert place_of(5, None) == "line 5"
    with messages_for("session"):
        assert place_of(5, None) == "job 5"
        assert place_of(5, SourceFile(2, "b.jsonl")) == "b.jsonl, line 5"
