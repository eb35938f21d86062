"""The far end sends each request once, whatever is passed to it twice, and reports what happens to it."""

from __future__ import annotations

import asyncio
from typing import Any, Self

import pytest

from processor.cluster.host import WorkerHost
from processor.cluster.memory import PlainSender
from processor.cluster.messages import (
    CancelRequest,
    RequestEnded,
    RequestReported,
    SendRequest,
    WorkerSettings,
    decode,
    encode,
    numbered_target,
)
from processor.core.errors import ConfigError, InternalError, ServerError
from processor.core.events import RequestListener, Sent
from processor.core.models import Job, Reply, Target
from processor.core.text import setting_name
from processor.http.settings import TransportSettings
from processor.simulator.virtual_clock import run

SETTINGS = encode(WorkerSettings(transport=TransportSettings(), interval_s=0.02))
REPLY = Reply(status_code=200, request_id=None, body={})


class Sender(PlainSender):
    """Fails jobs by their name."""

    def __init__(self) -> None:
        super().__init__(self._send)
        self.sent: list[str] = []
        self.cancelled: list[str] = []

    async def _send(self, job: Job, target: Target, on_event: RequestListener) -> Reply:
        self.sent.append(job.custom_id)
        on_event(Sent(asyncio.get_running_loop().time()))
        try:
            await asyncio.sleep(60.0 if job.custom_id == "slow" else 0.001)
        except asyncio.CancelledError:
            self.cancelled.append(job.custom_id)
            raise
        if job.custom_id == "refused":
            raise ServerError("no", status=500)
        if job.custom_id == "redirected":
            raise ServerError(f"set {setting_name('base_url')}", status=302)
        if job.custom_id == "mistake":
            raise KeyError("x")
        return REPLY


def request(number: int, name: str) -> SendRequest:
    return SendRequest(number, 0, Job(line=1, custom_id=name, fingerprint="f", path="/v1/x", model="m", body={}))


async def opened(sender: Sender, settings: bytes = SETTINGS) -> WorkerHost:
    host = WorkerHost(lambda settings, on_notice: sender, node="here", max_connections=10)
    await host.open(settings)
    await host.set_targets(encode([numbered_target(0, Target(base_url="https://host/v1"), None, b"s")]))
    return host


def test_errors_name_settings_as_the_driver_does() -> None:
    async def main() -> None:
        settings = WorkerSettings(transport=TransportSettings(), interval_s=0.02, surface="session")
        host = await opened(Sender(), encode(settings))
        await host.push(encode([request(1, "redirected")]))
        await asyncio.sleep(1.0)
        (ended,) = [one for one in decode(await host.pull()) if isinstance(one, RequestEnded)]
        assert str(ended.outcome) == "set base_url="
        await host.close()

    run(main())


def test_request_that_is_passed_twice_is_sent_once() -> None:
    async def main() -> None:
        sender = Sender()
        host = await opened(sender)
        for _ in range(2):
            await host.push(encode([request(1, "a"), request(2, "b")]))
        await asyncio.sleep(1.0)
        assert sender.sent == ["a", "b"]
        await host.close()

    run(main())


@pytest.mark.parametrize(
    ("name", "outcome"),
    [
        ("a", REPLY),
        ("refused", ServerError("no", status=500)),
        ("mistake", InternalError("KeyError in a worker: 'x'")),
    ],
)
def test_outcome_of_a_request_is_reported(name: str, outcome: Any) -> None:
    async def main() -> None:
        host = await opened(Sender())
        await host.push(encode([request(1, name)]))
        sent, ended = decode(await host.pull())
        assert sent == RequestReported(1, Sent(pytest.approx(0.005, abs=1e-3)))  # type: ignore[arg-type]
        assert ended == RequestEnded(1, outcome)
        await host.close()

    run(main())


def test_cancelled_request_is_aborted() -> None:
    async def main() -> None:
        sender = Sender()
        host = await opened(sender)
        await host.push(encode([request(1, "slow")]))
        await asyncio.sleep(1.0)
        await host.push(encode([CancelRequest(1), CancelRequest(99)]))
        await asyncio.sleep(1.0)
        assert sender.cancelled == ["slow"]
        await host.close()

    run(main())


def test_call_for_messages_returns_without_any_after_a_while() -> None:
    async def main() -> None:
        host = await opened(Sender())
        assert decode(await host.pull()) == []
        assert asyncio.get_running_loop().time() == pytest.approx(15.0, abs=0.1)
        await host.close()

    run(main())


def test_transport_that_cannot_be_opened_is_a_mistake_in_the_settings() -> None:
    class Closed(Sender):
        async def __aenter__(self) -> Self:
            raise ConfigError("no such CA file")

    async def main() -> None:
        with pytest.raises(ConfigError, match="no such CA file"):
            await opened(Closed())

    run(main())
