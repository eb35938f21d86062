"""Tables as job files, by a template."""

from __future__ import annotations

import csv
import gzip
import json
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from processor.core.errors import ConfigError
from processor.input import tables
from processor.input.job_file import InvalidLine, JobFile
from processor.input.job_formats import JobDefaults, ParsedJob
from processor.input.template import Template
from tests.support.cli_world import zstd_compress
from tests.support.packages import package

JOB = {"model": "m", "prompt": "{text}"}


def template(folder: Path, job: Any) -> Template:
    path = folder / "template.json"
    path.write_text(json.dumps(job))
    return Template(str(path))


def filled(folder: Path, job: Any, **row: Any) -> Any:
    return json.loads(template(folder, job).line(row))


def read(path: Path, job: Any = JOB) -> list[ParsedJob | InvalidLine]:
    made_by = template(path.parent, job)
    with closing(JobFile(str(path), JobDefaults(), template=made_by)) as file:
        found = list(file.parse_lines())
        assert file.count_lines() == len(found)
        assert list(file.parse_lines()) == found, "it can be read again"
    return found


def prompts(items: list[ParsedJob | InvalidLine]) -> list[str]:
    return [item.body["messages"][0]["content"] for item in items if isinstance(item, ParsedJob)]


def write(path: Path, text: str | bytes) -> Path:
    path.write_bytes(text.encode() if isinstance(text, str) else text)
    return path


# ---------------------------------------------------------------- templates


def test_names_in_braces_are_replaced_and_other_braces_stay(tmp_path: Path) -> None:
    job = {"prompt": '{a}-{b c}: {{a}}, {"x": {1}}, {}, {{ {a}'}
    assert filled(tmp_path, job, a="{a}", **{"b c": "é"}) == {"prompt": '{a}-é: {a}, {"x": {1}}, {}, {{ {a}'}


def test_whole_string_takes_the_value_itself_but_for_texts(tmp_path: Path) -> None:
    job = {
        "prompt": "{n}",
        "max_tokens": "{n}",
        "messages": [{"content": "{n}"}],
        "stop": ["{n}", "{n}."],
        "x": {"y": "{l}"},
    }
    assert filled(tmp_path, job, n=5, l=[1, None]) == {
        "prompt": "5",
        "max_tokens": 5,
        "messages": [{"content": "5"}],
        "stop": [5, "5."],
        "x": {"y": [1, None]},
    }


def test_columns_id_and_metadata_are_kept_unless_the_template_sets_them(tmp_path: Path) -> None:
    row = {"id": "r1", "custom_id": "c1", "metadata": '{"a": 1}', "text": "x", "other": "y"}
    assert filled(tmp_path, JOB, **row) == {"id": "r1", "model": "m", "prompt": "x", "metadata": {"a": 1}}
    assert filled(tmp_path, JOB, text="x", custom_id="c1", metadata="plain")["metadata"] == "plain"
    own = {"id": "row-{id}", "prompt": "x", "metadata": {"of": "{other}"}}
    assert filled(tmp_path, own, **row) == {"id": "row-r1", "prompt": "x", "metadata": {"of": "y"}}
    assert filled(tmp_path, JOB, id="", text=None, metadata="") == {"model": "m", "prompt": ""}


@pytest.mark.parametrize(
    ("job", "error"),
    [
        ({"prompt": "{txet}"}, "names the column 'txet', and .* has id, text; write {{txet}} for"),
        ([1], r"must be one JSON object, such as \{\"prompt\": \"\{text\}\"\}"),
    ],
)
def test_mistake_in_a_template_is_an_error_before_anything_is_sent(tmp_path: Path, job: Any, error: str) -> None:
    with pytest.raises(ConfigError, match=error):
        read(write(tmp_path / "t.csv", "id,text\n1,x\n"), job)


def test_table_without_a_template_says_what_to_give(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"t.csv is a table: give --template FILE"):
        JobFile(str(write(tmp_path / "t.csv", "id,text\n1,x\n")), JobDefaults())


# ---------------------------------------------------------------- CSV


@given(
    st.lists(
        st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=30), min_size=1, max_size=20
    )
)
def test_csv_gives_the_values_that_were_written(tmp_path_factory: pytest.TempPathFactory, texts: list[str]) -> None:
    folder = tmp_path_factory.mktemp("table")
    with open(folder / "t.csv", "w", encoding="utf-8-sig", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["id", "text"])
        writer.writerows(enumerate(texts))
    found = read(folder / "t.csv", {"model": "m", "prompt": "-{text}"})
    assert prompts(found) == [f"-{text}" for text in texts]
    assert [item.line for item in found] == list(range(1, len(texts) + 1))


@pytest.mark.parametrize("name", ["t.csv.gz", "t.tsv", "t.csv.zst", "T.CSV"])
def test_table_may_be_compressed_or_separated_otherwise(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    monkeypatch.setattr(tables, "CHUNK_BYTES", 7)
    text = 'id;text\n1;"a,\r\nb"\n\n2;c'
    data = (text.replace(";", "\t") if name == "t.tsv" else text).encode()
    compress = {"t.csv.gz": gzip.compress, "t.csv.zst": zstd_compress}.get(name, bytes)
    found = read(write(tmp_path / name, compress(data)))
    assert prompts(found) == ["a,\r\nb", "c"]
    assert [item.custom_id for item in found if isinstance(item, ParsedJob)] == ["1", "2"]


def test_row_with_too_many_values_is_a_failed_row(tmp_path: Path) -> None:
    found = read(write(tmp_path / "t.csv", "id,text,n\n1,a,2,3\n2,b\n"))
    assert [type(item) for item in found] == [InvalidLine, ParsedJob]
    assert [item.message for item in found if isinstance(item, InvalidLine)] == [tables.TOO_MANY_VALUES]
    assert prompts(found) == ["b"], "values that are missing are empty"


@pytest.mark.parametrize(
    ("data", "error"),
    [
        (b'id,text\n1,"open\n2,x\n', "row 2 is no CSV: a quote in it is never closed"),
        (b"id,text\n1,\xe9\n", "it is not UTF-8"),
        (b"id,text\n1," + b"x" * 2000, "row 1 is no CSV: field larger than field limit"),
        (b"id,text,id\n1,a,b\n", "has two columns named 'id'"),
    ],
)
def test_damaged_table_is_an_error(tmp_path: Path, data: bytes, error: str) -> None:
    path = write(tmp_path / "t.csv", data)
    made_by = template(tmp_path, JOB)
    with (
        pytest.raises(ConfigError, match=error),
        closing(JobFile(str(path), JobDefaults(), max_line_bytes=1000, template=made_by)) as file,
    ):
        list(file.parse_lines())


# ---------------------------------------------------------------- Parquet


def test_parquet_keeps_types(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pyarrow = package("pyarrow")
    from pyarrow import parquet

    monkeypatch.setattr(tables, "BATCH_ROWS", 2)
    columns = {
        "id": [1, 2, 3],
        "text": ["a", None, "c"],
        "n": [5, 6, 7],
        "score": [0.5, float("nan"), None],
        "metadata": [{"k": "x"}, None, {"k": "z"}],
        "unused": ["u"] * 3,
    }
    parquet.write_table(pyarrow.table(columns), tmp_path / "t.parquet")
    job = {"model": "m", "prompt": "-{text}{score}", "max_tokens": "{n}"}
    found = read(tmp_path / "t.parquet", job)
    assert prompts(found) == ["-a0.5", "-", "-c"]
    jobs = [item for item in found if isinstance(item, ParsedJob)]
    assert [job.body["max_tokens"] for job in jobs] == [5, 6, 7]
    assert [(job.custom_id, job.metadata) for job in jobs] == [("1", {"k": "x"}), ("2", None), ("3", {"k": "z"})]


def test_parquet_that_was_cut_is_an_error(tmp_path: Path) -> None:
    pyarrow = package("pyarrow")
    from pyarrow import parquet

    path = tmp_path / "t.parquet"
    parquet.write_table(pyarrow.table({"text": ["x"]}), path)
    write(path, path.read_bytes()[:-10])
    with pytest.raises(ConfigError, match=r"cannot read .*t.parquet: "):
        read(path)
