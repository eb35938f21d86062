"""Lists every message of the program, from its sources: ``python -m tests.support.messages``.

A message is a text that is given to an error, a notice, a row of banner or summary, or to a function that prints.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from processor.core.text import flag_and_setting, setting_name

PACKAGE = Path(__file__).parents[2] / "processor"

LEFT_OUT = ("simulator", "report")
"""The simulator answers as a provider does, in the providers' words; the report is a page of sentences."""

ERRORS = frozenset(
    {
        *("ConfigError", "InputError", "InvalidJob", "OutputError", "InternalError", "RequestError", "ProtocolError"),
        *("ConnectError", "ConnectionLost", "StreamTruncated", "StreamStalled", "Timeout", "ReplyTooLarge", "TooLarge"),
    }
)
"""Their first argument is the message."""

NAMED = {"Notice": "text", "Failure": "message", "StopRun": "reason", "Outcome": "reason"}
"""The argument that is the message."""

PRINTING = frozenset({"print_error", "stop", "say", "print_line", "note_weakness"})

NAMING: dict[str, Callable[..., str]] = {"setting_name": setting_name, "flag_and_setting": flag_and_setting}
"""What names a setting in a message."""


@dataclass(frozen=True, slots=True)
class Message:
    """``where``: file and line; ``kind``: what it is given to; ``text``: with ``{}`` for each value in it."""

    where: str
    kind: str
    text: str


def messages() -> list[Message]:
    """All messages, by file and line."""
    paths = sorted(path for path in PACKAGE.rglob("*.py") if not set(LEFT_OUT) & set(path.parts))
    return [message for path in paths for message in _messages_of(path)]


def _messages_of(path: Path) -> Iterator[Message]:
    where = path.relative_to(PACKAGE).as_posix()
    seen = set()
    for kind, given in _given(ast.parse(path.read_text(encoding="utf-8")), ()):
        for text in _texts(given):
            message = Message(f"{where}:{given.lineno}", kind, text)
            if message not in seen and re.search(r"[a-z]{3}", text):
                seen.add(message)
                yield message


def _given(node: ast.AST, functions: tuple[ast.AST, ...]) -> Iterator[tuple[str, ast.expr]]:
    """The expressions in a node that are messages, each with what it is given to. ``functions``: those around it."""
    if isinstance(node, ast.Call):
        kind = _name(node.func)
        for given in _arguments(kind, node):
            yield kind, given
            if isinstance(given, ast.Name):
                yield from ((kind, value) for function in functions for value in _assigned(function, given.id))
    elif isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
        functions = (*functions, node)
        if isinstance(node, ast.FunctionDef) and "str" in ast.unparse(node.returns or ast.Constant("")):
            yield from (("return", value) for value in _returned(node))
    for child in ast.iter_child_nodes(node):
        yield from _given(child, functions)


def _assigned(function: ast.AST, name: str) -> Iterator[ast.expr]:
    for node in ast.walk(function):
        if isinstance(node, ast.Assign) and any(isinstance(to, ast.Name) and to.id == name for to in node.targets):
            yield node.value


def _returned(function: ast.FunctionDef) -> Iterator[ast.expr]:
    """Sentences only: what has no space is a name or a key."""
    for node in ast.walk(function):
        if isinstance(node, ast.Return) and node.value is not None:
            yield from (node.value for text in _texts(node.value) if " " in text.strip())


def _arguments(kind: str, call: ast.Call) -> Iterator[ast.expr]:
    if kind in ERRORS or kind in PRINTING:
        yield from call.args[:1]
    elif kind == "LabelRow":
        yield from call.args[1:2]
    elif kind in NAMED:
        yield from (keyword.value for keyword in call.keywords if keyword.arg == NAMED[kind])


def _name(function: ast.expr) -> str:
    return function.attr if isinstance(function, ast.Attribute) else getattr(function, "id", "")


def _texts(node: ast.expr) -> Iterator[str]:
    """The text of a literal, with ``{}`` for values; both branches of a choice; nothing where there is no text."""
    if isinstance(node, ast.Constant) and isinstance(node.value, str):
        yield node.value
    elif isinstance(node, ast.JoinedStr):
        yield "".join(map(_part, node.values))
    elif isinstance(node, ast.IfExp):
        yield from (*_texts(node.body), *_texts(node.orelse))
    elif isinstance(node, ast.BinOp):
        left, right = list(_texts(node.left)) or ["{}"], list(_texts(node.right)) or ["{}"]
        yield from (first + second for first in left for second in right)


def _part(node: ast.expr) -> str:
    """A part of a text with values; the names of settings as on the command line."""
    if isinstance(node, ast.Constant):
        return str(node.value)
    call = node.value if isinstance(node, ast.FormattedValue) else None
    if isinstance(call, ast.Call) and _name(call.func) in NAMING and isinstance(call.args[0], ast.Constant):
        return NAMING[_name(call.func)](*(one.value if isinstance(one, ast.Constant) else "{}" for one in call.args))
    return "{}"


if __name__ == "__main__":
    for message in messages():
        print(f"{message.where}\t{message.kind}\t{message.text}")
