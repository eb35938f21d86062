"""The table of tuning constants in docs/rate-limiting.md lists all of them, with the values in the code."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]
PAGE = (ROOT / "docs" / "rate-limiting.md").read_text(encoding="utf-8")
MAX_CONSTANTS = 45

DEFINITIONS = {"WINDOW_S", "RESET_STEP_S", "PER_SECOND_BUCKET_S", "UNLIMITED", "_MAX_DIGITS"}
DERIVED = {
    *("_KEPT_S", "ISOLATION_S", "RATIO_BURST_REQUESTS", "DECREASE_FACTOR", "SLOWER_SHARE"),
    *("MIN_WINDOW_REPLIES", "FOLLOWING_GAIN", "MIN_DELIVERED", "MAX_FIXED_PART"),
}
"""They are expressions over other constants, or derived in the page."""

ROW = re.compile(r"^\| `(\w+)` \| [^|]+ \| ([^|]+) \| [^|]+ \| ([^|]+) \|$", re.MULTILINE)
DOCUMENTED = {name: (value, evidence) for name, value, evidence in ROW.findall(PAGE)}


def assignments(tree: ast.Module) -> Iterator[tuple[str, ast.expr]]:
    """At module and class level."""
    for body in (tree.body, *(node.body for node in tree.body if isinstance(node, ast.ClassDef))):
        for node in body:
            if isinstance(node, ast.Assign):
                for target in node.targets:
                    for name in ast.walk(target):
                        if isinstance(name, ast.Name):
                            yield name.id, node.value
            elif isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name) and node.value is not None:
                yield node.target.id, node.value


def is_number(node: ast.AST) -> bool:
    return isinstance(node, ast.Constant) and isinstance(node.value, int | float) and not isinstance(node.value, bool)


def tuning_constants() -> dict[str, str]:
    """Names in capitals whose value contains a number, and the value as written."""
    found: dict[str, str] = {}
    for path in sorted((ROOT / "processor" / "ratelimit").rglob("*.py")):
        for name, value in assignments(ast.parse(path.read_text(encoding="utf-8"))):
            if name.isupper() and any(map(is_number, ast.walk(value))) and name not in DEFINITIONS | DERIVED:
                assert name not in found, f"{name} stands in two files"
                found[name] = ast.unparse(value)
    return found


CONSTANTS = tuning_constants()


def test_there_are_few_tuning_constants() -> None:
    assert len(CONSTANTS) <= MAX_CONSTANTS


def test_every_tuning_constant_is_documented_and_no_other() -> None:
    assert set(DOCUMENTED) == set(CONSTANTS)


@pytest.mark.parametrize("name", sorted(CONSTANTS))
def test_documented_value_is_the_one_in_the_code(name: str) -> None:
    assert DOCUMENTED[name][0] == CONSTANTS[name]


def test_tests_named_in_the_table_exist() -> None:
    named = set(re.findall(r"`(test_\w+)`", " ".join(evidence for _, evidence in DOCUMENTED.values())))
    sources = "".join(path.read_text(encoding="utf-8") for path in (ROOT / "tests").rglob("test_*.py"))
    assert named
    assert [name for name in sorted(named) if f"def {name}(" not in sources] == []
