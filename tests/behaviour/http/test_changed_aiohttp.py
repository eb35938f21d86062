"""A changed aiohttp costs CPU time, not replies: private attributes renamed, methods that raise or return another type.

A run with a changed copy of aiohttp answers every job with one request, and says so in one line.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from types import ModuleType

import aiohttp
import pytest
from aiohttp import StreamReader
from aiohttp.client_proto import ResponseHandler

from processor.http import fast_connection, fast_connector, prepared_post
from processor.simulator.settings import INSTANT
from tests.support.cli_world import KEY, ROOT, Server, Shell, chat_jobs

JOBS = 6
AIOHTTP = Path(aiohttp.__path__[0])
SOURCES = {path: path.read_text(encoding="utf-8") for path in sorted(AIOHTTP.rglob("*.py"))}


def nodes_of(module: ModuleType) -> list[ast.AST]:
    return list(ast.walk(ast.parse(Path(str(module.__file__)).read_text(encoding="utf-8"))))


CONNECTOR_NODES = nodes_of(fast_connection) + nodes_of(fast_connector)
NODES = CONNECTOR_NODES + nodes_of(prepared_post)

pytestmark = [pytest.mark.process, pytest.mark.slow]


def private_attributes() -> list[str]:
    """The private attributes of aiohttp that the fast connections use."""
    used = {node.attr for node in CONNECTOR_NODES if isinstance(node, ast.Attribute) and node.attr.startswith("_")}
    return sorted(
        name
        for name in used
        if not name.startswith("__") and any(re.search(rf"\b{name}\b", text) for text in SOURCES.values())
    )


def methods() -> list[str]:
    """The methods of aiohttp's connections, bodies and pool that the fast ones call or replace."""
    called = {node.func.attr for node in NODES if isinstance(node, ast.Call) and hasattr(node.func, "attr")}
    defined = {node.name for node in NODES if isinstance(node, ast.FunctionDef)}
    return ["aiohttp.connector.TCPConnector.connect"] + [
        f"{base.__module__}.{base.__name__}.{name}"
        for base in (ResponseHandler, StreamReader)
        for name in sorted(called | defined)
        if not name.startswith("__") and callable(getattr(base, name, None))
    ]


CHANGED_METHOD = """
import importlib

def change(path, answer):
    module, owner, name = path.rsplit(".", 2)
    base = getattr(importlib.import_module(module), owner)
    original = getattr(base, name)

    def changed(self, *args, **options):
        if type(self).__module__.startswith("processor"):
            return answer(original, self, *args, **options)
        return original(self, *args, **options)

    setattr(base, name, changed)

def raises(original, self, *args, **options):
    raise RuntimeError("changed")

def returns_another_type(original, self, *args, **options):
    original(self, *args, **options)
    return ("changed",)
"""


def write_renamed_copy(folder: Path, name: str) -> None:
    """Copy aiohttp into the folder, with another name for this attribute. Compiled parts are left out."""
    for path, text in SOURCES.items():
        target = folder / "aiohttp" / path.relative_to(AIOHTTP)
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(re.sub(rf"\b{name}\b", f"{name}_renamed", text), encoding="utf-8")


@pytest.fixture
def check_run(tmp_path: Path) -> Iterator[Callable[[Path], str]]:
    """Runs the program with the modules of a folder before all others. Returns what it has written to stderr."""
    (tmp_path / "run").mkdir()
    shell = Shell(tmp_path / "run")
    server = Server(replace(INSTANT, canned=False, speed_tps=2000.0))
    shell.environ |= {"OPENAI_BASE_URL": server.base_url, "OPENAI_API_KEY": KEY}

    def run(folder: Path) -> str:
        shell.write("jobs.jsonl", *chat_jobs(JOBS))
        result = shell("jobs.jsonl", "--out", "r.jsonl", PYTHONPATH=f"{folder}:{ROOT}")
        assert result.code == 0, result.err
        assert len(server.requests) == JOBS, result.err
        assert sorted(row["custom_id"] for row in shell.rows("r.jsonl")) == sorted(job["id"] for job in chat_jobs(JOBS))
        assert all(row["attempts"] == 1 for row in shell.rows("r.jsonl"))
        return result.err

    yield run
    server.close()
    shell.close()


def test_unchanged_aiohttp_has_fast_connections(check_run: Callable[[Path], str], tmp_path: Path) -> None:
    write_renamed_copy(tmp_path, "no_such_name")
    assert "fast connections" not in check_run(tmp_path)


@pytest.mark.parametrize("name", private_attributes())
def test_renamed_attribute_costs_no_request(name: str, check_run: Callable[[Path], str], tmp_path: Path) -> None:
    write_renamed_copy(tmp_path, name)
    err = check_run(tmp_path)
    assert "fast connections" in err or name == "_raw_headers"


@pytest.mark.parametrize("change", ["raises", "returns_another_type"])
@pytest.mark.parametrize("method", methods())
def test_changed_method_costs_no_request(
    method: str, change: str, check_run: Callable[[Path], str], tmp_path: Path
) -> None:
    text = f"{CHANGED_METHOD}\nchange({method!r}, {change})\n"
    (tmp_path / "sitecustomize.py").write_text(text, encoding="utf-8")
    check_run(tmp_path)
