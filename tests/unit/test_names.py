"""One name, one meaning: checks the names and sizes of the package's modules. Sources are parsed, never imported."""

from __future__ import annotations

import ast
import re
from collections import Counter, defaultdict
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PACKAGE = ROOT / "processor"

MAX_LINES = 300

REPLACED_NAMES = frozenset(
    [
        "Access",
        "Again",
        "Bell",
        "Books",
        "BoundBy",
        "Care",
        "Charge",
        "Clearance",
        "Closing",
        "Demand",
        "Disk",
        "Doubt",
        "Doubted",
        "Draft",
        "Drawn",
        "Echoing",
        "Exchange",
        "Expectation",
        "Fading",
        "Findings",
        "Fold",
        "Forgiving",
        "FrontGate",
        "Guess",
        "Helper",
        "Intake",
        "Intents",
        "Journal",
        "Kinds",
        "Lane",
        "Ledger",
        "Lesson",
        "Listen",
        "Logbook",
        "MemoryDisk",
        "Meter",
        "NoJob",
        "Offload",
        "Opening",
        "Others",
        "Outages",
        "PassOver",
        "Passed",
        "Passing",
        "Patience",
        "Pauses",
        "Phases",
        "Picture",
        "Pieces",
        "Platter",
        "ProviderState",
        "RankFile",
        "RealDisk",
        "RealFile",
        "Reading",
        "Referee",
        "Refused",
        "Rejected",
        "Reuse",
        "Rhythm",
        "Rooms",
        "Said",
        "Saying",
        "Scout",
        "ScrapIntake",
        "Settling",
        "Shortcut",
        "Signal",
        "Skimmed",
        "Slots",
        "Standing",
        "Stay",
        "StreamIntake",
        "Stuck",
        "Subject",
        "Syncer",
        "Taker",
        "Tally",
        "Tell",
        "Terms",
        "Trouble",
        "Trust",
        "Turn",
        "Upkeep",
        "WholeIntake",
        "absence",
        "beside",
        "complain",
        "fold",
        "heed_signals",
        "in_band",
        "in_doubt",
        "is_despair",
        "keep_aside",
        "lane_key",
        "most_in_flight",
        "nth",
        "open_fold",
        "pass_over",
        "refusal_of",
        "saying",
        "saying_of",
        "scrap",
        "skim",
        "take_text",
    ]
)
"""Names of an earlier vocabulary, for which standard ones stand now: see the glossary in ``CONTRIBUTING.md``."""


def sources(folder: Path) -> list[Path]:
    return sorted(folder.rglob("*.py"))


def definitions(path: Path, wanted: str) -> Iterator[tuple[str, ast.stmt]]:
    """The names of all classes, functions and type aliases of a file, at any depth.

    A file in which nothing matches the pattern ``wanted`` is not parsed.
    """
    source = path.read_text(encoding="utf-8")
    if not re.search(wanted, source):
        return
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            yield node.name, node
        elif isinstance(node, ast.Assign):
            yield from ((target.id, node) for target in node.targets if isinstance(target, ast.Name))


def relative(path: Path) -> str:
    return str(path.relative_to(ROOT))


def test_no_class_name_is_defined_twice() -> None:
    """Only the files that may hold a name which stands in two places are parsed."""
    texts = (path.read_text(encoding="utf-8") for path in sources(PACKAGE))
    found = Counter(name for text in texts for name in re.findall(r"\bclass\s+([^\W_]\w*)", text))
    assert len(found) > 500
    repeated = "|".join(name for name, count in found.items() if count > 1)
    homes: dict[str, list[str]] = defaultdict(list)
    for path in sources(PACKAGE):
        for name, node in definitions(path, rf"\bclass\s+(?:{repeated})\b"):
            if isinstance(node, ast.ClassDef) and not name.startswith("_"):
                homes[name].append(relative(path))
    assert {name: files for name, files in homes.items() if len(files) > 1} == {}


@pytest.mark.parametrize("folder", ["processor", "tests"])
def test_no_name_of_the_earlier_vocabulary_is_defined(folder: str) -> None:
    names = "|".join(REPLACED_NAMES)
    a_definition = rf"\b(?:class|def)\s+(?:{names})\b|\b(?:{names})\s*="
    found = [
        f"{relative(path)}: {name}"
        for path in sources(ROOT / folder)
        for name, _ in definitions(path, a_definition)
        if name in REPLACED_NAMES
    ]
    assert found == []


def test_modules_have_at_most_300_lines() -> None:
    lines = {relative(path): len(path.read_text(encoding="utf-8").splitlines()) for path in sources(PACKAGE)}
    assert {path: count for path, count in lines.items() if count > MAX_LINES} == {}
