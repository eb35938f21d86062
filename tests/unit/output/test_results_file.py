from __future__ import annotations

import asyncio
import errno
import os
import subprocess
import sys
import threading
from dataclasses import replace
from pathlib import Path
from random import Random

import pytest

from processor.core.errors import ConfigError, OutputError
from processor.core.models import Reply
from processor.output.job_index import JobStatus
from processor.output.results_file import ResultsFile
from processor.output.row_json import encode_row
from processor.output.sink import END_OF_FILE
from processor.simulator.fault_injecting_storage import (
    DiskState,
    FaultInjectingStorage,
    StorageFault,
    fail_at_step,
    refusal,
)
from processor.simulator.virtual_clock import inline, run
from tests.support.results_samples import (
    DAMAGED,
    ERRORS,
    OUT,
    STATE,
    Provider,
    SmallRun,
    bad_line,
    failure,
    print_of,
    reply,
    rows,
)


def journal_on(platter: DiskState, plan=None, **more) -> ResultsFile:
    return ResultsFile.open(OUT, storage=FaultInjectingStorage(platter, plan), run_in_thread=inline, **more)


def write(platter: DiskState, *results, lines_read=END_OF_FILE, **more) -> ResultsFile:
    """One run that appends these rows, one after the other, and closes."""

    async def main():
        journal = journal_on(platter, **more)
        async with journal:
            for result in results:
                await journal.append(result)
            await journal.close(lines_read)
        return journal

    return run(main())


def ids(data: bytes | None) -> list[str]:
    return [row["custom_id"] for row in rows(data)]


# ---------------------------------------------------------------- on a real disk


def test_on_a_real_disk_a_run_leaves_its_rows_and_the_next_one_knows_them(tmp_path):
    out = tmp_path / "results.jsonl"

    async def first():
        async with ResultsFile.open(out) as journal:
            await asyncio.gather(*(journal.append(reply(name)) for name in "abc"), journal.append(failure("d")))
            await journal.close(END_OF_FILE)

    asyncio.run(first())
    assert ids(out.read_bytes()) == ["a", "b", "c"]
    assert ids((tmp_path / "results.errors.jsonl").read_bytes()) == ["d"]
    journal = ResultsFile.open(out)
    assert (journal.recovered.replied, journal.recovered.failed) == (3, 1)
    assert journal.job_index.classify("a", print_of("a")) is JobStatus.DONE
    assert journal.free_bytes() > 0
    asyncio.run(journal.close(END_OF_FILE))


def test_a_run_with_nothing_to_do_leaves_every_file_untouched(tmp_path):
    out = tmp_path / "results.jsonl"

    async def go():
        async with ResultsFile.open(out) as journal:
            for name in "ab":
                if journal.job_index.classify(name, print_of(name)) is JobStatus.NEW:
                    await journal.append(reply(name))
            await journal.append(bad_line(3))
            await journal.close(END_OF_FILE)

    def state():
        return {
            path.name: (path.read_bytes(), path.stat().st_mtime_ns, path.stat().st_ino) for path in tmp_path.iterdir()
        }

    asyncio.run(go())
    before = state()
    assert sorted(before) == ["results.errors.jsonl", "results.jsonl", "results.jsonl.state"]
    assert before["results.jsonl.state"][0] == b""
    asyncio.run(go())
    assert state() == before


LOCKED = """
import sys
from pathlib import Path
from processor.core.errors import OutputError
from processor.output.results_file import ResultsFile
try:
    ResultsFile.open(Path(sys.argv[1]))
except OutputError as error:
    print(error)
"""


@pytest.mark.process
def test_a_second_process_on_the_same_results_is_refused_until_the_first_has_ended(tmp_path):
    out = tmp_path / "results.jsonl"

    def other() -> str:
        command = [sys.executable, "-c", LOCKED, str(out)]
        root = str(Path(__file__).parents[3])
        return subprocess.run(command, check=True, capture_output=True, text=True, cwd=root).stdout

    async def main():
        async with ResultsFile.open(out):
            assert "another run is writing to" in other()
            with pytest.raises(OutputError, match="another run"):
                ResultsFile.open(out)
        assert other() == ""

    asyncio.run(main())


def test_results_behind_a_link_stay_there_and_keep_their_permissions(tmp_path):
    (tmp_path / "elsewhere").mkdir()
    real = tmp_path / "elsewhere" / "r.jsonl"
    real.write_bytes(encode_row(reply("a", "old")) + encode_row(reply("a", "new")))
    real.chmod(0o640)
    (tmp_path / "results.jsonl").symlink_to(real)

    async def main():
        async with ResultsFile.open(tmp_path / "results.jsonl"):
            pass

    asyncio.run(main())
    assert (tmp_path / "results.jsonl").is_symlink()
    assert real.read_bytes() == encode_row(reply("a", "new"))
    assert real.stat().st_mode & 0o777 == 0o640


@pytest.mark.parametrize("kind", ["folder", "pipe", "no folder"])
def test_what_cannot_hold_results_is_refused_in_one_line(tmp_path, kind):
    out = tmp_path / "results.jsonl"
    if kind == "folder":
        out.mkdir()
    elif kind == "pipe":
        os.mkfifo(out)
    else:
        out = tmp_path / "none" / "results.jsonl"
    with pytest.raises(OutputError, match=r"cannot write .*: (not a regular file|No such file or directory)"):
        ResultsFile.open(out)
    assert [path.name for path in tmp_path.iterdir()] == ([] if kind == "no folder" else ["results.jsonl"])


def test_an_output_that_is_deleted_during_the_run_stops_it(tmp_path):
    out = tmp_path / "results.jsonl"

    async def main():
        async with ResultsFile.open(out) as journal:
            await journal.append(reply("a"))
            out.unlink()
            with pytest.raises(OutputError, match=r"results.jsonl: the file has been deleted"):
                await journal.append(reply("b"))
            with pytest.raises(OutputError):
                journal.record_in_flight("c", 1)

    with pytest.raises(OutputError, match="deleted"):
        asyncio.run(main())


@pytest.mark.parametrize("path", [OUT, ERRORS])
def test_an_output_that_is_deleted_after_its_last_row_is_noticed_at_the_end(path):
    platter = DiskState()

    async def main():
        async with journal_on(platter) as journal:
            await journal.append(reply("a"))
            await journal.append(failure("b"))
            platter.delete(path)
            await journal.close(END_OF_FILE)

    with pytest.raises(OutputError, match=f"{path}: the file has been deleted"):
        run(main())


# ---------------------------------------------------------------- rows and files


def test_a_reply_takes_the_place_of_a_failure_and_the_last_failure_that_of_earlier_ones():
    platter = DiskState()
    write(platter, failure("a"), failure("b"), failure("c"))
    write(platter, reply("a"), failure("b", attempts=12))
    assert ids(platter.contents(OUT)) == ["a"]
    assert [(row["custom_id"], row["attempts"]) for row in rows(platter.contents(ERRORS))] == [("c", 6), ("b", 12)]
    write(platter, reply("b"), reply("c"))
    assert platter.contents(ERRORS) is None


def test_a_changed_job_that_is_sent_again_gets_its_new_reply_instead_of_the_old_one():
    platter = DiskState()
    write(platter, reply("a", "old"), reply("b"))
    journal = write(platter, reply("a", "new", request="other", attempts=2))
    assert (journal.recovered.replied, journal.recovered.failed) == (2, 0)
    assert [row["response"]["body"]["text"] for row in rows(platter.contents(OUT))] == ["hello", "new"]


def test_a_crash_between_the_new_reply_and_the_end_is_put_right_by_the_next_run():
    platter = DiskState()
    write(platter, reply("a", "old"), reply("b"))
    write(platter, reply("a", "new", request="other"), lines_read=None)
    assert ids(platter.contents(OUT)) == ["a", "b", "a"]
    journal = journal_on(platter)
    assert ids(platter.contents(OUT)) == ["b", "a"]
    assert journal.job_index.classify("a", print_of("other")) is JobStatus.DONE


def test_a_failed_row_never_takes_the_place_of_a_reply():
    platter = DiskState()
    write(platter, reply("a", "old"))
    before = platter.contents(OUT)
    for lines_read in (None, END_OF_FILE):
        write(platter, failure("a", request="other"), lines_read=lines_read)
        assert platter.contents(OUT) == before
        assert platter.contents(ERRORS) is None


def test_rows_of_lines_that_are_no_jobs_stand_once_whatever_is_run_again():
    platter = DiskState()
    found = [bad_line(1), bad_line(2), bad_line(3, "x", "a", "duplicate_custom_id")]
    write(platter, reply("a"), *found)
    before = platter.contents(ERRORS)
    assert [row["line"] for row in rows(before)] == [1, 2, 3]
    journal = write(platter, *found)
    assert (journal.recovered.replied, journal.recovered.failed) == (1, 0)
    assert platter.contents(ERRORS) == before


def test_the_row_of_a_line_that_was_put_right_goes_once_the_line_has_been_read():
    platter = DiskState()
    write(platter, *(bad_line(number) for number in (1, 5, 9)))
    write(platter, bad_line(1), lines_read=4)
    assert [row["line"] for row in rows(platter.contents(ERRORS))] == [1, 5, 9]
    write(platter, bad_line(1), lines_read=5)
    assert [row["line"] for row in rows(platter.contents(ERRORS))] == [1, 9]
    write(platter, lines_read=None)
    assert [row["line"] for row in rows(platter.contents(ERRORS))] == [1, 9]
    write(platter)
    assert platter.contents(ERRORS) is None


def test_a_bad_line_that_moved_has_one_row_with_its_new_number():
    platter = DiskState()
    write(platter, bad_line(1), failure("a"))
    write(platter, bad_line(2))
    assert [row["line"] for row in rows(platter.contents(ERRORS))] == [1, 2]
    assert ids(platter.contents(ERRORS)) == ["a", None]


def test_a_job_that_left_the_job_file_keeps_its_row():
    platter = DiskState()
    write(platter, reply("a"), failure("b"))
    write(platter)
    assert (ids(platter.contents(OUT)), ids(platter.contents(ERRORS))) == (["a"], ["b"])


@pytest.mark.parametrize("first", [True, False])
def test_simulated_and_real_rows_are_not_mixed(first):
    for result in (reply("a"), failure("a"), bad_line(1)):
        platter = DiskState()
        write(platter, replace(result, simulated=first), simulated=first)
        before = [platter.contents(path) for path in (OUT, ERRORS)]
        with pytest.raises(ConfigError, match="give another --out, or move it away"):
            journal_on(platter, simulated=not first)
        assert [platter.contents(path) for path in (OUT, ERRORS)] == before
        write(platter, simulated=first)


@pytest.mark.parametrize(
    "data",
    [
        b'{"custom_id": "a", "body": {}}\n{"custom_id": "b", "body": {}}\n',
        b'{"id":"a","prompt":"x"}\n',
        b"notes of mine",
        b"a,b\n1,2\n",
    ],
)
def test_a_file_of_something_else_is_refused_and_left_alone(data):
    for path in (OUT, ERRORS):
        platter = DiskState()
        platter.put(path, data)
        with pytest.raises(ConfigError, match="is not a results file"):
            journal_on(platter)
        assert platter.contents(path) == data
        assert list(platter.names) == [path], "nothing is left beside it"


def test_a_state_file_of_an_earlier_run_outlives_a_refused_one():
    platter = DiskState()
    write(platter, reply("a"))
    with pytest.raises(ConfigError):
        journal_on(platter, simulated=True)
    assert platter.contents(STATE) == b""


def test_who_locks_a_state_file_that_a_refused_run_has_just_taken_away_makes_another():
    platter = DiskState()

    class Late(FaultInjectingStorage):
        def open(self, path, mode):
            file = super().open(path, mode)
            if path == STATE and platter.names[STATE] is first:
                platter.delete(STATE)
            return file

    FaultInjectingStorage(platter).open(STATE, "update")
    first = platter.names[STATE]
    ResultsFile.open(OUT, storage=Late(platter), run_in_thread=inline)
    with pytest.raises(OutputError, match="another run"):
        journal_on(platter)


# ---------------------------------------------------------------- repair


def test_a_torn_last_line_is_cut_off_and_a_whole_one_only_gets_its_line_feed():
    for cut in (*range(1, 400, 7), len(encode_row(reply("b"))) - 1, len(encode_row(reply("b")))):
        platter = DiskState()
        platter.put(OUT, encode_row(reply("a")) + encode_row(reply("b"))[:cut])
        journal = journal_on(platter)
        whole = cut >= len(encode_row(reply("b"))) - 1
        assert platter.contents(OUT) == encode_row(reply("a")) + (encode_row(reply("b")) if whole else b"")
        assert journal.recovered.replies.is_torn is not whole
        assert (journal.job_index.classify("b", print_of("b")) is JobStatus.DONE) is whole


def test_the_first_row_may_be_torn_too():
    for cut in (*range(1, 50), len(encode_row(reply("b"))) - 2):
        platter = DiskState()
        platter.put(OUT, encode_row(reply("b"))[:cut])
        journal_on(platter)
        assert platter.contents(OUT) == b""


def test_zeros_left_by_a_loss_of_power_are_cut_off():
    platter = DiskState()
    platter.put(OUT, bytes(5000))
    journal_on(platter)
    assert platter.contents(OUT) == b""


def test_malformed_lines_are_named_kept_aside_and_their_jobs_done_again():
    platter = DiskState()
    broken = encode_row(reply("b")).replace(b'"error":null', b'"error":nul')
    platter.put(OUT, encode_row(reply("a")) + broken + b"\n" + encode_row(reply("c")) + b"garbage\xff\n")
    platter.put(ERRORS, b"{}\n" + encode_row(failure("d")))
    journal = journal_on(platter)
    assert journal.recovered.replies.damaged_lines == [2, 5]
    assert journal.recovered.failures.damaged_lines == [1]
    assert platter.contents(DAMAGED) == broken + b"garbage\xff\n" + b"{}\n"
    assert platter.contents(OUT) == encode_row(reply("a")) + encode_row(reply("c"))
    assert platter.contents(ERRORS) == encode_row(failure("d"))
    assert journal.job_index.classify("b", print_of("b")) is JobStatus.NEW
    assert journal.job_index.classify("c", print_of("c")) is JobStatus.DONE


def test_a_failure_among_the_replies_is_damage():
    platter = DiskState()
    platter.put(OUT, encode_row(reply("a")) + encode_row(failure("b")))
    platter.put(ERRORS, encode_row(failure("c")) + encode_row(reply("d")))
    journal_on(platter)
    assert (ids(platter.contents(OUT)), ids(platter.contents(ERRORS))) == (["a"], ["c"])
    assert ids(platter.contents(DAMAGED)) == ["b", "d"]


def test_only_so_many_damaged_lines_are_named():
    platter = DiskState()
    platter.put(OUT, encode_row(reply("a")) + b"x\n" * 250)
    found = journal_on(platter).recovered.replies
    assert found.damaged == 250
    assert found.damaged_lines == list(range(2, 102))


def test_blank_lines_are_no_damage():
    platter = DiskState()
    platter.put(OUT, b"\n" + encode_row(reply("a")) + b"  \r\n\n" + encode_row(reply("b")))
    journal = journal_on(platter)
    assert journal.recovered.replied == 2
    assert not journal.recovered.replies.damaged
    assert platter.contents(DAMAGED) is None


def test_what_a_broken_off_compaction_left_is_removed():
    platter = DiskState()
    left = OUT.with_name("results.jsonl.compacting")
    platter.put(left, b"half")
    journal_on(platter)
    assert platter.contents(left) is None


def test_putting_right_twice_changes_nothing():
    platter = DiskState()
    platter.put(OUT, encode_row(reply("a")) + b"x\n" + encode_row(reply("a", "new")) + encode_row(reply("b"))[:-9])
    platter.put(ERRORS, encode_row(failure("a")) + encode_row(failure("c")) + encode_row(failure("c")))
    write(platter)
    once = {path: platter.contents(path) for path in platter.names}
    write(platter)
    assert {path: platter.contents(path) for path in platter.names} == once
    assert (ids(once[OUT]), ids(once[ERRORS])) == (["a"], ["c"])


# ---------------------------------------------------------------- intents


def test_what_was_in_flight_when_a_run_was_killed_is_counted_once_and_its_attempts_go_on():
    platter = DiskState()

    async def killed():
        journal = journal_on(platter)
        for name in ("answered", "failed", "streaming", "waiting"):
            journal.record_in_flight(name, 1)
        await journal.append(reply("answered"))
        await journal.append(failure("failed", attempts=1))
        journal.record_in_flight("waiting", 2)
        journal.clear_in_flight("waiting", 2)
        journal.record_in_flight("unsent", 4)
        journal.clear_in_flight("unsent", 3)
        journal.record_in_flight("failed", 2)

    run(killed())
    platter.names[STATE].locked_by = None
    journal = journal_on(platter)
    assert journal.recovered.possibly_billed == 2
    known = {
        name: journal.job_index.attempts(name) for name in ("answered", "failed", "streaming", "waiting", "unsent")
    }
    assert known == {"answered": 1, "failed": 2, "streaming": 1, "waiting": 2, "unsent": 3}
    run(journal.close())
    third = journal_on(platter)
    assert third.recovered.possibly_billed == 0
    assert third.job_index.attempts("streaming") == 1
    run(third.close())
    write(
        platter,
        reply("failed", attempts=3),
        reply("streaming", attempts=2),
        reply("waiting", attempts=3),
        reply("unsent", attempts=4),
    )
    assert platter.contents(STATE) == b""


def test_the_state_file_stays_small_and_can_be_deleted():
    platter = DiskState()

    async def main():
        async with journal_on(platter) as journal:
            for number in range(100):
                for slot in range(3):
                    journal.record_in_flight(f"{number}-{slot}", 1)
                await asyncio.gather(*(journal.append(reply(f"{number}-{slot}")) for slot in range(3)))
            size = len(platter.contents(STATE) or b"")
            journal.record_in_flight("last", 1)
        return size

    assert run(main()) < 100
    assert platter.contents(STATE)
    platter.delete(STATE)
    assert journal_on(platter).recovered.possibly_billed == 0


@pytest.mark.parametrize("state", [b"\xff" * 500, bytes(17), b"nonsense", os.urandom(1000)])
def test_a_state_file_that_makes_no_sense_is_ignored(state):
    platter = DiskState()
    platter.put(STATE, state)
    journal = journal_on(platter)
    assert journal.recovered.possibly_billed == 0
    journal.record_in_flight("a", 1)
    run(journal.close())
    assert len(platter.contents(STATE)) == max(16, len(state)), "its places are used again"
    assert journal_on(platter).recovered.possibly_billed == 1


# ---------------------------------------------------------------- writing


def test_rows_that_finish_in_the_same_turn_go_out_in_one_write():
    platter = DiskState()
    writes = []

    def plan(_, operation):
        writes.append(operation)

    async def main():
        journal = journal_on(platter, plan)
        writes.clear()
        await asyncio.gather(*(journal.append(reply(str(number))) for number in range(50)))
        assert writes == ["write"]
        await journal.close()

    run(main())
    assert len(rows(platter.contents(OUT))) == 50


def written_at(in_flight: str, appended: dict[str, float], resting: str = "") -> list[float]:
    """When the journal writes rows, where these are appended at such times, with so many jobs in flight at first."""
    times = []

    async def main():
        loop = asyncio.get_running_loop()

        def plan(_, operation):
            if operation == "write":
                times.append(round(loop.time() - began, 3))

        async def append(name, at):
            await asyncio.sleep(at)
            await journal.append(reply(name))

        journal, began = journal_on(DiskState(), plan), loop.time()
        for name in in_flight + resting:
            journal.record_in_flight(name, 1)
        for name in resting:
            journal.clear_in_flight(name, 1)
        await asyncio.gather(*(append(name, at) for name, at in appended.items()))
        await journal.close()

    run(main())
    return times


def test_rows_of_a_moment_share_a_write_while_others_are_in_flight():
    assert written_at("abcdef", {"a": 0.0, "b": 0.001, "c": 0.015, "d": 0.03}) == [0.0, 0.02, 0.04]


def test_a_row_that_comes_alone_is_not_held_back():
    assert written_at("abcdef", {"a": 0.0, "b": 0.1, "c": 0.3}) == [0.0, 0.1, 0.3]


@pytest.mark.parametrize("resting", ["", "xyz"])
def test_nor_is_one_behind_which_nobody_is_in_flight(resting):
    assert written_at("abc", {"a": 0.0, "b": 0.001, "c": 0.002}, resting) == [0.0, 0.002]


def test_cancelling_the_caller_does_not_undo_a_row():
    platter = DiskState()

    async def main():
        async with journal_on(platter) as journal:
            journal.record_in_flight("a", 1)
            task = asyncio.create_task(journal.append(reply("a")))
            await asyncio.sleep(0)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task

    run(main())
    assert ids(platter.contents(OUT)) == ["a"]
    assert platter.contents(STATE) == b""


@pytest.mark.parametrize(("mode", "synced_at"), [("always", 0.0), ("interval", 2.0), ("never", None)])
def test_a_row_is_synced_within_the_bound(mode, synced_at):
    platter = DiskState()

    async def main():
        loop = asyncio.get_running_loop()
        synced = []

        def plan(_, operation):
            if operation == "fsync":
                synced.append(loop.time())

        journal = journal_on(platter, plan, fsync=mode, fsync_interval_s=2.0)
        began = loop.time()
        for number in range(20):
            await journal.append(reply(str(number)))
            if mode == "always":
                assert platter.names[OUT].synced.endswith(encode_row(reply(str(number))))
            await asyncio.sleep(0.5)
        times = [at - began for at in synced]
        await journal.close()
        return times

    times = run(main())
    if synced_at is None:
        assert times == []
    elif mode == "always":
        assert len(times) == 20
    else:
        assert 4 <= len(times) <= 5
        assert all(later - earlier < 2.6 for earlier, later in zip([0.0, *times], times, strict=False))


def test_fsync_always_shares_one_fsync_among_the_rows_of_a_group():
    platter = DiskState()
    synced = []

    def plan(_, operation):
        synced.append(operation == "fsync")

    async def main():
        async with journal_on(platter, plan, fsync="always") as journal:
            synced.clear()
            await asyncio.gather(*(journal.append(reply(str(number))) for number in range(50)))
            assert sum(synced) == 1

    run(main())


def test_closing_writes_and_syncs_what_is_left():
    platter = DiskState()

    async def main():
        journal = journal_on(platter, fsync_interval_s=1000.0)
        task = asyncio.create_task(journal.append(reply("a")))
        await asyncio.sleep(0)
        await journal.close()
        await task
        await journal.close()
        with pytest.raises(OutputError, match="closed"):
            await journal.append(reply("b"))
        return asyncio.get_running_loop().time()

    assert run(main()) < 1
    assert platter.names[OUT].synced == encode_row(reply("a"))


def test_closing_is_not_broken_off_by_cancelling_the_caller(tmp_path):
    out = tmp_path / "results.jsonl"
    slow = threading.Event()

    async def run_in_thread(work):
        await asyncio.to_thread(slow.wait, 5)
        return await asyncio.to_thread(work)

    async def main():
        journal = ResultsFile.open(out, run_in_thread=run_in_thread)
        await journal.append(reply("a"))
        task = asyncio.create_task(journal.close(END_OF_FILE))
        await asyncio.sleep(0.01)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        with pytest.raises(OutputError, match="another run"):
            ResultsFile.open(out)
        slow.set()
        await journal.close()
        ResultsFile.open(out)

    asyncio.run(main())


def test_rows_that_a_killed_run_left_unsynced_are_synced_by_the_run_that_counts_them_as_done():
    for seed in range(10):
        platter = DiskState()

        async def killed(platter=platter):
            await journal_on(platter, fsync="never").append(reply("a"))

        run(killed())
        platter.names[STATE].locked_by = None
        assert write(platter).recovered.replied == 1
        platter.lose_power(Random(seed))
        assert ids(platter.contents(OUT)) == ["a"]


def test_short_writes_are_completed():
    platter = DiskState()
    plan = lambda _, operation: StorageFault(None, 0.4) if operation == "write" else None  # noqa: E731

    async def main():
        async with journal_on(platter, plan) as journal:
            await asyncio.gather(*(journal.append(reply(name, "x" * 500)) for name in "abc"))

    run(main())
    assert ids(platter.contents(OUT)) == ["a", "b", "c"]


@pytest.mark.parametrize("room", range(0, 1300, 97))
def test_on_a_full_disk_whole_rows_stay_and_the_others_are_told(room):
    platter = DiskState()

    async def main():
        journal = journal_on(platter)
        platter.capacity_bytes = room
        outcomes = await asyncio.gather(
            *(journal.append(reply(name, "x" * 50)) for name in "abcd"),
            journal.append(failure("e")),
            return_exceptions=True,
        )
        assert journal.free_bytes() == platter.free_bytes()
        platter.capacity_bytes = 1 << 20
        with pytest.raises(OutputError, match="No space left"):
            await journal.append(reply("later"))
        with pytest.raises(OutputError, match=r"cannot write /out/results.*: No space left on device"):
            await journal.close(END_OF_FILE)
        return [name for name, outcome in zip("abcde", outcomes, strict=True) if outcome is None], outcomes

    written, outcomes = run(main())
    assert ids(platter.contents(OUT)) + ids(platter.contents(ERRORS)) == written
    assert all(isinstance(outcome, OutputError) for outcome in outcomes if outcome is not None)
    journal = write(platter, *(reply(name) for name in "abcde" if name not in written))
    assert journal.recovered.replied + journal.recovered.failed == len(written)


def test_a_failed_fsync_reaches_whoever_writes_next():
    platter = DiskState()
    plan = lambda _, operation: StorageFault(refusal(errno.EIO)) if operation == "fsync" else None  # noqa: E731

    async def main():
        journal = journal_on(platter, plan)
        await journal.append(reply("a"))
        await asyncio.sleep(5)
        with pytest.raises(OutputError, match="Input/output error"):
            journal.record_in_flight("b", 1)
        with pytest.raises(OutputError):
            await journal.close()

    run(main())
    assert journal_on(platter).recovered.replied == 1


def test_a_failed_fsync_is_told_to_those_who_wait_for_it():
    plan = lambda _, operation: StorageFault(refusal(errno.EIO)) if operation == "fsync" else None  # noqa: E731

    async def main():
        journal = journal_on(DiskState(), plan, fsync="always")
        outcomes = await asyncio.gather(*(journal.append(reply(n)) for n in "ab"), return_exceptions=True)
        assert [type(outcome) for outcome in outcomes] == [OutputError, OutputError]

    run(main())


@pytest.mark.parametrize("operation", ["record_in_flight", "clear_in_flight", "append"])
def test_a_state_file_that_cannot_be_written_stops_the_run(operation):
    platter = DiskState()

    async def main():
        failing = False

        def plan(_, step):
            return StorageFault(refusal(errno.EIO)) if failing and step == "pwrite" else None

        journal = journal_on(platter, plan)
        journal.record_in_flight("a", 1)
        failing = True
        if operation == "clear_in_flight":
            journal.clear_in_flight("a", 1)
        elif operation == "append":
            await journal.append(reply("a"))
        with pytest.raises(OutputError, match=r"results.jsonl.state: Input/output error"):
            journal.record_in_flight("b", 1)

    run(main())


def test_an_error_inside_the_run_is_not_hidden_by_one_of_closing():
    async def main():
        async with journal_on(DiskState(), fail_at_step(9, StorageFault(refusal(errno.EIO)))) as journal:
            await journal.append(reply("a"))
            raise KeyError("the run's own")

    with pytest.raises(KeyError):
        run(main())


def test_a_small_run_over_every_kind_of_line_goes_on_where_it_stopped():
    jobs = [("a", "1"), (None, "{"), ("b", "2"), ("a", "1"), ("bad", "3"), ("down", "4"), ("c", "5")]
    provider = Provider(refuses=["bad"], fails=["down"])
    platter = DiskState()
    for _ in range(3):
        run(SmallRun(jobs, provider)(journal_on(platter)))
        assert sorted(ids(platter.contents(OUT))) == ["a", "b", "c"]
        errors = sorted((row["line"], row["error"]["code"]) for row in rows(platter.contents(ERRORS)))
        assert errors == [(2, "invalid_json"), (4, "duplicate_custom_id"), (5, "rejected"), (6, "timeout")]
    assert provider.sent == {"a": 1, "b": 1, "c": 1, "bad": 1, "down": 3}
    assert next(row["attempts"] for row in rows(platter.contents(ERRORS)) if row["line"] == 6) == 3


def test_the_refusing_response_is_kept_in_a_failed_row():
    platter = DiskState()
    write(platter, replace(failure("a"), reply=Reply(status_code=400, request_id=None, body={"error": 1})))
    assert rows(platter.contents(ERRORS))[0]["response"]["body"] == {"error": 1}


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_a_read_only_folder_is_refused(tmp_path):
    tmp_path.chmod(0o500)
    try:
        with pytest.raises(OutputError, match="Permission denied"):
            ResultsFile.open(tmp_path / "results.jsonl")
    finally:
        tmp_path.chmod(0o700)
