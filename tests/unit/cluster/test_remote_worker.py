"""What becomes of the requests of a worker that is lost, or that are cancelled."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any

import pytest

from processor.cluster.messages import CancelRequest, RequestEnded, SendRequest, WorkerSettings, decode, encode
from processor.cluster.remote_worker import NotSent, RemoteWorker
from processor.cluster.target_table import TargetTable
from processor.core.errors import InternalError, ProcessorError
from processor.core.events import RequestEvent, Sent
from processor.core.models import Job, Reply
from processor.core.process_errors import WorkerLost
from processor.http.settings import TransportSettings
from processor.simulator.virtual_clock import run

REPLY = Reply(status_code=200, request_id=None, body={})


class ScriptedLink:
    """A worker that takes groups, and answers what the test says."""

    def __init__(self) -> None:
        self.pushed: list[Any] = []
        self.push_takes_s = 0.0
        self.answers: asyncio.Queue[bytes | Exception] = asyncio.Queue()

    async def describe(self) -> bytes:
        return b""

    async def open(self, settings: bytes) -> None:
        pass

    async def set_targets(self, targets: bytes) -> bytes:
        return encode([])

    async def push(self, group: bytes) -> None:
        self.pushed += decode(group)
        await asyncio.sleep(self.push_takes_s)

    async def pull(self) -> bytes:
        async with asyncio.timeout(3600.0):  # a timer, without which the virtual clock would stand still
            answer = await self.answers.get()
        if isinstance(answer, Exception):
            raise answer
        return answer

    async def close(self) -> None:
        pass


class Case:
    """One worker, and the requests that it was given."""

    def __init__(self) -> None:
        self.link = ScriptedLink()
        self.lost: list[ProcessorError] = []
        self.events: dict[int, list[RequestEvent]] = {}
        self.tasks: dict[int, asyncio.Task[Reply]] = {}
        self.worker = RemoteWorker(
            "worker 1",
            self.link,
            on_ended=lambda: None,
            on_lost=lambda worker, error: self.lost.append(error),
            on_notice=lambda text: None,
        )

    async def __aenter__(self) -> Case:
        await self.worker.start(WorkerSettings(transport=TransportSettings(), interval_s=0.02), TargetTable({}))
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.worker.close()

    def send(self, number: int) -> None:
        job = Job(line=1, custom_id=f"job-{number}", fingerprint="f", path="/v1/x", model="m", body={})
        events = self.events[number] = []
        self.tasks[number] = asyncio.create_task(self.worker.send(SendRequest(number, 0, job), events.append))

    async def outcome(self, number: int) -> object:
        (outcome,) = await asyncio.gather(self.tasks[number], return_exceptions=True)
        return outcome


def play(main: Coroutine[Any, Any, None]) -> None:
    run(main)


def test_only_requests_that_were_passed_on_count_as_sent_when_the_worker_is_lost() -> None:
    async def main() -> None:
        async with Case() as case:
            case.link.push_takes_s = 10.0
            case.send(1)
            await asyncio.sleep(1.0)
            case.send(2)
            await asyncio.sleep(1.0)
            case.link.answers.put_nowait(WorkerLost("killed"))
            assert await case.outcome(1) == WorkerLost("killed")
            assert isinstance(await case.outcome(2), NotSent)
            now = asyncio.get_running_loop().time()
            assert case.events == {1: [Sent(pytest.approx(now, abs=0.01))], 2: []}  # type: ignore[arg-type]
            assert (case.lost, case.worker.lost_requests) == ([WorkerLost("killed")], 1)

    play(main())


def test_cancelled_request_that_was_passed_on_counts_as_sent() -> None:
    async def main() -> None:
        async with Case() as case:
            case.send(1)
            await asyncio.sleep(1.0)
            case.send(2)
            await asyncio.sleep(0.001)
            for task in case.tasks.values():
                task.cancel()
            await case.outcome(1)
            await case.outcome(2)
            await asyncio.sleep(1.0)
            assert [len(events) for events in case.events.values()] == [1, 0]
            assert [message.number for message in case.link.pushed if isinstance(message, SendRequest)] == [1]
            assert CancelRequest(1) in case.link.pushed

    play(main())


def test_answer_to_an_unknown_request_is_dropped() -> None:
    async def main() -> None:
        async with Case() as case:
            case.send(7)
            await asyncio.sleep(1.0)
            case.link.answers.put_nowait(
                encode([RequestEnded(3, REPLY), RequestEnded(7, REPLY), RequestEnded(7, REPLY)])
            )
            assert await case.outcome(7) == REPLY
            assert case.lost == []

    play(main())


def test_answer_that_cannot_be_read_is_an_internal_error_and_no_lost_worker() -> None:
    async def main() -> None:
        async with Case() as case:
            case.send(7)
            await asyncio.sleep(1.0)
            case.link.answers.put_nowait(b"no pickle")
            assert isinstance(await case.outcome(7), InternalError)

    play(main())
