"""For all tests: hypothesis sets no deadlines. They would measure how busy the machine is."""

from __future__ import annotations

import gc
import subprocess
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import HealthCheck, settings

from processor.core import worker_process

settings.register_profile("unhurried", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("unhurried")


@pytest.fixture
def started(monkeypatch: pytest.MonkeyPatch) -> list[subprocess.Popen[bytes]]:
    """The second processes that a test has started."""
    processes: list[subprocess.Popen[bytes]] = []

    class Popen(subprocess.Popen[bytes]):
        def __init__(self, *args: Any, **kwargs: Any) -> None:
            super().__init__(*args, **kwargs)
            processes.append(self)

    monkeypatch.setattr(worker_process.subprocess, "Popen", Popen)
    return processes


@pytest.fixture
def swept() -> Callable[[Callable[[], object]], int]:
    """How many objects some work leaves that only the garbage collector finds. What it returns is kept meanwhile."""

    def count(work: Callable[[], object]) -> int:
        gc.collect()
        gc.disable()
        try:
            _kept = work()
            return gc.collect()
        finally:
            gc.enable()

    return count
