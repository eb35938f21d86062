"""Imports point downward, and each heavy library has one room. Read from the sources with ``ast``, never imported."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PACKAGE = ROOT / "processor"

CORE = frozenset({"core"})
"""Every folder may import it; it imports no other."""

MAY_IMPORT = {
    "core": frozenset(),
    "input": CORE | {"protocols"},
    "ratelimit": CORE,
    "retry": CORE,
    "protocols": CORE,
    "tokens": CORE | {"protocols"},
    "output": CORE,
    "stats": CORE,
    "terminal": CORE | {"stats"},
    "listeners": CORE,
    "http": CORE | {"protocols"},
    "config": CORE | {"protocols", "ratelimit"},
    "health": CORE | {"retry", "scheduler"},
    "simulator": CORE | {"protocols", "output"},
    "scheduler": CORE | {"input", "ratelimit", "retry", "health", "tokens", "output"},
    "app": CORE
    | {"config", "http", "input", "listeners", "output", "protocols", "ratelimit", "retry", "scheduler", "simulator"}
    | {"stats", "terminal", "tokens"},
}
"""What a folder may import beside itself. ``cli`` and the package itself are above all of these."""

ONLY_IN = {
    "aiohttp": {"http", "simulator"},
    "tenacity": {"retry"},
    "aiolimiter": {"ratelimit"},
    "tiktoken": {"tokens"},
    "typer": {"cli"},
    "rich": {"terminal"},
    "dotenv": {"config"},
    "uvloop": {"app"},
}

HEAVY = ("aiohttp", "tiktoken", "tenacity", "aiolimiter", "rich", "uvloop", "orjson")


def modules() -> list[Path]:
    return sorted(PACKAGE.rglob("*.py"))


def name_of(path: Path) -> str:
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def room_of(module: str) -> str:
    """``processor.protocols.sse`` → ``wire``; the package itself is ``processor``."""
    parts = module.split(".")
    return parts[1] if len(parts) > 1 else parts[0]


@cache
def imports(path: Path) -> frozenset[str]:
    """The full names of all modules that a file imports, wherever in it, for types or for use."""
    return frozenset(_imports(path))


def _imports(path: Path) -> Iterator[str]:
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: imports name their module in full"
            module = node.module or ""
            yield from (f"{module}.{alias.name}" if module == "processor" else module for alias in node.names)


def own_imports(path: Path) -> set[str]:
    """The rooms that a file imports, without its own."""
    rooms = {room_of(name) for name in imports(path) if name.split(".")[0] == "processor"}
    return rooms - {room_of(name_of(path))}


def ids(path: Path) -> str:
    return name_of(path)


@pytest.mark.parametrize("path", [p for p in modules() if room_of(name_of(p)) in MAY_IMPORT], ids=ids)
def test_a_room_knows_only_what_lies_below_it(path: Path) -> None:
    assert own_imports(path) <= MAY_IMPORT[room_of(name_of(path))]


@pytest.mark.parametrize("path", modules(), ids=ids)
def test_nobody_imports_the_command_line(path: Path) -> None:
    if name_of(path) not in ("processor.__main__", "processor.cli.main"):
        assert not own_imports(path) & {"cli", "flags", "helping"}


@pytest.mark.parametrize("path", modules(), ids=ids)
def test_only_a_session_knows_the_pipeline(path: Path) -> None:
    if room_of(name_of(path)) not in ("session", "processor"):
        assert "pipeline" not in own_imports(path)


@pytest.mark.parametrize("library", ONLY_IN)
def test_a_library_is_imported_by_its_own_room_alone(library: str) -> None:
    users = {room_of(name_of(path)) for path in modules() for name in imports(path) if name.split(".")[0] == library}
    assert users
    assert users <= ONLY_IN[library]


def test_rooms_do_not_know_each_other_in_circles() -> None:
    knows: dict[str, set[str]] = {}
    for path in modules():
        knows.setdefault(room_of(name_of(path)), set()).update(own_imports(path))
    while free := [room for room, known in knows.items() if not known & knows.keys()]:
        for room in free:
            del knows[room]
    assert not knows


@pytest.mark.parametrize("module", ["processor", "processor.cli.main"])
def test_what_every_start_pays_for_is_light(module: str) -> None:
    check = f"import sys, {module}; print(*(name for name in {HEAVY!r} if name in sys.modules))"
    found = subprocess.run([sys.executable, "-c", check], cwd=ROOT, capture_output=True, text=True, check=True)
    assert found.stdout.split() == []
