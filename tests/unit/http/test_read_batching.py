"""How long reads are delayed, and the timer that ends the delays."""

from __future__ import annotations

import asyncio
import socket
from statistics import mean

import pytest
from hypothesis import given
from hypothesis import strategies as st

from processor.http.read_batching import MAX_DELAY_S, SAMPLE_EVERY, ReadBatching, ReplyTiming, socket_fd


def timing_after(duration_s: float, reads: int) -> ReplyTiming:
    """After one reply that was read without delays."""
    timing = ReplyTiming()
    timing.record(duration_s, reads)
    return timing


def test_reads_are_not_delayed_before_a_reply_was_measured() -> None:
    timing = ReplyTiming()
    assert timing.delay_s(100.0) == 0.0
    timing.record(10.0, None)
    assert timing.delay_s(100.0) == 0.0


def test_delay_is_a_small_share_of_the_usual_duration() -> None:
    assert timing_after(10.0, 1000).delay_s(0.0) == pytest.approx(0.3)
    assert timing_after(1.0, 100).delay_s(0.0) == pytest.approx(0.03)


def test_delay_grows_for_a_reply_that_is_older_than_usual() -> None:
    assert timing_after(1.0, 100).delay_s(9.0) == pytest.approx(0.09)


def test_delay_is_at_most_one_second() -> None:
    assert timing_after(1000.0, 100_000).delay_s(0.0) == MAX_DELAY_S


def test_short_replies_are_not_delayed() -> None:
    assert timing_after(0.5, 500).delay_s(0.0) == 0.0


def test_reply_in_one_read_counts_as_short() -> None:
    assert timing_after(0.0, 1).delay_s(0.0) == 0.0


def test_reads_are_not_delayed_where_that_would_not_batch_several_segments() -> None:
    assert timing_after(10.0, 1000 // 60).delay_s(0.0) == 0.0


def test_few_short_replies_shorten_all_delays() -> None:
    timing = timing_after(10.0, 1000)
    timing.record(1.0, 100)
    assert timing.delay_s(0.0) < 0.06


def test_old_measurements_fade() -> None:
    timing = timing_after(1.0, 100)
    for _ in range(400):
        timing.record(20.0, 2000)
    assert timing.delay_s(0.0) == pytest.approx(0.6, rel=0.1)


def test_one_reply_in_sample_every_is_never_delayed() -> None:
    timing = ReplyTiming()
    assert [timing.next_may_be_delayed() for _ in range(SAMPLE_EVERY)].count(False) == 1


@given(st.lists(st.floats(0.01, 600.0), min_size=1, max_size=60))
def test_mean_delay_of_replies_is_below_two_percent_for_any_mix_of_durations(durations_s: list[float]) -> None:
    timing = ReplyTiming()
    for duration_s in durations_s:
        timing.record(duration_s, 1_000_000)
    # A reply ends anywhere in its last delay: in the middle, on average.
    assert mean(timing.delay_s(duration_s) / 2 / duration_s for duration_s in durations_s) <= 0.02 + 1e-9


class ReceivingProtocol(asyncio.Protocol):
    received = False

    def data_received(self, data: bytes) -> None:
        self.received = True


def test_one_timer_ends_all_delays_and_closed_sockets_are_skipped() -> None:
    async def scenario() -> list[bool]:
        loop = asyncio.get_running_loop()
        batching = ReadBatching()
        pairs = [socket.socketpair() for _ in range(20)]
        for ours, _ in pairs:
            ours.setblocking(False)
        connections = [await loop.connect_accepted_socket(ReceivingProtocol, ours) for ours, _ in pairs]
        for n, (transport, _) in enumerate(connections):
            batching.delay(socket_fd(transport) or 0, loop.time() + 0.02 + 0.01 * (n % 5))
        connections[3][0].close()
        await asyncio.sleep(0.1)
        for n, (_, theirs) in enumerate(pairs):
            if n != 3:
                theirs.send(b"x")
        await asyncio.sleep(0.02)
        for (transport, _), (_, theirs) in zip(connections, pairs, strict=True):
            transport.close()
            theirs.close()
        batching.close()
        await asyncio.sleep(0.01)
        return [protocol.received for _, protocol in connections]

    received = asyncio.run(scenario())
    assert received.count(True) == 19
    assert not received[3]
