from __future__ import annotations

import json
from contextlib import closing
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from processor.core.errors import ConfigError
from processor.core.job_keys import job_key, request_check
from processor.output import block_reader, scanner
from processor.output.block_reader import ScannedBlock, block_ranges, read_block, read_block_of_path, read_lines
from processor.output.index_entry import PACKED_ENTRY, REPLIED, SIMULATED, parse_entry
from processor.output.results_file import ResultsFile
from processor.output.row_json import encode_row
from processor.output.storage import LocalStorage
from processor.simulator.fault_injecting_storage import DiskState, FaultInjectingStorage
from processor.simulator.virtual_clock import inline
from tests.support.results_samples import reply

PATH = Path("/out/results.jsonl")


@pytest.fixture
def small_blocks(monkeypatch):
    """So small that lines are longer than blocks, and blocks than chunks."""
    monkeypatch.setattr(block_reader, "READ_BYTES", 512)
    monkeypatch.setattr(block_reader, "LINE_END_READ_BYTES", 64)
    monkeypatch.setattr(block_reader, "BLOCK_BYTES", 1000)
    monkeypatch.setattr(scanner, "MIN_WORKER_BYTES", 1)


def file_of(data: bytes):
    platter = DiskState()
    platter.put(PATH, data)
    return FaultInjectingStorage(platter).open(PATH, "read")


def together(found: list[ScannedBlock]) -> tuple:
    return (
        b"".join(block.entries for block in found),
        sum(block.lines for block in found),
        sum(block.damaged for block in found),
        sum(block.not_a_row for block in found),
        [block.torn_bytes for block in found if block.torn_bytes],
        any(block.missing_newline for block in found),
    )


@settings(max_examples=200, deadline=None)
@given(
    st.lists(st.binary(max_size=9).map(lambda raw: raw.replace(b"\n", b"").replace(b"\r", b"")), max_size=12),
    st.booleans(),
    st.integers(1, 20),
    st.integers(1, 9),
    st.integers(1, 9),
)
def test_every_line_belongs_to_exactly_one_block_wherever_the_blocks_begin(raws, ended, size, chunk, rest):
    data = b"\n".join(raws) + (b"\n" if ended else b"")
    monkeypatch = pytest.MonkeyPatch()
    with monkeypatch.context() as patch:
        patch.setattr(block_reader, "READ_BYTES", chunk)
        patch.setattr(block_reader, "LINE_END_READ_BYTES", rest)
        file = file_of(data)
        batches = [batch for start in range(0, len(data), size) for batch in read_lines(file, start, start + size)]
        found = [raw for batch in batches for raw in batch]
    assert found == data.splitlines(keepends=True)


def test_a_line_of_50_mb_is_no_trouble():
    huge = encode_row(reply("huge", "x" * 50_000_000))
    file = file_of(encode_row(reply("a")) + huge + encode_row(reply("b")))
    found = read_block(file, 0, file.size(), replies=True)
    assert list(PACKED_ENTRY.iter_unpack(found.entries)) == [
        tuple(parse_entry(raw[:-1])) for raw in (encode_row(reply("a")), huge, encode_row(reply("b")))
    ]


@pytest.mark.parametrize("raw", [b'{"id":"12', b"", b'{"id":"12\0\0\0'])
def test_what_is_left_of_a_row_is_not_taken_for_another_file(raw):
    block = read_block(file_of(raw + b"\n" + encode_row(reply("a"))), 0, 1 << 20, replies=True)
    assert (block.lines, block.damaged, block.not_a_row) == (2, bool(raw), 0)


ROW = encode_row(reply("a", "“Yes”, \\n he said", line=7))
AROUND = [encode_row(reply("before")), encode_row(reply("behind"))]


@st.composite
def damaged(draw) -> bytes:
    """A row with a stretch of it overwritten, zeroed, cut out or doubled, or a byte of it changed."""
    start = draw(st.integers(0, len(ROW) - 1))
    end = draw(st.integers(start + 1, min(len(ROW), start + 40)))
    piece = ROW[start:end]
    bent = [bytes([piece[0] ^ 1 << bit]) + piece[1:] for bit in range(8)]
    put = [b"", bytes(len(piece)), piece * 2, b"\n" + piece[1:], piece[:-1] + b"\n", b",", b"}", b'"', *bent]
    other = draw(st.sampled_from(put) | st.binary(min_size=len(piece), max_size=len(piece)))
    return ROW[:start] + other + ROW[end:]


def judged(raw: bytes) -> tuple | None:
    """From the words of the contract, by a parser that builds all of the row and is not ours."""
    try:
        row = json.loads(raw)
        row["response"]["body"]
        attempts, line = row["attempts"], row["line"]
        if row["error"] is not None or not type(attempts) is type(line) is int or min(attempts, line) < 0:
            return None
        flags = REPLIED | SIMULATED * ("simulated" in row)
        return (
            job_key(row["custom_id"]),
            request_check(row["id"]),
            min(attempts, 2**16 - 1),
            flags,
            min(line, 2**32 - 1),
        )
    except (ValueError, KeyError, TypeError, AttributeError):
        return None


def assert_only_rows_are_taken(raw: bytes) -> None:
    data = AROUND[0] + raw + AROUND[1]
    found = read_block(file_of(data), 0, len(data), replies=True)
    lines_there = [line + b"\n" for line in data.split(b"\n")][:-1]
    assert list(PACKED_ENTRY.iter_unpack(found.entries)) == [entry for entry in map(judged, lines_there) if entry]
    wrong = [number for number, line in enumerate(lines_there, 1) if line.strip() and not judged(line)]
    assert (found.damaged, found.damaged_lines) == (len(wrong), wrong)


@settings(max_examples=200, deadline=None)
@given(damaged())
def test_of_damaged_rows_only_those_are_taken_that_another_parser_takes_for_the_same(raw):
    assert_only_rows_are_taken(raw)


def test_so_it_is_for_every_byte_that_is_changed_or_lost_and_wherever_a_row_is_cut():
    for at, byte in enumerate(ROW):
        bent = [bytes([byte ^ 1 << bit]) for bit in range(8)]
        for other in [b"", b"\0", b"\n", b",", b"}", b'"', *bent]:
            assert_only_rows_are_taken(ROW[:at] + other + ROW[at + 1 :])
        assert_only_rows_are_taken(ROW[:at] + b"\n")
        assert_only_rows_are_taken(ROW[:at] + bytes(len(ROW) - at - 1) + b"\n")


# ---------------------------------------------------------------- large files


def sample(count: int) -> bytes:
    rows = [encode_row(reply(f"job-{number}", "x" * (number % 700), line=number)) for number in range(1, count)]
    rows[count // 2] = b'{"id":"damaged\n'
    rows.insert(count // 3, b"\n")
    return b"".join(rows) + encode_row(reply("torn"))[:77]


@pytest.mark.usefixtures("small_blocks")
def test_a_part_of_a_file_reads_the_same_in_any_process(tmp_path):
    path = tmp_path / "results.jsonl"
    path.write_bytes(sample(300))
    with closing(LocalStorage().open(path, "read")) as file:
        alone = list(block_reader.read_blocks(file, replies=True))
        assert [read_block_of_path(path, True, span) for span in block_ranges(file.size())] == alone
    assert together(alone)[1:4] == (301, 1, 1)


@pytest.mark.usefixtures("small_blocks")
@pytest.mark.process
def test_a_journal_with_a_large_file_is_opened_as_any_other(tmp_path):
    path = tmp_path / "results.jsonl"
    path.write_bytes(sample(300))
    journal = ResultsFile.open(path, run_in_thread=inline)
    assert journal.recovered.replied == 298
    assert journal.recovered.replies.damaged_lines == [152]
    assert journal.recovered.replies.is_torn


@pytest.mark.usefixtures("small_blocks")
def test_no_second_process_is_left_when_the_file_turns_out_to_be_of_another_kind(tmp_path, worker_processes):
    path = tmp_path / "results.jsonl"
    path.write_bytes(sample(300))
    with pytest.raises(ConfigError):
        ResultsFile.open(path, run_in_thread=inline, simulated=True)
    assert worker_processes
    assert all(process.returncode is not None for process in worker_processes)
