"""What a type checker must know of sessions: mypy checks this file with the others, a test checks it with pyright."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any, assert_type

import processor
from processor.core.events import RunEvent


def listener(event: RunEvent) -> None:
    print(event)


def jobs() -> Iterator[dict[str, str]]:
    yield {"prompt": "Hello"}


async def jobs_that_come() -> AsyncIterator[dict[str, object]]:
    yield {"prompt": "Hello", "max_tokens": 5}


async def asynchronous() -> None:
    settings = processor.Settings(model="gpt-4o-mini", limits=processor.Limits(rpm=60))
    async with processor.Session(settings, journal=Path("rows.jsonl"), listeners=[listener], environ={}) as session:
        assert_type(await session.result({"prompt": "Hello"}), dict[str, Any])
        async for row in session.results(jobs()):
            assert_type(row, dict[str, Any])
        async for row in session.results(jobs_that_come()):
            assert_type(row, dict[str, Any])
        assert_type(session.stopped, str | None)
        try:
            await session.result({"prompt": "Hello"})
        except processor.RunStopped as stopped:
            print(stopped)


def synchronous() -> None:
    for row in processor.results(jobs(), processor.Settings(), journal="rows.jsonl"):
        assert_type(row, dict[str, Any])
