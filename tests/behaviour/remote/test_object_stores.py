"""Runs over job files in an object store: moto's S3 server.

Runs where it is installed (the extra ``objects``).
"""

from __future__ import annotations

import gzip
import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.cli_world import Shell, chat_job
from tests.support.object_stores import ObjectStore, moto_server

pytestmark = [pytest.mark.slow, pytest.mark.process, pytest.mark.filterwarnings("ignore")]


@pytest.fixture(scope="module")
def server() -> Iterator[ObjectStore]:
    with moto_server() as server:
        yield server


@pytest.fixture
def shell(tmp_path: Path, server: ObjectStore) -> Iterator[Shell]:
    shell = Shell(tmp_path)
    shell.environ |= server.environ | {"PYTHONWARNINGS": "ignore"}
    yield shell
    shell.close()


def test_run_over_files_in_s3_is_gone_on_with(shell: Shell, server: ObjectStore) -> None:
    store = server.file_system()
    lines = [json.dumps(chat_job(f"job-{at}")) for at in range(20)]
    store.pipe("bucket/a.jsonl", "\n".join(lines[:10]).encode())
    store.pipe("bucket/b.jsonl.gz", gzip.compress("\n".join(lines[10:]).encode()))
    files = ("s3://bucket/a.jsonl", "s3://bucket/b.jsonl.gz")
    first = shell(*files, "--out", "r.jsonl", "--simulate", "--limit", "12")
    assert first.code == 0, first.err
    second = shell(*files, "--out", "r.jsonl", "--simulate")
    assert second.code == 0
    rows = shell.rows("r.jsonl")
    assert sorted((row["file"], row["line"]) for row in rows) == [
        (file, line) for file in files for line in range(1, 11)
    ]
    assert second.row("attempts") == "8"
    assert shell("export", "r.jsonl", "--out", "s3://bucket/o.csv", "--input", files[0], "--input", files[1]).code == 0
    assert store.cat("bucket/o.csv").count(b"\n") >= 21
    missing = shell("s3://bucket/none.jsonl", "--simulate")
    assert (missing.code, missing.error) == (2, "cannot read s3://bucket/none.jsonl: there is no such file")
