"""What opening a results file repairs after a crash."""

from __future__ import annotations

from processor.output.job_index import JobStatus
from processor.output.row_json import encode_row
from processor.simulator.fault_injecting_storage import (
    DiskState,
)
from tests.support.results_samples import (
    DAMAGED,
    ERRORS,
    OUT,
    failure,
    fingerprint_of,
    ids,
    open_results,
    reply,
    write_results,
)


def test_torn_last_line_is_cut_off_and_whole_one_gets_its_line_feed() -> None:
    for cut in (*range(1, 400, 7), len(encode_row(reply("b"))) - 1, len(encode_row(reply("b")))):
        disk_state = DiskState()
        disk_state.put(OUT, encode_row(reply("a")) + encode_row(reply("b"))[:cut])
        journal = open_results(disk_state)
        whole = cut >= len(encode_row(reply("b"))) - 1
        assert disk_state.contents(OUT) == encode_row(reply("a")) + (encode_row(reply("b")) if whole else b"")
        assert journal.recovered.replies.is_torn is not whole
        assert (journal.job_index.classify("b", fingerprint_of("b")) is JobStatus.DONE) is whole


def test_torn_first_line_is_cut_off() -> None:
    for cut in (*range(1, 50), len(encode_row(reply("b"))) - 2):
        disk_state = DiskState()
        disk_state.put(OUT, encode_row(reply("b"))[:cut])
        open_results(disk_state)
        assert disk_state.contents(OUT) == b""


def test_zeros_after_power_loss_are_cut_off() -> None:
    disk_state = DiskState()
    disk_state.put(OUT, bytes(5000))
    open_results(disk_state)
    assert disk_state.contents(OUT) == b""


def test_damaged_lines_are_listed_and_quarantined_and_their_jobs_are_new() -> None:
    disk_state = DiskState()
    broken = encode_row(reply("b")).replace(b'"error":null', b'"error":nul')
    disk_state.put(OUT, encode_row(reply("a")) + broken + b"\n" + encode_row(reply("c")) + b"garbage\xff\n")
    disk_state.put(ERRORS, b"{}\n" + encode_row(failure("d")))
    journal = open_results(disk_state)
    assert journal.recovered.replies.damaged_lines == [2, 5]
    assert journal.recovered.failures.damaged_lines == [1]
    assert disk_state.contents(DAMAGED) == broken + b"garbage\xff\n" + b"{}\n"
    assert disk_state.contents(OUT) == encode_row(reply("a")) + encode_row(reply("c"))
    assert disk_state.contents(ERRORS) == encode_row(failure("d"))
    assert journal.job_index.classify("b", fingerprint_of("b")) is JobStatus.NEW
    assert journal.job_index.classify("c", fingerprint_of("c")) is JobStatus.DONE


def test_row_in_the_wrong_file_is_damage() -> None:
    disk_state = DiskState()
    disk_state.put(OUT, encode_row(reply("a")) + encode_row(failure("b")))
    disk_state.put(ERRORS, encode_row(failure("c")) + encode_row(reply("d")))
    open_results(disk_state)
    assert (ids(disk_state.contents(OUT)), ids(disk_state.contents(ERRORS))) == (["a"], ["c"])
    assert ids(disk_state.contents(DAMAGED)) == ["b", "d"]


def test_only_the_first_100_damaged_lines_are_listed() -> None:
    disk_state = DiskState()
    disk_state.put(OUT, encode_row(reply("a")) + b"x\n" * 250)
    found = open_results(disk_state).recovered.replies
    assert found.damaged == 250
    assert found.damaged_lines == list(range(2, 102))


def test_blank_line_is_not_damage() -> None:
    disk_state = DiskState()
    disk_state.put(OUT, b"\n" + encode_row(reply("a")) + b"  \r\n\n" + encode_row(reply("b")))
    journal = open_results(disk_state)
    assert journal.recovered.replied == 2
    assert not journal.recovered.replies.damaged
    assert disk_state.contents(DAMAGED) is None


def test_temporary_file_of_an_interrupted_compaction_is_removed() -> None:
    disk_state = DiskState()
    left = OUT.with_name("results.jsonl.compacting")
    disk_state.put(left, b"half")
    open_results(disk_state)
    assert disk_state.contents(left) is None


def test_second_repair_changes_nothing() -> None:
    disk_state = DiskState()
    disk_state.put(OUT, encode_row(reply("a")) + b"x\n" + encode_row(reply("a", "new")) + encode_row(reply("b"))[:-9])
    disk_state.put(ERRORS, encode_row(failure("a")) + encode_row(failure("c")) + encode_row(failure("c")))
    write_results(disk_state)
    once = {path: disk_state.contents(path) for path in disk_state.names}
    write_results(disk_state)
    assert {path: disk_state.contents(path) for path in disk_state.names} == once
    assert (ids(once[OUT]), ids(once[ERRORS])) == (["a"], ["c"])
