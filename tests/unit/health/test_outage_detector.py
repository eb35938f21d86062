"""Is the provider down? A pure state machine: failures in a row, of more than one job, with no answer between."""

from __future__ import annotations

import pytest

from processor.core.errors import (
    AccessDenied,
    BadRequest,
    ConnectError,
    ConnectionLost,
    OptionRefused,
    ProtocolError,
    RequestError,
    ServerError,
    StreamStalled,
    StreamTruncated,
    Throttled,
    Timeout,
)
from processor.health.outage_detector import (
    CONNECT_FAILURE_THRESHOLD,
    FAILURE_THRESHOLD,
    FIRST_PROBE_INTERVAL_S,
    MAX_PROBE_INTERVAL_S,
    MIN_STREAK_S,
    OutageDetector,
    indicates_outage,
)

DOWN = ServerError("down", status=503)
UNREACHED = ConnectError("refused")
CUT = StreamTruncated("cut")

SIGNS = [
    DOWN,
    UNREACHED,
    ConnectionLost("gone"),
    Throttled("later", status=429),
    Timeout("slow"),
    StreamStalled("silent"),
    StreamTruncated("cut"),
]
NO_SIGNS = [
    BadRequest("bad", status=400),
    AccessDenied("key", status=401),
    ProtocolError("senseless"),
    OptionRefused("what?", status=400),
]


def outages(*, max_outage_s: float = 3600.0) -> OutageDetector:
    return OutageDetector(max_outage_s=max_outage_s)


def down(from_s: float = 100.0) -> OutageDetector:
    """One that goes down at once."""
    found = outages()
    for job in range(FAILURE_THRESHOLD):
        found.on_failure(DOWN, job, from_s + job / 10)
    assert found.down_since == from_s
    return found


@pytest.mark.parametrize("error", SIGNS, ids=lambda error: error.code)
def test_what_a_provider_that_is_down_does(error: RequestError) -> None:
    assert indicates_outage(error)


@pytest.mark.parametrize("error", NO_SIGNS, ids=lambda error: error.code)
def test_what_only_a_provider_that_is_up_does(error: RequestError) -> None:
    assert not indicates_outage(error)
    found = outages()
    assert not any(found.on_failure(error, job, 0.0) for job in range(100))


def test_ten_failures_in_a_row_are_an_outage_and_it_is_noticed_once() -> None:
    found = outages()
    heard = [found.on_failure(DOWN, job, float(job)) for job in range(FAILURE_THRESHOLD + 5)]
    assert heard == [False] * (FAILURE_THRESHOLD - 1) + [True] + [False] * 5


def test_it_began_with_the_first_of_them() -> None:
    assert down(from_s=100.0).down_since == 100.0


def test_an_answer_in_between_begins_the_count_anew() -> None:
    found = outages()
    for round_ in range(5):
        for job in range(FAILURE_THRESHOLD - 1):
            assert not found.on_failure(DOWN, job, float(round_))
        assert not found.on_answer(float(round_))
    assert found.down_since is None


def test_one_jobs_failures_alone_are_no_outage() -> None:
    found = outages()
    assert not any(found.on_failure(DOWN, 7, float(at)) for at in range(100))
    assert found.on_failure(DOWN, 8, 100.0)


def test_failed_connections_need_to_be_two_only() -> None:
    found = outages()
    assert [found.on_failure(UNREACHED, 1, float(at)) for at in range(CONNECT_FAILURE_THRESHOLD)] == [False, True]


def test_an_answer_ends_it() -> None:
    found = down()
    assert found.on_answer(sent_at=102.0)
    assert found.down_since is None
    assert not found.on_answer(sent_at=103.0)


def test_an_answer_to_what_was_asked_before_it_does_not_end_it() -> None:
    found = down(from_s=100.0)
    assert not found.on_answer(sent_at=99.0)
    assert found.down_since == 100.0


def test_failures_within_it_are_excused_while_it_lasts_and_afterwards() -> None:
    found = down(from_s=100.0)
    assert found.explains_failure_at(100.0)
    assert found.explains_failure_at(5000.0)
    assert not found.explains_failure_at(99.9)
    found.on_failure(DOWN, 1, 200.0)
    found.on_answer(sent_at=300.0)
    assert found.explains_failure_at(100.0)
    assert found.explains_failure_at(200.0)
    assert not found.explains_failure_at(99.9)
    assert not found.explains_failure_at(200.1)


def test_each_outage_excuses_its_own_time() -> None:
    found = down(from_s=100.0)
    found.on_answer(sent_at=200.0)
    for job in range(FAILURE_THRESHOLD):
        found.on_failure(DOWN, job, 300.0 + job)
    found.on_answer(sent_at=400.0)
    assert [found.explains_failure_at(at) for at in (50.0, 100.5, 200.0, 305.0, 350.0)] == [
        False,
        True,
        False,
        True,
        False,
    ]


def test_probes_go_ever_more_rarely() -> None:
    found = down(from_s=100.0)
    at, gaps = 100.9, []
    for _ in range(10):
        gaps.append(found.next_probe_at - at)
        at = found.next_probe_at
        found.on_probe(at)
    assert gaps[0] == pytest.approx(FIRST_PROBE_INTERVAL_S)
    assert gaps[1:6] == pytest.approx([4, 8, 16, 32, 64])
    assert gaps[6:] == pytest.approx([MAX_PROBE_INTERVAL_S] * 4)


def test_the_next_outage_is_probed_as_soon_as_the_first() -> None:
    found = down(from_s=100.0)
    for _ in range(5):
        found.on_probe(found.next_probe_at)
    found.on_answer(sent_at=500.0)
    for job in range(FAILURE_THRESHOLD):
        found.on_failure(DOWN, job, 600.0)
    assert found.next_probe_at == 600.0 + FIRST_PROBE_INTERVAL_S


def test_one_can_last_too_long() -> None:
    found = down(from_s=100.0)
    assert not found.is_too_long(100.0 + 3599)
    assert found.is_too_long(100.0 + 3600)
    found.on_answer(sent_at=9000.0)
    assert not found.is_too_long(10_000.0)


def test_a_reply_that_begins_disproves_the_failures_before_it() -> None:
    found = outages()
    for job in range(FAILURE_THRESHOLD - 1):
        found.on_failure(DOWN, job, 1.0)
    assert not found.on_first_token(sent_at=0.0)
    assert not found.on_failure(DOWN, 1, 2.0)


def test_a_reply_that_begins_ends_an_outage_in_which_none_began() -> None:
    found = down(from_s=100.0)
    assert not found.on_first_token(sent_at=99.0)
    assert found.on_first_token(sent_at=110.0)
    assert found.down_since is None


def test_replies_that_begin_say_nothing_of_a_provider_that_breaks_them_off() -> None:
    found = outages()
    for job in range(FAILURE_THRESHOLD - 1):
        assert not found.on_first_token(sent_at=1.0)
        assert not found.on_failure(CUT, job, 1.0, had_first_token=True)
    assert found.on_failure(CUT, 9, 2.0, had_first_token=True)
    assert not found.on_first_token(sent_at=3.0)
    assert found.on_answer(sent_at=3.0)


def test_the_first_of_a_wave_to_return_may_be_those_that_failed() -> None:
    found = outages()
    heard = [found.on_failure(DOWN, job, 10.0 + job / 100, unresolved_since=9.0) for job in range(50)]
    assert not any(heard)
    assert not found.on_failure(DOWN, 1, 10.0 + MIN_STREAK_S - 0.1, unresolved_since=10.0)
    assert found.on_failure(DOWN, 1, 10.0 + MIN_STREAK_S, unresolved_since=10.0)
