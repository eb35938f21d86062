"""Opening and locking a results file, and what is refused."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from processor.core.errors import ConfigError, OutputError
from processor.output.job_index import JobStatus
from processor.output.results_file import ResultsFile
from processor.output.row_json import encode_row
from processor.output.sink import END_OF_FILE
from processor.output.storage import OpenMode
from processor.simulator.fault_injecting_storage import (
    DiskState,
    FaultInjectingStorage,
    MemoryFile,
)
from processor.simulator.virtual_clock import inline, run
from tests.support.results_samples import (
    ERRORS,
    OUT,
    STATE,
    failure,
    fingerprint_of,
    ids,
    invalid_line,
    open_results,
    reply,
    write_results,
)


def test_next_run_knows_the_rows_of_a_run_on_the_local_disk(tmp_path: Path) -> None:
    out = tmp_path / "results.jsonl"

    async def first() -> None:
        async with ResultsFile.open(out) as journal:
            await asyncio.gather(*(journal.append(reply(name)) for name in "abc"), journal.append(failure("d")))
            await journal.close(END_OF_FILE)

    asyncio.run(first())
    assert ids(out.read_bytes()) == ["a", "b", "c"]
    assert ids((tmp_path / "results.errors.jsonl").read_bytes()) == ["d"]
    journal = ResultsFile.open(out)
    assert (journal.recovered.replied, journal.recovered.failed) == (3, 1)
    assert journal.job_index.classify("a", fingerprint_of("a")) is JobStatus.DONE
    assert journal.free_bytes() > 0
    asyncio.run(journal.close(END_OF_FILE))


def test_run_with_nothing_to_do_changes_no_file(tmp_path: Path) -> None:
    out = tmp_path / "results.jsonl"

    async def go() -> None:
        async with ResultsFile.open(out) as journal:
            for name in "ab":
                if journal.job_index.classify(name, fingerprint_of(name)) is JobStatus.NEW:
                    await journal.append(reply(name))
            await journal.append(invalid_line(3))
            await journal.close(END_OF_FILE)

    def state() -> dict[str, tuple[bytes, int, int]]:
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
from processor.output.storage import OpenMode
try:
    ResultsFile.open(Path(sys.argv[1]))
except OutputError as error:
    print(error)
"""


@pytest.mark.process
def test_second_process_is_refused_while_the_first_holds_the_lock(tmp_path: Path) -> None:
    out = tmp_path / "results.jsonl"

    def other() -> str:
        command = [sys.executable, "-c", LOCKED, str(out)]
        root = str(Path(__file__).parents[3])
        return subprocess.run(command, check=True, capture_output=True, text=True, cwd=root).stdout

    async def main() -> None:
        async with ResultsFile.open(out):
            assert "another run is writing to" in other()
            with pytest.raises(OutputError, match="another run"):
                ResultsFile.open(out)
        assert other() == ""

    asyncio.run(main())


def test_compaction_keeps_symbolic_link_and_permissions(tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir()
    real = tmp_path / "elsewhere" / "r.jsonl"
    real.write_bytes(encode_row(reply("a", "old")) + encode_row(reply("a", "new")))
    real.chmod(0o640)
    (tmp_path / "results.jsonl").symlink_to(real)

    async def main() -> None:
        async with ResultsFile.open(tmp_path / "results.jsonl"):
            pass

    asyncio.run(main())
    assert (tmp_path / "results.jsonl").is_symlink()
    assert real.read_bytes() == encode_row(reply("a", "new"))
    assert real.stat().st_mode & 0o777 == 0o640


@pytest.mark.parametrize("kind", ["folder", "pipe", "no folder"])
def test_path_that_is_not_a_regular_file_is_refused(tmp_path: Path, kind: str) -> None:
    out = tmp_path / "results.jsonl"
    if kind == "folder":
        out.mkdir()
    elif kind == "pipe":
        os.mkfifo(out)
    else:
        out = tmp_path / "none" / "results.jsonl"
    with pytest.raises(OutputError, match=r"cannot write .*: (not a regular file|no such file or directory)"):
        ResultsFile.open(out)
    assert [path.name for path in tmp_path.iterdir()] == ([] if kind == "no folder" else ["results.jsonl"])


def test_output_deleted_during_the_run_raises_output_error(tmp_path: Path) -> None:
    out = tmp_path / "results.jsonl"

    async def main() -> None:
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
def test_output_deleted_after_its_last_row_raises_on_close(path: Path) -> None:
    disk_state = DiskState()

    async def main() -> None:
        async with open_results(disk_state) as journal:
            await journal.append(reply("a"))
            await journal.append(failure("b"))
            disk_state.delete(path)
            await journal.close(END_OF_FILE)

    with pytest.raises(OutputError, match=f"{path}: the file has been deleted"):
        run(main())


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_read_only_folder_is_refused(tmp_path: Path) -> None:
    tmp_path.chmod(0o500)
    try:
        with pytest.raises(OutputError, match="permission denied"):
            ResultsFile.open(tmp_path / "results.jsonl")
    finally:
        tmp_path.chmod(0o700)


@pytest.mark.parametrize("first", [True, False])
def test_output_with_rows_of_the_other_kind_is_refused(first: bool) -> None:
    for result in (reply("a"), failure("a"), invalid_line(1)):
        disk_state = DiskState()
        write_results(disk_state, replace(result, simulated=first), simulated=first)
        before = [disk_state.contents(path) for path in (OUT, ERRORS)]
        with pytest.raises(ConfigError, match="give another --out, or move it away"):
            open_results(disk_state, simulated=not first)
        assert [disk_state.contents(path) for path in (OUT, ERRORS)] == before
        write_results(disk_state, simulated=first)


@pytest.mark.parametrize(
    "data",
    [
        b'{"custom_id": "a", "body": {}}\n{"custom_id": "b", "body": {}}\n',
        b'{"id":"a","prompt":"x"}\n',
        b"notes of mine",
        b"a,b\n1,2\n",
    ],
)
def test_file_without_rows_is_refused_and_unchanged(data: bytes) -> None:
    for path in (OUT, ERRORS):
        disk_state = DiskState()
        disk_state.put(path, data)
        with pytest.raises(ConfigError, match="is not a results file"):
            open_results(disk_state)
        assert disk_state.contents(path) == data
        assert list(disk_state.names) == [path], "nothing is left beside it"


def test_refused_run_keeps_state_file_of_an_earlier_run() -> None:
    disk_state = DiskState()
    write_results(disk_state, reply("a"))
    with pytest.raises(ConfigError):
        open_results(disk_state, simulated=True)
    assert disk_state.contents(STATE) == b""


def test_state_file_deleted_before_it_is_locked_is_created_again() -> None:
    disk_state = DiskState()

    class DeletingStorage(FaultInjectingStorage):
        """Deletes the state file between its opening and its locking."""

        def open(self, path: Path, mode: OpenMode) -> MemoryFile:
            file = super().open(path, mode)
            if path == STATE and disk_state.names[STATE] is first:
                disk_state.delete(STATE)
            return file

    FaultInjectingStorage(disk_state).open(STATE, "update")
    first = disk_state.names[STATE]
    ResultsFile.open(OUT, storage=DeletingStorage(disk_state), run_in_thread=inline)
    with pytest.raises(OutputError, match="another run"):
        open_results(disk_state)
