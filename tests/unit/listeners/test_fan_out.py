"""One listener that calls many."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable

import pytest

from processor.core.events import Notice, RunEvent, Stopping
from processor.listeners.fan_out import FanOut

EVENT = Notice(at=1.0, text="an event")


class BrokenListener:
    def __init__(self) -> None:
        self.calls = 0

    def __call__(self, event: RunEvent) -> None:
        self.calls += 1
        raise ValueError("bug")


def emitted(fan_out: FanOut, *events: RunEvent) -> None:
    async def main() -> None:
        for event in events:
            fan_out.emit(event)

    asyncio.run(main())


def test_listeners_are_called_in_order_with_external_ones_last() -> None:
    calls: list[str] = []
    fan_out = FanOut(
        [lambda _: calls.append("first"), lambda _: calls.append("second")],
        external=[lambda _: calls.append("external")],
    )
    emitted(fan_out, EVENT)
    assert calls == ["first", "second", "external"]


def test_exception_of_an_own_listener_is_raised() -> None:
    broken = BrokenListener()
    with pytest.raises(ValueError, match="bug"):
        emitted(FanOut([broken]), EVENT)


def test_external_listener_that_raises_is_dropped_and_the_others_are_told(caplog: pytest.LogCaptureFixture) -> None:
    own: list[RunEvent] = []
    external: list[RunEvent] = []
    broken = BrokenListener()
    with caplog.at_level(logging.ERROR, logger="processor"):
        emitted(FanOut([own.append], external=[broken, external.append]), EVENT, EVENT)
    assert broken.calls == 1
    texts = [event.text for event in own if isinstance(event, Notice)]
    assert texts == ["an event", "listener BrokenListener raised ValueError: bug; it is not called again", "an event"]
    assert external.count(EVENT) == 2
    assert len(caplog.records) == 1


class NoticeListener:
    event_types = (Notice,)

    def __init__(self) -> None:
        self.events: list[RunEvent] = []

    def __call__(self, event: RunEvent) -> None:
        self.events.append(event)


class HandlingListener(NoticeListener):
    def handler_of(self, kind: type[RunEvent]) -> Callable[[RunEvent], None] | None:
        return self.events.append if kind is Stopping else None


def test_listener_with_handlers_gets_the_events_that_it_has_one_for() -> None:
    listener, stopping = HandlingListener(), Stopping(at=2.0, reason="a test")
    emitted(FanOut([listener]), EVENT, stopping, stopping)
    assert listener.events == [stopping, stopping]


def test_listener_that_names_event_types_gets_no_others() -> None:
    named, other = NoticeListener(), list[RunEvent]()
    stopping = Stopping(at=2.0, reason="a test")
    emitted(FanOut([named, other.append]), EVENT, stopping, EVENT)
    assert named.events == [EVENT, EVENT]
    assert other == [EVENT, stopping, EVENT]
