"""The second process that computes a part of the results."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import closing
from functools import partial
from itertools import count
from math import isqrt
from multiprocessing.connection import Pipe
from pathlib import Path

import pytest

from processor.core import worker_process
from processor.core.worker_process import MAX_BUFFERED, MAX_PENDING, WorkerProcess, map_with_worker, serve


@pytest.fixture
def workers(monkeypatch: pytest.MonkeyPatch) -> list[WorkerProcess[int, int]]:
    """The worker processes that a test starts."""
    started: list[WorkerProcess[int, int]] = []

    class RecordedWorker(WorkerProcess[int, int]):
        def __init__(self, *arguments: object) -> None:
            super().__init__(*arguments)  # type: ignore[arg-type]
            started.append(self)

    monkeypatch.setattr(worker_process, "WorkerProcess", RecordedWorker)
    return started


def kill(worker: WorkerProcess[int, int]) -> None:
    worker._process.kill()
    worker._process.wait()


@pytest.mark.parametrize("tasks", [0, 1, 2, 1000])
@pytest.mark.process
def test_results_equal_those_of_map(tasks: int) -> None:
    assert list(map_with_worker(isqrt, range(tasks))) == list(map(isqrt, range(tasks)))


PID_AFTER_A_MOMENT = "__import__('time').sleep(0.005) or __import__('os').getpid()"


@pytest.mark.process
def test_both_processes_compute_results(workers: list[WorkerProcess[int, int]]) -> None:
    # The second process does not look for modules in the working folder, so the work must be none of this file's.
    pids = set(map_with_worker(eval, [PID_AFTER_A_MOMENT] * 600))
    assert pids == {os.getpid(), workers[0]._process.pid}


@pytest.mark.process
def test_both_processes_read_an_open_file(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(bytes(range(200)))
    with path.open("rb") as file:
        path.unlink()
        work = partial(os.pread, file.fileno(), 1)
        assert b"".join(map_with_worker(work, range(200), file_descriptors=[file.fileno()])) == bytes(range(200))


@pytest.mark.process
def test_items_are_taken_only_a_bounded_number_ahead() -> None:
    taken = 0

    def items() -> Iterator[int]:
        nonlocal taken
        for number in count():
            taken += 1
            yield number

    with closing(map_with_worker(isqrt, items())) as results:
        for number, _ in enumerate(results):
            assert taken <= number + 1 + MAX_PENDING + MAX_BUFFERED + 1
            if number == 100:
                break


@pytest.mark.process
def test_stopped_worker_does_not_change_the_results(workers: list[WorkerProcess[int, int]]) -> None:
    with closing(map_with_worker(isqrt, count())) as results:
        assert next(results) == 0
        os.kill(workers[0]._process.pid, signal.SIGSTOP)
        threading.Timer(0.2, os.kill, (workers[0]._process.pid, signal.SIGCONT)).start()
        assert [next(results) for _ in range(1000)] == [isqrt(number) for number in range(1, 1001)]


@pytest.mark.parametrize("results", [0, 1, 5])
@pytest.mark.process
def test_items_of_a_killed_worker_are_processed_here(workers: list[WorkerProcess[int, int]], results: int) -> None:
    found = []
    for number, result in enumerate(map_with_worker(isqrt, range(50))):
        if number == results:
            kill(workers[0])
        found.append(result)
    assert found == list(map(isqrt, range(50)))


@pytest.mark.parametrize("lack", ["interpreter", "second cpu", "cpu count"])
@pytest.mark.process
def test_all_items_are_processed_here_where_no_worker_can_start(monkeypatch: pytest.MonkeyPatch, lack: str) -> None:
    if lack == "interpreter":
        monkeypatch.setattr(sys, "executable", "/nowhere/python")
    elif lack == "second cpu":
        monkeypatch.setattr(os, "sched_getaffinity", lambda _: {0})
    else:
        monkeypatch.delattr(os, "sched_getaffinity")
        monkeypatch.setattr(os, "cpu_count", lambda: None)
    monkeypatch.setattr(WorkerProcess, "submit", None)
    assert list(map_with_worker(isqrt, range(9))) == list(map(isqrt, range(9)))


@pytest.mark.process
def test_exception_of_the_work_is_raised_here() -> None:
    with pytest.raises(ValueError, match="nonnegative"):
        list(map_with_worker(isqrt, [1, 2, -3, 4]))


def test_closing_the_generator_ends_the_worker(worker_processes: list[subprocess.Popen[bytes]]) -> None:
    with closing(map_with_worker(isqrt, count())) as results:
        next(results)
    assert [process.returncode for process in worker_processes] == [-signal.SIGKILL]


def test_serve_sends_results_until_the_connection_closes() -> None:
    connection, remote = Pipe()
    thread = threading.Thread(target=serve, args=(remote,))
    thread.start()
    connection.send(isqrt)
    connection.send(16)
    assert connection.recv() == 4
    connection.close()
    thread.join(5)
    assert not thread.is_alive()


@pytest.mark.process
def test_lost_worker_returns_all_pending_items_and_accepts_no_more() -> None:
    worker: WorkerProcess[int, int] = WorkerProcess(isqrt)
    kill(worker)
    numbered = enumerate(range(MAX_PENDING + 6))
    worker.submit(numbered)
    assert worker.next_result() == {number: isqrt(number) for number in range(MAX_PENDING)}
    worker.submit(numbered)
    assert not worker.has_pending
    worker.stop()
