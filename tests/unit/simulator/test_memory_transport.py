"""The simulated provider behind the transport interface, on the virtual clock."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from math import inf
from typing import Any

import pytest

from processor.core.errors import (
    AccessDenied,
    BadRequest,
    ConnectError,
    ConnectionLost,
    ProtocolError,
    RequestError,
    ServerError,
    StreamStalled,
    StreamTruncated,
    Throttled,
    Timeout,
)
from processor.core.events import Delta, FirstToken, RequestEvent, ResponseStarted, Sent
from processor.core.models import JSON, Job, Reply, Target, Timeouts
from processor.core.secrets import Secret
from processor.simulator.faults import QUIRKS, Faults
from processor.simulator.memory_transport import MemoryTransport
from processor.simulator.provider import SimulatedProvider
from processor.simulator.settings import INSTANT, Outage, SimulatorSettings
from processor.simulator.virtual_clock import run

CHAT, COMPLETIONS = "/v1/chat/completions", "/v1/completions"
TARGET = Target(base_url="http://127.0.0.1/v1", key=Secret("not-a-key"), headers=(("X-Extra", "1"),))
TOOLS = [{"type": "function", "function": {"name": "f", "parameters": {"properties": {"a": {}}, "required": ["a"]}}}]


def job(number: int = 1, path: str = CHAT, **more: Any) -> Job:
    asked: JSON = (
        {"prompt": f"Say {number}"}
        if path == COMPLETIONS
        else {"messages": [{"role": "user", "content": f"Question {number}"}]}
    )
    body = {"model": "m", **asked, **more}
    return Job(line=number, custom_id=str(number), fingerprint=f"{number:032x}", path=path, model="m", body=body)


def send(
    settings: SimulatorSettings,
    one: Job | None = None,
    on_event: Callable[[RequestEvent], None] = lambda event: None,
    **how: Any,
) -> tuple[Reply, float]:
    """Returns the reply and the time of its arrival."""

    async def main() -> tuple[Reply, float]:
        reply = await MemoryTransport(SimulatedProvider(settings), **how)(one or job(), TARGET, on_event)
        return reply, asyncio.get_running_loop().time()

    return run(main())


VARIETY: list[JSON] = [
    {},
    {"n": 3},
    {"tools": TOOLS, "tool_choice": "required"},
    {"functions": [TOOLS[0]["function"]], "function_call": {"name": "f"}},
    {"model": "reasoner"},
    {"max_tokens": 1},
    {"stream": False},
    {"response_format": {"type": "json_object"}},
]


@pytest.mark.parametrize("quirk", ["", *QUIRKS, "all"])
def test_assembled_reply_is_the_expected_body_with_every_quirk(quirk: str) -> None:
    faults = dict.fromkeys(QUIRKS, 0.5) if quirk == "all" else {quirk: 1.0} if quirk else {}
    provider = SimulatedProvider(SimulatorSettings(seed=7, faults=Faults(faults), write_batch_s=0.1))
    transport = MemoryTransport(provider)
    jobs = [job(number, **more) for number in range(5) for more in VARIETY]
    jobs += [job(number, COMPLETIONS, n=2) for number in range(5)]

    async def main() -> list[Reply]:
        return await asyncio.gather(*(transport(one, TARGET, lambda event: None) for one in jobs))

    for one, reply in zip(jobs, run(main()), strict=True):
        expected = provider.expected_body(one.path, one.body)
        if quirk in ("no_usage", "all"):
            reply.body.setdefault("usage", expected["usage"])
        assert reply.body == expected
        assert reply.request_id is not None
        assert reply.status_code == 200


def test_request_events_are_emitted_in_order_and_on_time() -> None:
    emitted: list[RequestEvent] = []
    settings = SimulatorSettings(rpm=10, first_token_s=2.0, first_token_jitter=0.0, speed_tps=10)
    _, ended = send(settings, job(max_tokens=5), emitted.append, latency_s=(0.01, 0.06))
    sent, started, first = emitted
    assert isinstance(sent, Sent) and isinstance(started, ResponseStarted) and isinstance(first, FirstToken)
    assert 2.02 < started.at - sent.at < 2.12
    assert (started.status, started.headers["x-ratelimit-remaining-requests"]) == (200, "9")
    assert first.at == started.at
    assert ended - first.at == pytest.approx(0.5, abs=0.001)


def test_provider_counts_a_request_when_it_arrives() -> None:
    provider = SimulatedProvider(SimulatorSettings(rpm=1000, reply_tokens=(1, 1)))
    transport = MemoryTransport(provider, latency_s=(0.01, 0.06), seed=3)

    async def main() -> None:
        await asyncio.gather(*(transport(job(number), TARGET, lambda event: None) for number in range(100)))

    run(main())
    log = provider.rate_limiter.log
    assert 0.01 <= log.first_at < 0.02
    assert 0.05 < log.last_at <= 0.061


def test_same_seed_replays_exactly() -> None:
    def play(seed: int) -> list[object]:
        emitted: list[object] = []
        provider = SimulatedProvider(SimulatorSettings(seed=seed, faults=Faults.parse("all=0.06"), write_batch_s=1.0))
        transport = MemoryTransport(provider, seed=seed)

        async def one(number: int) -> None:
            try:
                emitted.append(await transport(job(number), TARGET, emitted.append))
            except RequestError as error:
                emitted.append(repr(error))

        async def main() -> None:
            await asyncio.gather(*(one(number) for number in range(60)))

        run(main())
        return emitted

    assert play(4) == play(4)
    assert play(4) != play(5)


@pytest.mark.parametrize(
    ("fault", "error"),
    [
        ("error_500", ServerError),
        ("burst_429", Throttled),
        ("reset_before", ConnectionLost),
        ("reset_mid", StreamTruncated),
        ("cut", StreamTruncated),
        ("stall_mid", StreamStalled),
        ("in_band_error", ServerError),
        ("malformed_chunk", ProtocolError),
    ],
)
@pytest.mark.parametrize("path", [CHAT, COMPLETIONS])
def test_fault_raises_the_same_error_as_over_http(fault: str, error: type[RequestError], path: str) -> None:
    for seed in range(12):
        with pytest.raises(error):
            send(SimulatorSettings(seed=seed, faults=Faults({fault: 1.0})), job(path=path))


def test_error_carries_the_request_id() -> None:
    for fault in ("error_500", "in_band_error", "cut"):
        with pytest.raises(RequestError) as failed:
            send(SimulatorSettings(faults=Faults({fault: 1.0})))
        assert (failed.value.request_id or "").startswith("req_")


def test_error_status_emits_events_and_raises() -> None:
    emitted: list[RequestEvent] = []
    with pytest.raises(AccessDenied):
        send(SimulatorSettings(auth="refused"), on_event=emitted.append)
    assert [type(event) for event in emitted] == [Sent, ResponseStarted]
    with pytest.raises(BadRequest):
        send(SimulatorSettings(models=("other",)))
    send(SimulatorSettings(auth="required"))


def test_refused_connection_raises_connect_error_before_sent() -> None:
    emitted: list[RequestEvent] = []
    settings = SimulatorSettings(outages=(Outage(from_s=0, to_s=10, kind="refuse"),))
    with pytest.raises(ConnectError):
        send(settings, on_event=emitted.append)
    assert emitted == []
    send(settings, clock_offset_s=10.0)


def test_stalled_stream_raises_after_the_stall_timeout() -> None:
    async def main() -> float:
        provider = SimulatedProvider(
            SimulatorSettings(faults=Faults({"stall_mid": 1.0}), speed_tps=inf, first_token_s=0)
        )
        with pytest.raises(StreamStalled, match="nothing came for 120 s"):
            await MemoryTransport(provider, latency_s=(0, 0))(job(), TARGET, lambda event: None)
        return asyncio.get_running_loop().time()

    assert run(main()) == pytest.approx(120, abs=0.01)


@pytest.mark.parametrize(
    ("timeouts", "settings", "seconds"),
    [
        (Timeouts(first_byte_timeout_s=5), SimulatorSettings(first_token_s=20), 5),
        (Timeouts(request_timeout_s=8), SimulatorSettings(first_token_s=20), 8),
        (Timeouts(request_timeout_s=8), SimulatorSettings(first_token_s=0.1, speed_tps=0.5), 8),
    ],
)
def test_late_reply_raises_timeout(timeouts: Timeouts, settings: SimulatorSettings, seconds: float) -> None:
    async def main() -> float:
        with pytest.raises(Timeout):
            await MemoryTransport(SimulatedProvider(settings), timeouts=timeouts)(job(), TARGET, lambda event: None)
        return asyncio.get_running_loop().time()

    assert run(main()) == pytest.approx(seconds, abs=0.1)


def test_slow_stream_is_not_stalled() -> None:
    send(
        SimulatorSettings(speed_tps=0.01, reply_tokens=(3, 3)),
        job(max_tokens=4),
        timeouts=Timeouts(request_timeout_s=inf),
    )


def test_connection_lost_states_whether_the_connection_was_reused() -> None:
    provider = SimulatedProvider(SimulatorSettings(seed=1, faults=Faults({"reset_before": 0.5})))
    transport = MemoryTransport(provider)

    async def main() -> list[bool | None]:
        outcomes: list[bool | None] = []
        for number in range(12):
            try:
                await transport(job(number, max_tokens=1), TARGET, lambda event: None)
                outcomes.append(None)
            except ConnectionLost as error:
                outcomes.append(error.reused)
        return outcomes

    outcomes = run(main())
    for before, now in zip([False, *outcomes], outcomes, strict=False):
        assert now in (None, before is None)
    assert {True, False, None} == set(outcomes)


def test_deltas_add_up_to_the_text_of_the_reply() -> None:
    emitted: list[RequestEvent] = []
    reply, _ = send(SimulatorSettings(), job(stream_options={}), emitted.append, emit_deltas=True)
    text = "".join(event.text for event in emitted if isinstance(event, Delta))
    assert text == reply.body["choices"][0]["message"]["content"] != ""


def test_billing_log_counts_delivered_replies() -> None:
    provider = SimulatedProvider(
        SimulatorSettings(track_identities=True, faults=Faults({"cut": 0.5}), write_batch_s=1.0)
    )
    transport = MemoryTransport(provider)

    async def main() -> int:
        replies = await asyncio.gather(
            *(transport(job(number), TARGET, lambda event: None) for number in range(40)), return_exceptions=True
        )
        return sum(isinstance(reply, Reply) for reply in replies)

    assert run(main()) == provider.billing.completed == sum(provider.billing.completed_by_identity.values())
    assert provider.billing.billed == 40


def test_instant_provider_takes_no_time() -> None:
    reply, ended = send(INSTANT, latency_s=(0, 0))
    assert ended == 0.0
    assert reply.body["choices"][0]["message"]["content"] == "Of course."
    assert send(INSTANT, job(2), latency_s=(0, 0))[0].body == reply.body
