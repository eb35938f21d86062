"""Fixtures and markers of all tests.

The marker ``process`` stands for tests that start other processes. Tests that use one of ``PROCESS_FIXTURES`` get it
here; all others state it themselves. A test without it fails when it starts a process, so that
``pytest -m "not process and not slow"`` is what it says.
"""

from __future__ import annotations

import gc
import os
import subprocess
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from hypothesis import HealthCheck, settings

from processor.core.gc_pause import GC_THRESHOLD
from processor.core.text import messages_for
from tests.support.slow_cases import mark_sampled

# Hypothesis sets no deadlines: they would measure how busy the machine is.
# In CI every run tries the same examples, so that a failure belongs to the change and can be repeated; elsewhere each
# run tries new ones. The second profile is for ``pytest -m hypothesis --hypothesis-profile=thorough``.
for _profile, _examples in {"everyday": 25, "thorough": 200}.items():
    settings.register_profile(
        _profile,
        max_examples=_examples,
        deadline=None,
        suppress_health_check=[HealthCheck.too_slow],
        derandomize="CI" in os.environ,
    )
settings.load_profile("everyday")

PROCESS_FIXTURES = frozenset({"worker_processes", "model", "embedding_model", "sample"})


@pytest.hookimpl(wrapper=True)
def pytest_collection() -> Iterator[None]:
    """Keeps the garbage collector away from what collecting the tests creates, all of which stays.

    Otherwise each full collection goes through a million objects of pytest, and tests that collect wait for it.
    Loading a command turns the collector on, but without a threshold it does not start. The tests then run with the
    threshold of a run of the program: with Python's own, collecting takes a twelfth of their time.
    """
    _, *older_generations = gc.get_threshold()
    gc.set_threshold(0)
    try:
        yield
    finally:
        gc.freeze()
        gc.set_threshold(GC_THRESHOLD, *older_generations)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    mark_sampled(items)
    for item in items:
        if PROCESS_FIXTURES.intersection(getattr(item, "fixturenames", ())):
            item.add_marker(pytest.mark.process)


@pytest.fixture(autouse=True)
def _command_line() -> Iterator[None]:
    """Names settings as the command line does, whatever a session has left that an earlier test abandoned."""
    with messages_for("command line"):
        yield


@pytest.fixture(autouse=True)
def _no_unmarked_process(request: pytest.FixtureRequest) -> Iterator[None]:
    """Fails a test that starts a process without the marker ``process``."""
    if request.node.get_closest_marker("process"):
        yield
        return
    started: list[object] = []

    def refuse(self: object, args: object, *more: object, **options: object) -> None:
        started.append(args)
        raise AssertionError("a test that starts a process needs the marker `process`")

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(subprocess.Popen, "__init__", refuse)
        yield
    assert not started, f"needs the marker `process`: it starts {started[0]}"


@pytest.fixture
def worker_processes(monkeypatch: pytest.MonkeyPatch) -> list[subprocess.Popen[bytes]]:
    """The worker processes that a test has started."""
    processes: list[subprocess.Popen[bytes]] = []

    class Popen(subprocess.Popen[bytes]):
        def __init__(self, *args: Any, **kwargs: Any) -> None:
            super().__init__(*args, **kwargs)
            processes.append(self)

    monkeypatch.setattr(subprocess, "Popen", Popen)
    return processes


@pytest.fixture
def count_garbage() -> Callable[[Callable[[], object]], int]:
    """Returns a function that counts the objects some work leaves for the garbage collector.

    What the work returns is kept alive meanwhile.
    """

    def count(work: Callable[[], object]) -> int:
        gc.collect()
        gc.disable()
        try:
            _kept = work()
            return gc.collect()
        finally:
            gc.enable()

    return count
