"""The layering of the folders: imports point downward only. Read from the sources with ``ast``, without importing them.

The table ``MAY_IMPORT`` is the layering. A folder that is not allowed to import another one is independent of it, so
that both can be read, tested and changed alone. Only ``app`` knows all folders: it builds the objects of a run from the
settings and hands them to each other.
"""

from __future__ import annotations

import ast
import os
import subprocess
import sys
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).parents[2]
PACKAGE = REPOSITORY / "processor"

ALL = "all"
"""Every folder below."""

MAY_IMPORT: dict[str, frozenset[str] | str] = {
    "cli": frozenset(
        {
            "app",
            "config",
            "estimate",
            "export",
            "output",
            "publishing",
            "remote",
            "protocols",
            "report",
            "simulator",
            "terminal",
        }
    ),
    "ray": frozenset({"session", "shared_limits", "cluster", "config", "protocols"}),
    "session": frozenset(
        {
            "app",
            "config",
            "cost",
            "endpoints",
            "input",
            "listeners",
            "output",
            "protocols",
            "scheduler",
            "shared_limits",
            "tokens",
        }
    ),
    "app": ALL,
    "estimate": frozenset(
        {"scheduler", "report", "terminal", "input", "output", "protocols", "tokens", "stats", "ratelimit", "cost"}
    ),
    "export": frozenset({"input", "output", "protocols", "remote"}),
    "batch": frozenset({"scheduler", "terminal", "ratelimit", "cost", "input", "output", "protocols", "tokens"}),
    "scheduler": frozenset(
        {"cost", "endpoints", "input", "output", "protocols", "tokens", "ratelimit", "health", "retry", "validation"}
    ),
    "shared_limits": frozenset({"cluster", "endpoints", "ratelimit", "cost"}),
    "endpoints": frozenset({"cost", "ratelimit", "health", "retry"}),
    "cluster": frozenset({"http"}),
    "http": frozenset({"protocols"}),
    "local_model": frozenset(),
    "simulator": frozenset({"output", "protocols"}),
    "report": frozenset({"output", "protocols", "stats", "terminal"}),
    "terminal": frozenset({"protocols", "stats"}),
    "listeners": frozenset({"stats"}),
    "config": frozenset({"protocols", "ratelimit"}),
    "input": frozenset({"protocols", "remote"}),
    "publishing": frozenset({"output", "remote"}),
    "output": frozenset(),
    "protocols": frozenset({"tokens"}),
    "tokens": frozenset(),
    "stats": frozenset(),
    "ratelimit": frozenset({"health"}),
    "health": frozenset({"retry"}),
    "retry": frozenset(),
    "cost": frozenset(),
    "validation": frozenset(),
    "remote": frozenset(),
    "core": frozenset(),
}
"""The folders of the package from top to bottom, and which others each may import. Every folder may import ``core``.

Above all of them stands the package itself, ``__init__.py`` and ``__main__.py``.
"""

THIRD_PARTY = {
    "aiohttp": {"http", "simulator"},
    "tenacity": {"retry"},
    "aiolimiter": {"ratelimit"},
    "tiktoken": {"tokens"},
    "typer": {"cli"},
    "rich": {"terminal"},
    "dotenv": {"config"},
    "uvloop": {"core"},
    "vl_convert": {"report"},
    "genai_prices": {"cost"},
    "jsonschema_rs": {"validation"},
    "fsspec": {"remote"},
    "ray": {"cluster", "ray"},
    "pyarrow": {"export", "input"},
}
"""The folders that may import a library: each library is wrapped in one place."""

SLOW_TO_IMPORT = (
    "aiohttp",
    "tiktoken",
    "tenacity",
    "aiolimiter",
    "rich",
    "uvloop",
    "orjson",
    "genai_prices",
    "jsonschema_rs",
)

FOLDERS = list(MAY_IMPORT)


def source_files() -> list[Path]:
    return sorted(PACKAGE.rglob("*.py"))


def module_name(path: Path) -> str:
    """``processor/protocols/sse.py`` → ``processor.protocols.sse``."""
    parts = path.relative_to(REPOSITORY).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def folder_of(module: str) -> str:
    """``processor.protocols.sse`` → ``protocols``; for the package itself ``processor``."""
    parts = module.split(".")
    return parts[1] if len(parts) > 1 and parts[1] != "__main__" else parts[0]


def folder_of_file(path: Path) -> str:
    return folder_of(module_name(path))


@cache
def imported_modules(path: Path) -> frozenset[str]:
    """The full names of all modules that a file imports: at its top, inside functions, or for type checking."""
    return frozenset(_imported_modules(path))


def _imported_modules(path: Path) -> Iterator[str]:
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: imports must be absolute"
            module = node.module or ""
            yield from (f"{module}.{alias.name}" if module == "processor" else module for alias in node.names)


def imported_folders(path: Path) -> set[str]:
    """The other folders of the package that a file imports."""
    modules = (name for name in imported_modules(path) if name.split(".")[0] == "processor")
    return {folder_of(name) for name in modules} - {folder_of_file(path)}


def folders_below(folder: str) -> set[str]:
    return set(FOLDERS[FOLDERS.index(folder) + 1 :])


def allowed_imports(folder: str) -> set[str]:
    allowed = MAY_IMPORT[folder]
    return folders_below(folder) if isinstance(allowed, str) else {*allowed, "core"}


def test_layering_names_exactly_the_folders_of_the_package() -> None:
    assert {folder_of_file(path) for path in source_files()} == {*FOLDERS, "processor"}


def test_layering_allows_imports_downward_only() -> None:
    upward = {folder: allowed_imports(folder) - folders_below(folder) for folder in FOLDERS if folder != "core"}
    assert {folder: names for folder, names in upward.items() if names} == {}


def test_files_import_only_folders_that_the_layering_allows() -> None:
    files = [path for path in source_files() if folder_of_file(path) != "processor"]
    forbidden = {
        module_name(path): imported_folders(path) - {"core"} - allowed_imports(folder_of_file(path)) for path in files
    }
    assert {module: folders for module, folders in forbidden.items() if folders} == {}


@pytest.mark.parametrize("library", THIRD_PARTY)
def test_third_party_library_is_imported_only_by_the_folders_that_wrap_it(library: str) -> None:
    users = {
        folder_of_file(path)
        for path in source_files()
        for name in imported_modules(path)
        if name.split(".")[0] == library
    }
    assert users
    assert users <= THIRD_PARTY[library]


@pytest.mark.parametrize("module", ["processor", "processor.cli.main"])
@pytest.mark.process
def test_start_of_every_command_imports_no_slow_library(module: str) -> None:
    check = f"import sys, {module}; print(*(name for name in {SLOW_TO_IMPORT!r} if name in sys.modules))"
    found = subprocess.run([sys.executable, "-c", check], cwd=REPOSITORY, capture_output=True, text=True, check=True)
    assert found.stdout.split() == []


_PRINT_MODULES_AT_FIRST_CONNECTION = """
import gc, os, sys
def on_event(name, arguments):
    if name == "socket.connect":
        print("collecting" if gc.isenabled() and gc.get_freeze_count() else "paused", *sys.modules, flush=True)
        os._exit(0)
sys.addaudithook(on_event)
from processor.__main__ import main
main()
"""


@pytest.mark.process
def test_first_request_waits_for_no_import_that_it_does_not_need(tmp_path: Path) -> None:
    (tmp_path / "jobs.jsonl").write_text('{"prompt": "Hi", "model": "gpt-4o-mini"}\n')
    command = [
        sys.executable,
        "-c",
        _PRINT_MODULES_AT_FIRST_CONNECTION,
        "jobs.jsonl",
        "--base-url",
        "http://127.0.0.1:9/v1",
    ]
    environment = {**os.environ, "PYTHONPATH": str(REPOSITORY)}
    found = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=True)
    loaded = set(found.stdout.split())
    assert {"collecting", "aiohttp"} <= loaded
    assert loaded.isdisjoint({"tenacity", "aiolimiter", "rich", "genai_prices"})
    assert loaded.isdisjoint({"decimal", "gzip", "html", "importlib.metadata", "tomllib"})
