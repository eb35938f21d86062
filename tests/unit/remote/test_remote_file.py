"""Job files that are not on this machine. fsspec's store in memory stands for an object store."""

from __future__ import annotations

import asyncio
import gzip
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from processor.core.errors import ConfigError, InputError, OutputError
from processor.core.secrets import mask_text
from processor.export.export import ExportOptions, export
from processor.export.formats.registry import FORMATS
from processor.input.job_file import InvalidLine
from processor.input.job_files import JobFiles, each_item
from processor.input.job_formats import JobDefaults, ParsedJob
from processor.input.template import Template
from processor.remote import addresses, remote_file
from processor.remote.addresses import scheme_of, shown_address
from tests.support.packages import package
from tests.support.report_rows import reply_row, write_rows

fsspec = package("fsspec")

JOBS = b"".join(b'{"id": "j%d", "model": "m", "prompt": "x"}\n' % at for at in range(3000))


@pytest.fixture
def store(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    monkeypatch.setitem(addresses.EXTRAS, "memory", "none")
    store = fsspec.filesystem("memory")
    yield store
    store.rm("/", recursive=True)


def read(*paths: str, template: Template | None = None) -> list[ParsedJob | InvalidLine]:
    async def all_of_them() -> list[ParsedJob | InvalidLine]:
        with closing(JobFiles(paths, JobDefaults(), template=template)) as files:
            assert files.count_lines() is None
            assert files.size is None
            found = [item async for item in each_item(aiter(files))]
            assert [item async for item in each_item(aiter(files))] == found, "it can be read again"
            return found

    return asyncio.run(all_of_them())


def test_remote_files_are_read_in_order_also_compressed_ones(store: Any, tmp_path: Path) -> None:
    store.pipe("/jobs.jsonl", JOBS)
    store.pipe("/jobs.gz", gzip.compress(JOBS.replace(b'"j', b'"g')))
    local = tmp_path / "local.jsonl"
    local.write_bytes(JOBS.replace(b'"j', b'"l'))
    found = read("memory://jobs.jsonl", "memory://jobs.gz", str(local))
    assert len({item.custom_id for item in found if isinstance(item, ParsedJob)}) == 9000
    assert {item.source and item.source.name for item in found} == {
        "memory://jobs.jsonl",
        "memory://jobs.gz",
        str(local),
    }


def test_remote_table_is_read_by_a_template(store: Any, tmp_path: Path) -> None:
    store.pipe("/t.csv", b"id,text\n1,a\n2,b\n")
    (tmp_path / "t.json").write_text('{"model": "m", "prompt": "{text}"}')
    assert len(read("memory://t.csv", template=Template(str(tmp_path / "t.json")))) == 2
    pyarrow = package("pyarrow")
    from pyarrow import parquet

    parquet.write_table(pyarrow.table({"text": ["a", "b", "c"]}), tmp_path / "t.parquet")
    store.put(str(tmp_path / "t.parquet"), "/t.parquet")
    assert len(read("memory://t.parquet", template=Template(str(tmp_path / "t.json")))) == 3


@pytest.mark.parametrize(
    ("path", "error"),
    [
        ("memory://none.jsonl", "cannot read memory://none.jsonl: there is no such file"),
        ("memory://array.json", "memory://array.json is one JSON array"),
        ("memory://cut.gz", "cannot read memory://cut.gz: the gzip file ends too early"),
        ("ftp://host/jobs.jsonl", "cannot read job files at ftp://: their addresses begin with s3://, "),
        ("http://host/jobs.jsonl", "cannot read job files at http://: "),
    ],
)
def test_file_that_cannot_be_read_is_an_error(store: Any, path: str, error: str) -> None:
    store.pipe("/array.json", b'[{"a": 1},\n{"a": 2}]')
    store.pipe("/cut.gz", gzip.compress(JOBS)[:50])
    with pytest.raises(ConfigError, match=error):
        JobFiles([path], JobDefaults())


def test_missing_package_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(path: str) -> None:
        raise ImportError("Install s3fs")

    monkeypatch.setattr(fsspec.core, "url_to_fs", fail)
    with pytest.raises(ConfigError, match=r"s3:// needs a package: pip install 'processor\[s3\]'"):
        JobFiles(["s3://bucket/jobs.jsonl"], JobDefaults())


def test_error_while_reading_breaks_off(store: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    store.pipe("/jobs.jsonl", JOBS)

    class NoConnection(Exception):
        """As the libraries of object stores raise: of no common type."""

    async def main() -> None:
        with closing(JobFiles(["memory://jobs.jsonl"], JobDefaults())) as files:
            monkeypatch.setattr(remote_file.RemoteFile, "_restart", fail)
            async for _ in files:
                pass

    def fail(self: Any) -> None:
        raise NoConnection("the store is gone")

    with pytest.raises(InputError, match="the store is gone"):
        asyncio.run(main())


def test_file_that_was_replaced_is_not_read_on(store: Any) -> None:
    store.pipe("/jobs.jsonl", JOBS)

    async def main() -> None:
        with closing(JobFiles(["memory://jobs.jsonl"], JobDefaults())) as files:
            assert len([item async for item in each_item(aiter(files))]) == 3000
            store.pipe("/jobs.jsonl", JOBS[: len(JOBS) // 2])
            async for _ in files:
                pass

    with pytest.raises(InputError, match="it was changed while it was read"):
        asyncio.run(main())


def test_export_appears_at_its_address_when_it_is_whole(
    store: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(addresses, "WRITABLE", {"memory"})
    results = write_rows(tmp_path / "r.jsonl", [reply_row(1), reply_row(2)])
    export(ExportOptions(results=results, out="memory://exports/o.csv.gz"))
    whole = store.cat("/exports/o.csv.gz")
    assert gzip.decompress(whole).count(b"\n") == 3

    def fail(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(FORMATS["csv"], "write", fail)
    with pytest.raises(OutputError, match=r"cannot write memory://exports/o.csv.gz: no space left"):
        export(ExportOptions(results=results, out="memory://exports/o.csv.gz"))
    assert store.cat("/exports/o.csv.gz") == whole
    with pytest.raises(ConfigError, match=r"cannot write https://host/o.csv: give --out FILE, s3://"):
        export(ExportOptions(results=results, out="https://host/o.csv"))


def test_query_and_password_of_an_address_are_masked() -> None:
    signature, password = "sig=" + "q" * 24, "p" * 20
    path = f"https://me:{password}@host/a/jobs.jsonl?{signature}"
    assert shown_address(path) == "https://host/a/jobs.jsonl"
    assert mask_text(f"{signature} {password}") == "••• •••"
    assert shown_address("./https:/x?y") == "./https:/x?y"
    assert (scheme_of("s3://b/k"), scheme_of("S3://b/k"), scheme_of("b/k"), scheme_of("c:\\k")) == (
        "s3",
        "s3",
        None,
        None,
    )
