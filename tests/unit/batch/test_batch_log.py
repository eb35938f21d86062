"""The journal of batches: what it knows after a restart, a torn end and damage."""

from __future__ import annotations

from pathlib import Path

import pytest

from processor.batch.batch_log import BatchLog
from processor.batch.open_batch import OpenBatch
from processor.batch.records import JobRecord
from processor.batch.sizes import BatchSize
from processor.core.errors import ConfigError
from processor.core.job_keys import job_key
from processor.simulator.fault_injecting_storage import DiskState, FaultInjectingStorage

PATH = Path("/out/r.batches.jsonl")


def record(name: str, submission: int = 1) -> JobRecord:
    return JobRecord(
        custom_id=name,
        fingerprint="00" * 16,
        line=1,
        attempts=submission,
        submission=submission,
        prompt_tokens=5,
        prompt_estimated=(),
        request={},
    )


class JournalDisk:
    def __init__(self) -> None:
        self.state = DiskState()

    def log(self) -> BatchLog:
        return BatchLog(FaultInjectingStorage(self.state), PATH)

    @property
    def data(self) -> bytes:
        return self.state.contents(PATH) or b""


def draft(log: BatchLog, name: str, *jobs: JobRecord) -> OpenBatch:
    log.begin(OpenBatch(name=name, path="/v1/chat/completions", model="m", address="http://127.0.0.1/v1"))
    batch = log.batches[name]
    for job in jobs:
        log.add_job(batch, job)
    batch.size = BatchSize(jobs=len(jobs), bytes=100, tokens=5, inputs=1)
    return batch


def test_submitted_batch_is_known_after_a_restart_with_its_jobs() -> None:
    disk = JournalDisk()
    log = disk.log()
    batch = draft(log, "b1", record("one"), record("two"))
    log.intend(batch, 10.0)
    log.record_upload(batch, "file-1")
    log.record_submission(batch, "batch_1", 11.0)
    log.close()
    (again,) = (log := disk.log()).open_batches
    assert (again.state, again.file_id, again.batch_id, again.submitted_at) == ("submitted", "file-1", "batch_1", 11.0)
    assert [log.job(again, index).custom_id for index in (0, 1)] == ["one", "two"]
    assert list(log.job_keys()) == [job_key("one"), job_key("two")]


def test_batch_without_an_intent_counts_as_never_sent() -> None:
    disk = JournalDisk()
    log = disk.log()
    draft(log, "b1", record("one"))
    log.close()
    log = disk.log()
    assert (log.batches, log.names_found) == ({}, ["b1"])


@pytest.mark.parametrize("torn", [b'{"upload":"b1","fi', b'{"upload":"b1","file":"file-1"}', bytes(40)])
def test_torn_end_is_cut_off_before_anything_is_added(torn: bytes) -> None:
    disk = JournalDisk()
    log = disk.log()
    batch = draft(log, "b1", record("one"))
    log.intend(batch, 10.0)
    log.close()
    disk.state.names[PATH].data += torn
    log = disk.log()
    log.record_upload(log.batches["b1"], "file-2")
    log.close()
    assert disk.data.count(b"\n") == len(disk.data.splitlines())
    assert disk.log().batches["b1"].file_id == "file-2"


def test_damage_before_a_later_step_is_refused() -> None:
    disk = JournalDisk()
    log = disk.log()
    batch = draft(log, "b1", record("one"))
    log.intend(batch, 10.0)
    log.record_upload(batch, "file-1")
    log.close()
    disk.state.names[PATH].data[:] = disk.data.replace(b'{"intend"', b'{"inten_"')
    with pytest.raises(ConfigError, match="line 3"):
        disk.log()


def test_collected_batch_leaves_the_jobs_to_submit_again() -> None:
    disk = JournalDisk()
    log = disk.log()
    batch = draft(log, "b1", record("one"), record("two"))
    log.intend(batch, 10.0)
    log.record_submission(batch, "batch_1", 11.0)
    log.record_collection(batch, {job_key("two"): 1}, ("file-1",))
    log.compact()
    log.close()
    log = disk.log()
    assert log.again == {job_key("two"): 1}
    assert (log.open_batches, log.batches["b1"].remote_files) == ([], ("file-1",))
    later = draft(log, "b2", record("two", 2))
    assert job_key("two") in log.again, "it is not sent yet"
    log.intend(later, 12.0)
    assert log.again == {}


def test_compaction_keeps_what_is_open_and_removes_the_file_when_nothing_is() -> None:
    disk = JournalDisk()
    log = disk.log()
    first, second = draft(log, "b1", record("one")), draft(log, "b2", record("two"))
    for batch in (first, second):
        log.intend(batch, 10.0)
        log.record_submission(batch, f"batch_{batch.name}", 11.0)
    log.record_collection(first, {}, ())
    log.record_removal(first)
    log.compact()
    assert b'"one"' not in disk.data
    (kept,) = log.open_batches
    assert log.job(kept, 0).custom_id == "two"
    log.drop(kept)
    log.compact()
    log.close()
    assert PATH not in disk.state.names
