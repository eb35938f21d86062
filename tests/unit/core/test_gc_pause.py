"""The collector rests while large values are built, and goes on as it was."""

from __future__ import annotations

import asyncio
import gc
from collections.abc import Iterator

import pytest

from processor.core.gc_pause import gc_paused, in_thread_without_gc, resume_gc


@pytest.fixture(autouse=True)
def collector_is_on_afterwards() -> Iterator[None]:
    gc.enable()
    yield
    gc.enable()


def test_overlapping_pauses_end_with_the_last() -> None:
    first, second = gc_paused(), gc_paused()
    first.__enter__()
    second.__enter__()
    first.__exit__(None, None, None)
    assert not gc.isenabled()
    second.__exit__(None, None, None)
    assert gc.isenabled()


def test_collector_that_was_off_stays_off() -> None:
    gc.disable()
    with gc_paused():
        assert not gc.isenabled()
    assert not gc.isenabled()


def test_work_in_a_thread_that_fails_ends_the_pause() -> None:
    def fail() -> None:
        assert not gc.isenabled()
        raise ValueError

    with pytest.raises(ValueError):
        asyncio.run(in_thread_without_gc(fail))
    assert gc.isenabled()


def test_embedding_program_keeps_its_collector_as_it_is() -> None:
    frozen = gc.get_freeze_count()
    resume_gc()
    assert gc.get_freeze_count() == frozen
