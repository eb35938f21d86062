"""Exported files are read by the programs that they are for: pandas, polars, DuckDB and the official SDK.

Runs where these are installed (the extras ``tables`` and ``sdk``).
"""

from __future__ import annotations

import json
from datetime import UTC, datetime
from pathlib import Path

import pytest

from processor.export.export import ExportOptions, export
from processor.export.formats import parquet as parquet_format
from processor.export.formats.base import Contents
from tests.support.packages import package
from tests.support.report_rows import failed_row, reply_row, write_rows

pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("ignore")]

COUNT = 250
TEXT = 'line "one",\nline\ttwo, ünïcode \U0001f600'


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The export of some rows in each format."""
    folder = tmp_path_factory.mktemp("exports")
    rows = [reply_row(at, metadata={"row": at}) for at in range(1, COUNT + 1)]
    rows[0]["response"]["body"]["choices"][0]["message"]["content"] = TEXT
    rows[0]["cost_usd"] = None
    results = write_rows(folder / "r.jsonl", rows)
    write_rows(folder / "r.errors.jsonl", [failed_row(COUNT + 1)])
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(parquet_format, "MAX_GROUP_ROWS", 100)
        for name in ("o.csv", "o.csv.gz", "o.parquet", "o.jsonl"):
            options = ExportOptions(results=results, out=str(folder / name), contents=Contents(with_failed=True))
            assert export(options).rows == COUNT + 1
    batch = ExportOptions(results=results, out=str(folder / "batch.jsonl"), format="openai-batch")
    export(batch)
    return folder


def test_pandas_reads_tables(folder: Path) -> None:
    pandas = package("pandas")
    package("pyarrow")
    for frame in (
        pandas.read_csv(folder / "o.csv"),
        pandas.read_csv(folder / "o.csv.gz"),
        pandas.read_parquet(folder / "o.parquet"),
    ):
        assert len(frame) == COUNT + 1
        assert frame.text[0] == TEXT
        assert frame.completion_tokens[:COUNT].sum() == COUNT * (COUNT + 1) // 2
        assert pandas.isna(frame.cost_usd[0])
        assert frame.error_code[COUNT] == "rejected"
        assert json.loads(frame.metadata[6]) == {"row": 7}
    assert frame.started_at[0] == pandas.Timestamp("2026-01-01T00:00:01Z")
    assert len(pandas.read_json(folder / "o.jsonl", lines=True)) == COUNT + 1


def test_polars_reads_tables(folder: Path) -> None:
    polars = package("polars")
    package("pyarrow")
    for frame in (
        polars.read_csv(folder / "o.csv", infer_schema_length=None),
        polars.read_parquet(folder / "o.parquet"),
    ):
        assert frame.height == COUNT + 1
        assert frame["text"][0] == TEXT
        assert frame["completion_tokens"][:COUNT].sum() == COUNT * (COUNT + 1) // 2
        assert frame["cost_usd"][0] is None
    assert frame["started_at"][0] == datetime(2026, 1, 1, 0, 0, 1, tzinfo=UTC)
    assert polars.read_ndjson(folder / "o.jsonl", infer_schema_length=None).height == COUNT + 1


def test_duckdb_reads_tables(folder: Path) -> None:
    duckdb = package("duckdb")
    package("pyarrow")
    for name in ("o.csv", "o.csv.gz", "o.parquet"):
        texts = "max(text) filter (custom_id = 'job-1')"
        query = f"select count(*), sum(completion_tokens), {texts} from '{folder / name}'"
        ((rows, tokens, text),) = duckdb.sql(query).fetchall()
        assert (rows, text) == (COUNT + 1, TEXT)
        assert tokens == COUNT * (COUNT + 1) // 2
    ((rows,),) = duckdb.sql(f"select count(*) from '{folder / 'o.jsonl'}'").fetchall()
    assert rows == COUNT + 1


def test_official_sdk_reads_batch_lines(folder: Path) -> None:
    openai = package("openai")
    for line in (folder / "batch.jsonl").read_text().splitlines():
        row = json.loads(line)
        assert list(row) == ["id", "custom_id", "response", "error"]
        body = {"id": "chatcmpl-1", "created": 1, **row["response"]["body"]}
        body["choices"][0]["message"].setdefault("refusal", None)
        reply = openai.types.chat.ChatCompletion.model_validate(body)
        assert reply.choices[0].message.content
        assert reply.usage.prompt_tokens == 10
