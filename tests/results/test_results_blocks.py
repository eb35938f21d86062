from __future__ import annotations

import os
import signal
import threading
from collections import deque
from multiprocessing.connection import Pipe
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from results_samples import failure, reply

from processor.results import blocks, helper
from processor.results.blocks import Block, lines, read_block
from processor.results.disk import RealDisk
from processor.results.entries import PACKED, read_entry
from processor.results.helper import Helper, helper_for, serve
from processor.results.journal import Journal
from processor.results.rows import encode
from processor.simulator.clock import inline
from processor.simulator.disk import MemoryDisk, Platter

PATH = Path("/out/results.jsonl")


@pytest.fixture
def small_blocks(monkeypatch):
    """So small that lines are longer than blocks, and blocks than chunks."""
    monkeypatch.setattr(blocks, "CHUNK_BYTES", 512)
    monkeypatch.setattr(blocks, "REST_BYTES", 64)
    monkeypatch.setattr(helper, "BLOCK_BYTES", 1000)
    monkeypatch.setattr(helper, "WORTH_IT_BYTES", 1)


def file_of(data: bytes):
    platter = Platter()
    platter.put(PATH, data)
    return MemoryDisk(platter).open(PATH, "read")


def together(found: list[Block]) -> tuple:
    return (
        b"".join(block.entries for block in found),
        sum(block.lines for block in found),
        sum(block.damaged for block in found),
        sum(block.foreign for block in found),
        [block.torn_bytes for block in found if block.torn_bytes],
        any(block.unended for block in found),
    )


@settings(max_examples=200, deadline=None)
@given(
    st.lists(st.binary(max_size=9).map(lambda raw: raw.replace(b"\n", b"")), max_size=12),
    st.booleans(),
    st.integers(1, 20),
    st.integers(1, 9),
    st.integers(1, 9),
)
def test_every_line_belongs_to_exactly_one_block_wherever_the_blocks_begin(raws, ended, size, chunk, rest):
    data = b"\n".join(raws) + (b"\n" if ended else b"")
    monkeypatch = pytest.MonkeyPatch()
    with monkeypatch.context() as patch:
        patch.setattr(blocks, "CHUNK_BYTES", chunk)
        patch.setattr(blocks, "REST_BYTES", rest)
        file = file_of(data)
        found = [
            (raw, ended)
            for start in range(0, len(data), size)
            for batch, ended in lines(file, start, start + size)
            for raw in batch
        ]
    expected = [(raw, True) for raw in data.split(b"\n")[:-1]]
    if last := data.split(b"\n")[-1]:
        expected.append((last, False))
    assert found == expected


def test_a_line_of_50_mb_is_no_trouble():
    huge = encode(reply("huge", "x" * 50_000_000))
    file = file_of(encode(reply("a")) + huge + encode(reply("b")))
    found = read_block(file, 0, file.size(), replies=True)
    assert list(PACKED.iter_unpack(found.entries)) == [
        tuple(read_entry(raw[:-1])) for raw in (encode(reply("a")), huge, encode(reply("b")))
    ]


# ---------------------------------------------------------------- the second process


def sample(count: int) -> bytes:
    rows = [encode(reply(f"job-{number}", "x" * (number % 700), line=number)) for number in range(1, count)]
    rows[count // 2] = b'{"id":"damaged\n'
    rows.insert(count // 3, b"\n")
    return b"".join(rows) + encode(reply("torn"))[:77]


@pytest.mark.usefixtures("small_blocks")
def test_with_and_without_a_helper_the_same_is_read(tmp_path):
    path = tmp_path / "results.jsonl"
    path.write_bytes(sample(300))
    file = RealDisk().open(path, "read")
    alone = list(helper.blocks(file, None, replies=True))
    second = helper_for(path, file.size(), replies=True)
    assert second is not None
    try:
        assert together(list(helper.blocks(file, second, replies=True))) == together(alone)
    finally:
        second.dismiss()
        file.close()
    assert together(alone)[1:4] == (301, 1, 1)


@pytest.mark.usefixtures("small_blocks")
def test_the_journal_is_opened_with_a_helper_where_the_file_is_large(tmp_path):
    path = tmp_path / "results.jsonl"
    path.write_bytes(sample(300))
    journal = Journal(path, offload=inline)
    assert journal.replied == 298
    assert journal.found[path].damaged_lines == [152]
    assert journal.found[path].torn


@pytest.mark.usefixtures("small_blocks")
@pytest.mark.parametrize("answers", [0, 1, 5])
def test_where_the_helper_dies_its_blocks_are_read_here(tmp_path, answers):
    path = tmp_path / "results.jsonl"
    path.write_bytes(sample(100))
    file = RealDisk().open(path, "read")
    second = Helper(path, replies=True)
    found = []
    for number, block in enumerate(helper.blocks(file, second, replies=True)):
        if number == answers:
            os.kill(second._process.pid, signal.SIGKILL)
            second._process.wait()
        found.append(block)
    second.dismiss()
    assert together(found) == together(list(helper.blocks(file, None, replies=True)))
    file.close()


def test_without_an_interpreter_there_is_no_helper(monkeypatch, tmp_path):
    monkeypatch.setattr(helper.sys, "executable", str(tmp_path / "none"))
    assert helper_for(tmp_path / "r", 1 << 40, replies=True) is None


def test_a_small_file_or_a_single_processor_is_read_alone(monkeypatch, tmp_path):
    assert helper_for(tmp_path / "r", 1 << 20, replies=True) is None
    monkeypatch.setattr(helper.os, "sched_getaffinity", lambda _: {0})
    assert helper_for(tmp_path / "r", 1 << 40, replies=True) is None
    monkeypatch.delattr(helper.os, "sched_getaffinity")
    monkeypatch.setattr(helper.os, "cpu_count", lambda: None)
    assert helper_for(tmp_path / "r", 1 << 40, replies=True) is None


def test_the_helper_answers_until_it_is_left():
    ours, theirs = Pipe()
    file = file_of(encode(failure("a")))
    thread = threading.Thread(target=serve, args=(theirs, file), kwargs={"replies": False})
    thread.start()
    ours.send((0, 1 << 20))
    assert ours.recv() == read_block(file, 0, 1 << 20, replies=False)
    ours.close()
    thread.join(5)
    assert not thread.is_alive()


def test_a_helper_that_is_gone_gives_back_what_it_was_asked_for(tmp_path):
    path = tmp_path / "results.jsonl"
    path.write_bytes(b"")
    second = Helper(path, replies=True)
    second._process.kill()
    second._process.wait()
    todo = deque([1, 2, 3, 4, 5])
    second.ask(todo)
    assert second.answer(todo) == {}
    assert todo == deque([1, 2, 3, 4, 5])
    second.ask(todo)
    assert len(todo) == 5
    second.dismiss()
