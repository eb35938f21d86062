"""A folder of objects. fsspec's store in memory stands for an object store."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from processor.core.errors import ConfigError
from processor.remote import addresses
from processor.remote.object_folder import RemoteFolder
from tests.support.packages import package

fsspec = package("fsspec")


@pytest.fixture
def store(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    monkeypatch.setitem(addresses.EXTRAS, "memory", "none")
    monkeypatch.setattr(addresses, "WRITABLE", {"memory", "s3"})
    store = fsspec.filesystem("memory")
    yield store
    store.rm("/", recursive=True)


def test_objects_are_created_once_and_listed(store: Any) -> None:
    folder = RemoteFolder("memory://bucket/r.jsonl")
    assert list(folder.list()) == []
    assert folder.create("a", b"1")
    assert not folder.create("a", b"2")
    folder.put("b", b"3")
    folder.put("b", b"4")
    assert (sorted(folder.list()), folder.read("a"), folder.read("b")) == (["a", "b"], b"1", b"4")
    store.pipe("/bucket/r.jsonl/c", b"5")
    assert sorted(folder.list()) == ["a", "b", "c"]
    folder.remove("b")
    folder.remove("b")
    assert sorted(folder.list()) == ["a", "c"]
    with pytest.raises(OSError, match="there is no such file"):
        folder.read("b")


def test_address_that_is_not_written_to_is_refused(store: Any) -> None:
    with pytest.raises(ConfigError, match=r"cannot write https://host/r.jsonl: give --out FILE, s3://"):
        RemoteFolder("https://host/r.jsonl")


class ClientError(Exception):
    """As botocore raises it."""

    def __init__(self, status: int) -> None:
        super().__init__(f"status {status}")
        self.response = {"ResponseMetadata": {"HTTPStatusCode": status}}


def test_answer_412_means_that_there_is_an_object(store: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = RemoteFolder("memory://bucket/r.jsonl")

    def answer(status: int) -> Any:
        def pipe_file(path: str, data: bytes, mode: str) -> None:
            raise OSError(22, "at least one of the conditions did not hold") from ClientError(status)

        return pipe_file

    monkeypatch.setattr(folder._system, "pipe_file", answer(412))
    assert not folder.create("a", b"1")
    monkeypatch.setattr(folder._system, "pipe_file", answer(409))
    with pytest.raises(OSError, match="conditions did not hold"):
        folder.create("a", b"1")


def test_errors_are_one_line_and_name_a_missing_bucket(store: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = RemoteFolder("memory://bucket/r.jsonl")
    errors = iter([FileNotFoundError("NoSuchBucket"), RuntimeError("The container is gone.\nRequestId: 1")])

    def fail(*_: object, **__: object) -> None:
        raise next(errors)

    monkeypatch.setattr(folder._system, "pipe_file", fail)
    with pytest.raises(OSError, match=r"there is no such bucket or container \(NoSuchBucket\)"):
        folder.put("a", b"1")
    with pytest.raises(OSError, match=r"^The container is gone$"):
        folder.put("a", b"1")


def test_missing_package_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(path: str) -> None:
        raise ImportError("Install s3fs")

    monkeypatch.setattr(fsspec.core, "url_to_fs", fail)
    with pytest.raises(ConfigError, match=r"cannot write s3://bucket/r.jsonl: s3:// needs a package: pip install"):
        RemoteFolder("s3://bucket/r.jsonl")
