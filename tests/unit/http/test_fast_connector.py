"""What depends on private parts of aiohttp stands in two files."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

import processor.http
from processor.http.request_payload import RequestPayload

FOLDER = Path(processor.http.__path__[0])
PRIVATE_PARTS_ALLOWED = ("fast_connection.py", "fast_connector.py")
OTHER_FILES = sorted(path for path in FOLDER.glob("*.py") if path.name not in PRIVATE_PARTS_ALLOWED)


def private_accesses(tree: ast.AST) -> Iterator[str]:
    """Attributes with a leading underscore, of anything but ``self`` and ``cls``."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute) and node.attr.startswith("_") and not node.attr.startswith("__"):
            owner = node.value
            if not (isinstance(owner, ast.Name) and owner.id in ("self", "cls")):
                yield f"line {node.lineno}: {ast.unparse(node)}"


def aiohttp_submodules(tree: ast.AST) -> Iterator[str]:
    """Imports below aiohttp's public face, of which ``aiohttp.abc`` is a part."""
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom):
            names = [node.module or ""]
        elif isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        else:
            continue
        yield from (
            f"line {node.lineno}: {name}" for name in names if name.startswith("aiohttp.") and name != "aiohttp.abc"
        )


@pytest.mark.parametrize("path", OTHER_FILES, ids=lambda path: path.name)
def test_file_uses_no_private_part_of_aiohttp(path: Path) -> None:
    tree = ast.parse(path.read_text(encoding="utf-8"))
    assert list(private_accesses(tree)) == []
    assert list(aiohttp_submodules(tree)) == []


def test_private_parts_are_found_where_they_are_allowed() -> None:
    trees = [ast.parse((FOLDER / name).read_text(encoding="utf-8")) for name in PRIVATE_PARTS_ALLOWED]
    assert [access for tree in trees for access in private_accesses(tree)]
    assert all(list(aiohttp_submodules(tree)) for tree in trees)


def test_request_payload_can_be_read_as_text() -> None:
    assert RequestPayload(b'{"a": 1}', lambda _: None).decode() == '{"a": 1}'
