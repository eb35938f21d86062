"""A second process shares the work, and changes nothing about its outcome."""

from __future__ import annotations

import os
import signal
import subprocess
import threading
from collections.abc import Iterator
from contextlib import closing
from functools import partial
from itertools import count
from math import isqrt
from multiprocessing.connection import Pipe
from pathlib import Path
from time import sleep

import pytest

from processor.core import worker_process
from processor.core.worker_process import MAX_BUFFERED, MAX_PENDING, WorkerProcess, map_with_worker, serve


@pytest.fixture
def helpers(monkeypatch: pytest.MonkeyPatch) -> list[WorkerProcess[int, int]]:
    """Those that were started."""
    started: list[WorkerProcess[int, int]] = []

    class Known(WorkerProcess[int, int]):
        def __init__(self, *arguments: object) -> None:
            super().__init__(*arguments)  # type: ignore[arg-type]
            started.append(self)

    monkeypatch.setattr(worker_process, "WorkerProcess", Known)
    return started


def kill(helper: WorkerProcess[int, int]) -> None:
    helper._process.kill()
    helper._process.wait()


@pytest.mark.parametrize("tasks", [0, 1, 2, 1000])
@pytest.mark.process
def test_the_answers_are_those_of_map(tasks: int) -> None:
    assert list(map_with_worker(isqrt, range(tasks))) == list(map(isqrt, range(tasks)))


@pytest.mark.process
def test_both_processes_work(helpers: list[WorkerProcess[int, int]]) -> None:
    pids = set(map_with_worker(_pid_after_a_moment, range(100)))
    assert pids == {os.getpid(), helpers[0]._process.pid}


def _pid_after_a_moment(_: int) -> int:
    sleep(0.005)
    return os.getpid()


@pytest.mark.process
def test_an_open_file_is_read_in_both(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(bytes(range(200)))
    with path.open("rb") as file:
        path.unlink()
        work = partial(os.pread, file.fileno(), 1)
        assert b"".join(map_with_worker(work, range(200), file_descriptors=[file.fileno()])) == bytes(range(200))


@pytest.mark.process
def test_tasks_are_taken_only_as_they_are_needed() -> None:
    taken = 0

    def tasks() -> Iterator[int]:
        nonlocal taken
        for number in count():
            taken += 1
            yield number

    with closing(map_with_worker(isqrt, tasks())) as answers:
        for number, _ in enumerate(answers):
            assert taken <= number + 1 + MAX_PENDING + MAX_BUFFERED + 1
            if number == 100:
                break


@pytest.mark.process
def test_answers_do_not_pile_up_behind_a_slow_helper(helpers: list[WorkerProcess[int, int]]) -> None:
    with closing(map_with_worker(isqrt, count())) as answers:
        assert next(answers) == 0
        os.kill(helpers[0]._process.pid, signal.SIGSTOP)
        threading.Timer(0.2, os.kill, (helpers[0]._process.pid, signal.SIGCONT)).start()
        assert [next(answers) for _ in range(1000)] == [isqrt(number) for number in range(1, 1001)]


@pytest.mark.parametrize("answers", [0, 1, 5])
@pytest.mark.process
def test_where_the_helper_dies_its_work_is_done_here(helpers: list[WorkerProcess[int, int]], answers: int) -> None:
    found = []
    for number, answer in enumerate(map_with_worker(isqrt, range(50))):
        if number == answers:
            kill(helpers[0])
        found.append(answer)
    assert found == list(map(isqrt, range(50)))


@pytest.mark.parametrize("lack", ["interpreter", "processors", "anything known of processors"])
@pytest.mark.process
def test_where_there_can_be_no_helper_all_is_done_here(monkeypatch: pytest.MonkeyPatch, lack: str) -> None:
    if lack == "interpreter":
        monkeypatch.setattr(worker_process.sys, "executable", "/nowhere/python")
    elif lack == "processors":
        monkeypatch.setattr(worker_process.os, "sched_getaffinity", lambda _: {0})
    else:
        monkeypatch.delattr(worker_process.os, "sched_getaffinity")
        monkeypatch.setattr(worker_process.os, "cpu_count", lambda: None)
    monkeypatch.setattr(WorkerProcess, "submit", None)
    assert list(map_with_worker(isqrt, range(9))) == list(map(isqrt, range(9)))


@pytest.mark.process
def test_what_fails_in_the_helper_fails_here() -> None:
    with pytest.raises(ValueError, match="nonnegative"):
        list(map_with_worker(isqrt, [1, 2, -3, 4]))


def test_no_process_is_left_behind(worker_processes: list[subprocess.Popen[bytes]]) -> None:
    with closing(map_with_worker(isqrt, count())) as answers:
        next(answers)
    assert [process.returncode for process in worker_processes] == [-signal.SIGKILL]


def test_the_helper_answers_until_it_is_left() -> None:
    ours, theirs = Pipe()
    thread = threading.Thread(target=serve, args=(theirs,))
    thread.start()
    ours.send(isqrt)
    ours.send(16)
    assert ours.recv() == 4
    ours.close()
    thread.join(5)
    assert not thread.is_alive()


@pytest.mark.process
def test_a_helper_that_is_gone_gives_up_what_it_was_asked_for() -> None:
    helper: WorkerProcess[int, int] = WorkerProcess(isqrt)
    kill(helper)
    todo = enumerate(range(MAX_PENDING + 6))
    helper.submit(todo)
    assert helper.next_result() == {number: isqrt(number) for number in range(MAX_PENDING)}
    helper.submit(todo)
    assert not helper.has_pending
    helper.stop()
