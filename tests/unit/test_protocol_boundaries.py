"""Only ``protocols`` knows what an API looks like, beside the folders of providers, of flags and of the simulator."""

from __future__ import annotations

from pathlib import Path

PACKAGE = Path(__file__).parents[2] / "processor"

MAY_NAME_APIS = frozenset({"protocols", "config", "cli", "simulator"})
"""Providers differ in their APIs, the help of the command line names paths, and the simulator speaks the APIs."""

WORDS = (
    '"choices"',
    "'choices'",
    "`choices",
    "[DONE]",
    "chat/completions",
    "stream_options",
    "output_text",
    "response.completed",
    "message_stop",
)


def modules() -> list[Path]:
    return [path for path in sorted(PACKAGE.rglob("*.py")) if path.relative_to(PACKAGE).parts[0] not in MAY_NAME_APIS]


def test_there_are_modules_to_look_at() -> None:
    folders = {path.relative_to(PACKAGE).parts[0] for path in modules()}
    assert {"core", "http", "input", "scheduler", "stats", "terminal", "tokens"} <= folders


def test_no_module_outside_protocols_names_a_part_of_an_api() -> None:
    sources = {path.relative_to(PACKAGE).as_posix(): path.read_text(encoding="utf-8") for path in modules()}
    assert [(module, word) for module, source in sources.items() for word in WORDS if word in source] == []
