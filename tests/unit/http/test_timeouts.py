"""The deadlines of one request, on the virtual clock."""

from __future__ import annotations

import asyncio
import time
from typing import Any

import pytest

from processor.core.errors import StreamStalled, Timeout, TransportError
from processor.core.models import Timeouts
from processor.http import timeouts
from processor.http.timeouts import CONFIRM_S, Deadlines, DeadlineTimer
from processor.simulator.virtual_clock import run

TIMEOUTS = Timeouts(first_byte_timeout_s=600, stall_timeout_s=120, request_timeout_s=3600)


async def expiry(*gaps_s: float, cap_s: float | None = None) -> tuple[float, TransportError]:
    """When a request expires whose bytes come after these gaps, and then no more; and the error."""
    loop = asyncio.get_running_loop()
    began = loop.time()
    expired = asyncio.Event()
    deadlines = Deadlines(DeadlineTimer(TIMEOUTS, loop), began, expired.set)

    async def receive() -> None:
        for gap_s in gaps_s:
            await asyncio.sleep(gap_s)
            deadlines.on_bytes()
        if cap_s is not None:
            deadlines.cap(cap_s)

    receiving = asyncio.create_task(receive())
    await expired.wait()
    receiving.cancel()
    assert deadlines.expired
    return loop.time() - began, deadlines.error()


@pytest.mark.parametrize(
    ("gaps_s", "cap_s", "expires_s", "cls", "message"),
    [
        ((), None, 600, Timeout, "no first byte within 600 s"),
        ((10,), None, 130, StreamStalled, "silence for 120 s in the middle of the reply"),
        ((130,), None, 250, StreamStalled, "silence for 120 s"),
        ((599,), None, 719, StreamStalled, "silence for 120 s"),
        ((1, 119, 119), None, 359, StreamStalled, "silence for 120 s"),
        ((100,) * 40, None, 3600, Timeout, "no whole reply within 3600 s"),
        ((5,), 10, 15, Timeout, "no whole reply"),
        ((), 1e9, 600, Timeout, "no first byte"),
    ],
)
def test_request_expires_after_too_long_a_silence_or_duration(
    gaps_s: tuple[float, ...], cap_s: float | None, expires_s: float, cls: type, message: str
) -> None:
    duration_s, error = run(expiry(*gaps_s, cap_s=cap_s))
    assert duration_s == pytest.approx(expires_s + CONFIRM_S, abs=0.01)
    assert type(error) is cls
    assert str(error).startswith(message)


def test_one_timer_is_set_however_many_requests_there_are_and_bytes_come() -> None:
    async def main() -> int:
        loop = asyncio.get_running_loop()
        timers = 0
        call_at = loop.call_at

        def counting(*args: Any, **options: Any) -> asyncio.TimerHandle:
            nonlocal timers
            timers += 1
            return call_at(*args, **options)

        timer = DeadlineTimer(TIMEOUTS, loop)
        loop.call_at = counting  # type: ignore[assignment, method-assign]
        for _ in range(100):
            deadlines = Deadlines(timer, loop.time(), lambda: None)
            for _ in range(100):
                deadlines.on_bytes()
            deadlines.stop()
        loop.call_at = call_at  # type: ignore[method-assign]
        timer.close()
        return timers

    assert run(main()) == 1


def test_each_request_expires_by_its_own_deadline() -> None:
    """The first gets no bytes, the second one byte; the third ends before it could expire."""

    async def main() -> list[tuple[str, float]]:
        loop = asyncio.get_running_loop()
        began, expired = loop.time(), []
        timer = DeadlineTimer(TIMEOUTS, loop)

        def begin(name: str) -> Deadlines:
            return Deadlines(timer, loop.time(), lambda: expired.append((name, round(loop.time() - began, 3))))

        begin("silent")
        await asyncio.sleep(10)
        stalled, ended = begin("stalled"), begin("ended")
        await asyncio.sleep(90)
        stalled.on_bytes()
        ended.on_bytes()
        await asyncio.sleep(1)
        ended.stop()
        await asyncio.sleep(3600)
        return expired

    assert run(main()) == [("stalled", 220 + CONFIRM_S), ("silent", 600 + CONFIRM_S)]


def test_few_checks_are_made_of_deadlines_that_pass_one_shortly_after_the_other() -> None:
    async def main() -> tuple[int, int]:
        loop = asyncio.get_running_loop()
        timer, checks, expired = DeadlineTimer(TIMEOUTS, loop), 0, 0
        call_at = loop.call_at

        def counting(*args: Any, **options: Any) -> asyncio.TimerHandle:
            nonlocal checks
            checks += 1
            return call_at(*args, **options)

        def on_expired() -> None:
            nonlocal expired
            expired += 1

        began = loop.time()
        for number in range(1000):
            Deadlines(timer, began + number / 1000, on_expired)
        loop.call_at = counting  # type: ignore[assignment, method-assign]
        await asyncio.sleep(602)
        loop.call_at = call_at  # type: ignore[method-assign]
        return checks, expired

    checks, expired = run(main())
    assert expired == 1000
    assert checks < 50


def test_bytes_that_came_while_the_process_did_not_run_are_read_before_it_expires() -> None:
    """The timer is called first when the process runs again, and the bytes are read after it."""

    async def main() -> bool:
        loop = asyncio.get_running_loop()
        deadlines = Deadlines(DeadlineTimer(TIMEOUTS, loop), loop.time(), lambda: None)
        deadlines.on_bytes()
        await asyncio.sleep(120 + CONFIRM_S / 2)  # the timer has been called
        deadlines.on_bytes()
        await asyncio.sleep(100)
        deadlines.stop()
        return deadlines.expired

    assert not run(main())


def test_time_in_which_the_process_did_not_run_does_not_count(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(timeouts, "MAX_LATENESS_S", 0.1)

    async def main() -> float:
        loop = asyncio.get_running_loop()
        expired = asyncio.Event()
        began = loop.time()
        timer = DeadlineTimer(Timeouts(stall_timeout_s=0.1, request_timeout_s=60), loop)
        deadlines = Deadlines(timer, began, expired.set)
        deadlines.on_bytes()
        time.sleep(0.3)  # the loop does not run, as when the process is stopped
        await expired.wait()
        return loop.time() - began

    assert asyncio.run(main()) >= 0.3 + 0.1
