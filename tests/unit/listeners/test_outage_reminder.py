"""The message of each minute of an outage, on the virtual clock."""

from __future__ import annotations

import asyncio

from processor.core.events import OutageContinues, OutageEnded, OutageStarted, RunEvent
from processor.listeners.outage_reminder import OutageReminder
from processor.simulator.virtual_clock import run


def test_outage_is_told_each_minute_until_it_ends() -> None:
    async def main() -> list[RunEvent]:
        emitted: list[RunEvent] = []
        reminder = OutageReminder(emitted.append)
        now = asyncio.get_running_loop().time
        reminder(OutageStarted(at=now(), endpoint="a", message="no"))
        await asyncio.sleep(150)
        reminder(OutageEnded(at=now(), endpoint="a"))
        await asyncio.sleep(150)
        reminder(OutageStarted(at=now(), endpoint="a", message="no"))
        await asyncio.sleep(30)
        reminder.close()
        await asyncio.sleep(300)
        return emitted

    events = run(main())
    assert [round(event.down_s) for event in events if isinstance(event, OutageContinues)] == [60, 120]
