from __future__ import annotations

import os
import signal
import threading
from collections import deque
from contextlib import closing
from multiprocessing.connection import Pipe
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from results_samples import failure, reply

from processor.errors import ConfigError
from processor.results import blocks, helper, scan
from processor.results.blocks import Block, lines, read_block
from processor.results.disk import RealDisk
from processor.results.entries import PACKED, read_entry
from processor.results.helper import Helper, serve
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
    monkeypatch.setattr(blocks, "BLOCK_BYTES", 1000)
    monkeypatch.setattr(scan, "WORTH_A_HELPER_BYTES", 1)


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


def read_alone(path: Path) -> list[Block]:
    with closing(RealDisk().open(path, "read")) as file:
        return list(blocks.blocks(file, replies=True))


def read_with_help(path: Path) -> list[Block]:
    with closing(RealDisk().open(path, "read")) as file:
        return list(helper.blocks_with_help(path, file, replies=True))


@pytest.mark.usefixtures("small_blocks")
def test_with_and_without_a_helper_the_same_is_read(tmp_path):
    path = tmp_path / "results.jsonl"
    path.write_bytes(sample(300))
    assert read_with_help(path) == read_alone(path)
    assert together(read_alone(path))[1:4] == (301, 1, 1)


@pytest.mark.usefixtures("small_blocks")
def test_the_journal_is_opened_with_a_helper_where_the_file_is_large(tmp_path):
    path = tmp_path / "results.jsonl"
    path.write_bytes(sample(300))
    journal = Journal(path, offload=inline)
    assert journal.replied == 298
    assert journal.found[path].damaged_lines == [152]
    assert journal.found[path].torn


@pytest.mark.usefixtures("small_blocks")
def test_a_helper_is_sent_away_when_the_file_turns_out_to_be_of_another_kind(tmp_path):
    path = tmp_path / "results.jsonl"
    path.write_bytes(sample(300))
    with pytest.raises(ConfigError):
        Journal(path, offload=inline, simulated=True)
    with pytest.raises(ChildProcessError):
        os.waitpid(-1, os.WNOHANG)


@pytest.mark.usefixtures("small_blocks")
@pytest.mark.parametrize("answers", [0, 1, 5])
def test_where_the_helper_dies_its_blocks_are_read_here(tmp_path, monkeypatch, answers):
    path = tmp_path / "results.jsonl"
    path.write_bytes(sample(100))
    started = []

    class Mortal(Helper):
        def __init__(self, path, *, replies):
            super().__init__(path, replies=replies)
            started.append(self)

    monkeypatch.setattr(helper, "Helper", Mortal)
    found = []
    with closing(RealDisk().open(path, "read")) as file:
        for number, block in enumerate(helper.blocks_with_help(path, file, replies=True)):
            if number == answers:
                os.kill(started[0]._process.pid, signal.SIGKILL)
                started[0]._process.wait()
            found.append(block)
    assert found == read_alone(path)


@pytest.mark.usefixtures("small_blocks")
@pytest.mark.parametrize("lack", ["interpreter", "processors", "anything known of processors"])
def test_where_there_can_be_no_helper_all_is_read_here(tmp_path, monkeypatch, lack):
    path = tmp_path / "results.jsonl"
    path.write_bytes(sample(20))
    if lack == "interpreter":
        monkeypatch.setattr(helper.sys, "executable", str(tmp_path / "none"))
    elif lack == "processors":
        monkeypatch.setattr(helper.os, "sched_getaffinity", lambda _: {0})
    else:
        monkeypatch.delattr(helper.os, "sched_getaffinity")
        monkeypatch.setattr(helper.os, "cpu_count", lambda: None)
    monkeypatch.setattr(Helper, "ask", None)
    assert read_with_help(path) == read_alone(path)


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
    todo = deque((number, number + 1) for number in range(5))
    second.ask(todo)
    assert second.answer(todo) == {}
    second.ask(todo)
    assert todo == deque((number, number + 1) for number in range(5))
    second.dismiss()
