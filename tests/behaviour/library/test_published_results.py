"""Runs from a program whose results are published. fsspec's store in memory stands for an object store."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import processor
from processor.cli.results import results_path
from processor.core.events import Notice, RequestListener, RunEvent
from processor.core.models import Job, Reply, Target
from processor.remote import addresses
from tests.support.packages import package

fsspec = package("fsspec")

ADDRESS = "memory://bucket/r.jsonl"
JOBS = "".join(f'{{"id": "j{at}", "model": "m", "prompt": "hello"}}\n' for at in range(8))


@pytest.fixture
def store(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Any]:
    monkeypatch.setitem(addresses.EXTRAS, "memory", "none")
    monkeypatch.setattr(addresses, "WRITABLE", {"memory"})
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    store = fsspec.filesystem("memory")
    yield store
    store.rm("/", recursive=True)


def plan(folder: Path, **changes: Any) -> processor.Plan:
    jobs = folder / "jobs.jsonl"
    jobs.write_text(JOBS)
    settings = processor.Settings(base_url="http://127.0.0.1:9/v1", grace_s=0.0)
    usual: dict[str, Any] = {"jobs": str(jobs), "out": ADDRESS, "settings": settings, "progress": "none"}
    return processor.Plan(**usual | changes)


async def answer(job: Job, target: Target, on_event: RequestListener) -> Reply:
    choices = [{"index": 0, "message": {"role": "assistant", "content": "ok"}, "finish_reason": "stop"}]
    return Reply(status_code=200, request_id=None, body={"object": "chat.completion", "choices": choices})


def names(store: Any) -> list[str]:
    return sorted(Path(path).name for path in store.find("/bucket"))


def test_rows_of_a_run_stand_at_the_address(
    store: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert processor.run(plan(tmp_path, limit=5), environ={}, transport=answer) == 0
    err = capsys.readouterr().err
    assert f"results   {ADDRESS}" in err
    assert f"journal   {tmp_path / 'cache'}" in err
    assert names(store) == ["lease-000001.json", "part-000001.jsonl"]
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "elsewhere"))
    assert processor.run(plan(tmp_path), environ={}, transport=answer) == 0
    assert names(store) == ["lease-000002.json", "part-000001.jsonl", "part-000002.jsonl"]
    assert store.cat("/bucket/r.jsonl/part-000002.jsonl").count(b"\n") == 3
    work_dir = tmp_path / "reader"
    assert results_path(ADDRESS, work_dir).read_bytes().count(b"\n") == 8
    assert processor.run(plan(tmp_path, work_dir=work_dir), environ={}, transport=answer) == 0


def test_run_whose_rows_cannot_be_published_ends_with_3(
    store: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    events: list[RunEvent] = []

    def fail(*_: object, **__: object) -> None:
        raise OSError("the store is down")

    async def answer_and_break(job: Job, target: Target, on_event: RequestListener) -> Reply:
        monkeypatch.setattr(type(store), "pipe_file", fail)
        return await answer(job, target, on_event)

    assert processor.run(plan(tmp_path), environ={}, transport=answer_and_break, listeners=[events.append]) == 3
    notices = [event.text for event in events if isinstance(event, Notice)]
    assert [text.partition(" published")[0] for text in notices[-1:]] == ["8 rows are not"]
    monkeypatch.undo()
    monkeypatch.setitem(addresses.EXTRAS, "memory", "none")
    monkeypatch.setattr(addresses, "WRITABLE", {"memory"})
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    assert processor.run(plan(tmp_path), environ={}, transport=fail) == 0  # type: ignore[arg-type]
    assert store.cat("/bucket/r.jsonl/part-000001.jsonl").count(b"\n") == 8


@pytest.mark.parametrize(
    ("changes", "error"),
    [
        ({"out": "memory://bucket/r.jsonl.gz"}, r"results are not compressed"),
        (
            {"out": "memory://bucket"},
            r"memory://bucket names no results file: give out='memory://bucket/results.jsonl'",
        ),
        ({"out": "https://host/r.jsonl"}, r"cannot write results to https://host/r.jsonl: give out=FILE, or an add"),
        ({"in_batches": True}, r"in_batches= keeps a file of its batches on this machine: give out=FILE"),
        ({"out": "r.jsonl", "work_dir": Path("w")}, r"work_dir= is for results in an object store, and r.jsonl is a"),
    ],
)
def test_output_that_cannot_be_published_is_refused(
    store: Any, tmp_path: Path, changes: dict[str, Any], error: str
) -> None:
    with pytest.raises(processor.ConfigError, match=error):
        processor.run(plan(tmp_path, **changes), environ={}, transport=answer)
    assert names(store) == []
