"""Sessions on a virtual clock: the real session with a provider in memory, and with journals on the real disk."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from dataclasses import replace
from typing import Any, TypeVar
from unittest.mock import patch

from processor import Session, Settings
from processor.core.events import RunEvent, Transport
from processor.core.models import JSON
from processor.simulator import virtual_clock
from processor.simulator.memory_transport import MemoryTransport
from processor.simulator.provider import SimulatedProvider
from processor.simulator.settings import SimulatorSettings

T = TypeVar("T")

SETTINGS = Settings(base_url="http://127.0.0.1/v1", model="m", encoding="p50k_base")
FAST_PROVIDER = SimulatorSettings(track_identities=True, write_batch_s=1.0, reply_tokens=(3, 30))


def play(main: Coroutine[Any, Any, T]) -> T:
    """Run ``main`` on a new virtual clock, and what it does in threads inline."""
    with patch.object(asyncio, "to_thread", _inline):
        return virtual_clock.run(main)


async def _inline(work: Callable[..., T], /, *args: Any, **options: Any) -> T:
    return work(*args, **options)


class Sessions:
    """Opens sessions at one provider, which outlives them. ``events``: those of all sessions."""

    def __init__(self, provider: SimulatorSettings = FAST_PROVIDER) -> None:
        self.provider = SimulatedProvider(replace(provider, track_identities=True))
        self.events: list[RunEvent] = []

    @property
    def requests(self) -> int:
        """The requests that the provider has had."""
        return self.provider.billing.requests

    def open(self, settings: Settings = SETTINGS, *, transport: Transport | None = None, **options: Any) -> Session:
        send = transport or MemoryTransport(self.provider, latency_s=(0.01, 0.01))
        return Session(settings, listeners=[self.events.append], transport=send, environ={}, **options)

    def events_of(self, kind: type) -> list[Any]:
        return [event for event in self.events if isinstance(event, kind)]

    async def rows_of(self, jobs: list[JSON], **options: Any) -> list[JSON]:
        """Return the rows of these jobs, by a session of their own."""
        async with self.open(**options) as session:
            return [row async for row in session.results(jobs)]


def job(number: int, **more: Any) -> JSON:
    return {"id": f"job-{number}", "prompt": f"Question {number}?", **more}


def text_of(row: JSON) -> str:
    """The text of a chat reply."""
    content: str = row["response"]["body"]["choices"][0]["message"]["content"]
    return content
