"""The recipes of docs/tables.md, run in their order with a run and an export between them."""

from __future__ import annotations

import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.cli_world import ROOT, Shell
from tests.support.packages import package
from tests.support.report_rows import reply_row, write_rows

pytestmark = [pytest.mark.slow, pytest.mark.process, pytest.mark.filterwarnings("ignore")]


def blocks(heading: str, language: str) -> list[str]:
    text = (ROOT / "docs/tables.md").read_text(encoding="utf-8")
    section = text.partition(f"\n## {heading}\n")[2].partition("\n## ")[0]
    return re.findall(rf"```{language}\n(.*?)```", section, re.DOTALL)


@pytest.fixture
def shell(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Shell]:
    monkeypatch.chdir(tmp_path)
    shell = Shell(tmp_path)
    yield shell
    shell.close()


@pytest.mark.parametrize(("heading", "needed"), [("pandas", "pandas"), ("polars", "polars"), ("DuckDB", "duckdb")])
def test_recipe_makes_jobs_and_reads_replies(
    shell: Shell, capfd: pytest.CaptureFixture[str], heading: str, needed: str
) -> None:
    package(needed)
    package("pyarrow")
    make_jobs, read_replies = blocks(heading, "python")
    exec(make_jobs, {})
    assert shell("jobs.jsonl", "--out", "results.jsonl", "--simulate").code == 0
    assert len(shell.rows("results.jsonl")) == 2
    assert shell("export", "results.jsonl", "--out", "results.parquet").code == 0
    exec(read_replies, {})
    printed = capfd.readouterr().out
    assert all(row["custom_id"] in printed for row in shell.rows("results.jsonl"))


@pytest.mark.skipif(shutil.which("jq") is None, reason="jq is not installed")
def test_recipes_for_jq(shell: Shell) -> None:
    shell.write("records.jsonl", {"key": "k", "text": "Hi"})
    write_rows(shell.folder / "results.jsonl", [reply_row(1)])
    (commands,) = blocks("jq", "shell")
    subprocess.run(["sh", "-ec", commands], cwd=shell.folder, check=True)
    assert shell.rows("jobs.jsonl") == [
        {"id": "k", "model": "gpt-4o-mini", "prompt": "Hi", "metadata": {"key": "k", "text": "Hi"}}
    ]
    assert (shell.folder / "replies.tsv").read_text() == "job-1\treply 1\n"
