from __future__ import annotations

import json
import subprocess
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from processor.core.errors import ConfigError
from processor.core.job_keys import job_key, request_check
from processor.output import block_reader, scanner
from processor.output.block_reader import ScannedBlock, block_ranges, read_block, read_block_of_path, read_lines
from processor.output.index_entry import ANY_TARGET, PACKED_ENTRY, REPLIED, SIMULATED, parse_entry
from processor.output.results_file import ResultsFile
from processor.output.row_json import encode_row
from processor.output.storage import LocalStorage, StorageFile
from processor.simulator.fault_injecting_storage import DiskState, FaultInjectingStorage
from processor.simulator.virtual_clock import inline
from tests.support.results_samples import reply

PATH = Path("/out/results.jsonl")


@pytest.fixture
def small_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Make blocks smaller than lines, and reads smaller than blocks."""
    monkeypatch.setattr(block_reader, "READ_BYTES", 512)
    monkeypatch.setattr(block_reader, "LINE_END_READ_BYTES", 64)
    monkeypatch.setattr(block_reader, "BLOCK_BYTES", 1000)
    monkeypatch.setattr(scanner, "MIN_WORKER_BYTES", 1)


def file_of(data: bytes) -> StorageFile:
    disk_state = DiskState()
    disk_state.put(PATH, data)
    return FaultInjectingStorage(disk_state).open(PATH, "read")


def combined(found: list[ScannedBlock]) -> tuple[Any, ...]:
    return (
        b"".join(block.entries for block in found),
        sum(block.lines for block in found),
        sum(block.damaged for block in found),
        sum(block.not_a_row for block in found),
        [block.torn_bytes for block in found if block.torn_bytes],
        any(block.missing_newline for block in found),
    )


@given(
    st.lists(st.binary(max_size=9).map(lambda raw: raw.replace(b"\n", b"").replace(b"\r", b"")), max_size=12),
    st.booleans(),
    st.integers(1, 20),
    st.integers(1, 9),
    st.integers(1, 9),
)
def test_every_line_belongs_to_exactly_one_block_for_any_block_size(
    raws: list[bytes], ended: bool, size: int, chunk: int, rest: int
) -> None:
    data = b"\n".join(raws) + (b"\n" if ended else b"")
    monkeypatch = pytest.MonkeyPatch()
    with monkeypatch.context() as patch:
        patch.setattr(block_reader, "READ_BYTES", chunk)
        patch.setattr(block_reader, "LINE_END_READ_BYTES", rest)
        file = file_of(data)
        batches = [batch for start in range(0, len(data), size) for batch in read_lines(file, start, start + size)]
        found = [raw for batch in batches for raw in batch]
    assert found == data.splitlines(keepends=True)


def test_line_of_50_mb_is_read() -> None:
    huge = encode_row(reply("huge", "x" * 50_000_000))
    file = file_of(encode_row(reply("a")) + huge + encode_row(reply("b")))
    found = read_block(file, 0, file.size(), replies=True)
    assert list(PACKED_ENTRY.iter_unpack(found.entries)) == [
        tuple(parse_entry(raw[:-1])) for raw in (encode_row(reply("a")), huge, encode_row(reply("b")))
    ]


@pytest.mark.parametrize("raw", [b'{"id":"12', b"", b'{"id":"12\0\0\0'])
def test_beginning_of_a_row_is_not_counted_as_foreign_text(raw: bytes) -> None:
    block = read_block(file_of(raw + b"\n" + encode_row(reply("a"))), 0, 1 << 20, replies=True)
    assert (block.lines, block.damaged, block.not_a_row) == (2, bool(raw), 0)


ROW = encode_row(reply("a", "“Yes”, \\n he said", line=7))
AROUND = [encode_row(reply("before")), encode_row(reply("behind"))]


@st.composite
def damaged_rows(draw: st.DrawFn) -> bytes:
    """Draw a row with some bytes overwritten, zeroed, removed or doubled, or with one bit changed."""
    start = draw(st.integers(0, len(ROW) - 1))
    end = draw(st.integers(start + 1, min(len(ROW), start + 40)))
    piece = ROW[start:end]
    bent = [bytes([piece[0] ^ 1 << bit]) + piece[1:] for bit in range(8)]
    put = [b"", bytes(len(piece)), piece * 2, b"\n" + piece[1:], piece[:-1] + b"\n", b",", b"}", b'"', *bent]
    replacement: bytes = draw(st.sampled_from(put) | st.binary(min_size=len(piece), max_size=len(piece)))
    return ROW[:start] + replacement + ROW[end:]


def count_of(value: Any, missing: int, most: int) -> int:
    is_count = type(value) in (int, float) and value >= 0 and value == value // 1
    return min(int(value), most) if is_count else missing


def expected_entry(raw: bytes) -> tuple[Any, ...] | None:
    """Return the entry of a reply's row as the contract defines it, read with the standard library's parser."""
    try:
        row = json.loads(raw)
        status = row["response"].get("status_code")
        if type(row["response"]["body"]) is not dict or row.get("error") is not None:
            return None
        if isinstance(status, int) and status >= 400:
            return None
        name, fingerprint = row["custom_id"], row.get("id")
        return (
            job_key(str(name) if type(name) is int else name),
            bytes(4) if fingerprint is None else request_check(fingerprint),
            count_of(row.get("attempts", 1), 1, 2**16 - 1),
            REPLIED | SIMULATED * bool(row.get("simulated")),
            count_of(row.get("line", 0), 0, 2**32 - 1),
        )
    except (ValueError, KeyError, TypeError, AttributeError):
        return None


def assert_reads_as_second_parser(raw: bytes) -> None:
    data = AROUND[0] + raw + AROUND[1]
    found = read_block(file_of(data), 0, len(data), replies=True)
    lines_there = [line + b"\n" for line in data.split(b"\n")][:-1]
    assert list(PACKED_ENTRY.iter_unpack(found.entries)) == [
        entry for entry in map(expected_entry, lines_there) if entry
    ]
    wrong = [number for number, line in enumerate(lines_there, 1) if line.strip() and not expected_entry(line)]
    assert (found.damaged, found.damaged_lines) == (len(wrong), wrong)


@given(damaged_rows())
def test_damaged_row_is_read_only_where_a_second_parser_reads_the_same(raw: bytes) -> None:
    assert_reads_as_second_parser(raw)


def test_row_with_any_byte_changed_or_cut_is_read_as_a_second_parser_reads_it() -> None:
    for at, byte in enumerate(ROW):
        bent = [bytes([byte ^ 1 << bit]) for bit in range(8)]
        for other in [b"", b"\0", b"\n", b",", b"}", b'"', *bent]:
            assert_reads_as_second_parser(ROW[:at] + other + ROW[at + 1 :])
        assert_reads_as_second_parser(ROW[:at] + b"\n")
        assert_reads_as_second_parser(ROW[:at] + bytes(len(ROW) - at - 1) + b"\n")


# ---------------------------------------------------------------- large files


def sample(count: int) -> bytes:
    rows = [encode_row(reply(f"job-{number}", "x" * (number % 700), line=number)) for number in range(1, count)]
    rows[count // 2] = b'{"id":"damaged\n'
    rows.insert(count // 3, b"\n")
    return b"".join(rows) + encode_row(reply("torn"))[:77]


@pytest.mark.usefixtures("small_blocks")
def test_block_read_by_path_equals_block_read_from_open_file(tmp_path: Path) -> None:
    path = tmp_path / "results.jsonl"
    path.write_bytes(sample(300))
    with closing(LocalStorage().open(path, "read")) as file:
        alone = list(block_reader.read_blocks(file, replies=True))
        assert [read_block_of_path(path, True, ANY_TARGET, span) for span in block_ranges(file.size())] == alone
    assert combined(alone)[1:4] == (301, 1, 1)


@pytest.mark.usefixtures("small_blocks")
@pytest.mark.process
def test_large_results_file_is_opened_with_a_worker_process(tmp_path: Path) -> None:
    path = tmp_path / "results.jsonl"
    path.write_bytes(sample(300))
    journal = ResultsFile.open(path, run_in_thread=inline)
    assert journal.recovered.replied == 298
    assert journal.recovered.replies.damaged_lines == [152]
    assert journal.recovered.replies.is_torn


@pytest.mark.usefixtures("small_blocks")
def test_worker_process_ends_when_opening_is_refused(
    tmp_path: Path, worker_processes: list[subprocess.Popen[bytes]]
) -> None:
    path = tmp_path / "results.jsonl"
    path.write_bytes(sample(300))
    with pytest.raises(ConfigError):
        ResultsFile.open(path, run_in_thread=inline, simulated=True)
    assert worker_processes
    assert all(process.returncode is not None for process in worker_processes)
