"""The outage detector: a streak of failures of more than one job, without an answer in between."""

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

SERVER_ERROR = ServerError("down", status=503)
CONNECT_ERROR = ConnectError("refused")
TRUNCATED = StreamTruncated("cut")

OUTAGE_ERRORS = [
    SERVER_ERROR,
    CONNECT_ERROR,
    ConnectionLost("gone"),
    Throttled("later", status=429),
    Timeout("slow"),
    StreamStalled("silent"),
    StreamTruncated("cut"),
]
OTHER_ERRORS = [
    BadRequest("bad", status=400),
    AccessDenied("key", status=401),
    ProtocolError("senseless"),
    OptionRefused("what?", status=400),
]


def new_detector(*, max_outage_s: float = 3600.0) -> OutageDetector:
    return OutageDetector(max_outage_s=max_outage_s)


def detector_in_outage(from_s: float = 100.0) -> OutageDetector:
    """A detector whose outage began with ten failures within a second."""
    detector = new_detector()
    for job in range(FAILURE_THRESHOLD):
        detector.on_failure(SERVER_ERROR, job, from_s + job / 10)
    assert detector.down_since == from_s
    return detector


@pytest.mark.parametrize("error", OUTAGE_ERRORS, ids=lambda error: error.code)
def test_error_that_an_endpoint_in_an_outage_may_cause_indicates_an_outage(error: RequestError) -> None:
    assert indicates_outage(error)


@pytest.mark.parametrize("error", OTHER_ERRORS, ids=lambda error: error.code)
def test_error_that_only_a_working_endpoint_returns_indicates_no_outage(error: RequestError) -> None:
    assert not indicates_outage(error)
    detector = new_detector()
    assert not any(detector.on_failure(error, job, 0.0) for job in range(100))


def test_ten_failures_in_a_row_begin_one_outage() -> None:
    detector = new_detector()
    began = [detector.on_failure(SERVER_ERROR, job, float(job)) for job in range(FAILURE_THRESHOLD + 5)]
    assert began == [False] * (FAILURE_THRESHOLD - 1) + [True] + [False] * 5


def test_outage_begins_at_its_first_failure() -> None:
    assert detector_in_outage(from_s=100.0).down_since == 100.0


def test_answer_resets_the_count_of_failures() -> None:
    detector = new_detector()
    for round_ in range(5):
        for job in range(FAILURE_THRESHOLD - 1):
            assert not detector.on_failure(SERVER_ERROR, job, float(round_))
        assert not detector.on_answer(float(round_))
    assert detector.down_since is None


def test_failures_of_a_single_job_are_no_outage() -> None:
    detector = new_detector()
    assert not any(detector.on_failure(SERVER_ERROR, 7, float(at)) for at in range(100))
    assert detector.on_failure(SERVER_ERROR, 8, 100.0)


def test_two_failed_connections_are_an_outage() -> None:
    detector = new_detector()
    began = [detector.on_failure(CONNECT_ERROR, 1, float(at)) for at in range(CONNECT_FAILURE_THRESHOLD)]
    assert began == [False, True]


def test_answer_ends_the_outage() -> None:
    detector = detector_in_outage()
    assert detector.on_answer(sent_at=102.0)
    assert detector.down_since is None
    assert not detector.on_answer(sent_at=103.0)


def test_answer_to_a_request_sent_before_the_outage_does_not_end_it() -> None:
    detector = detector_in_outage(from_s=100.0)
    assert not detector.on_answer(sent_at=99.0)
    assert detector.down_since == 100.0


def test_outage_explains_its_failures_while_it_lasts_and_afterwards() -> None:
    detector = detector_in_outage(from_s=100.0)
    assert detector.explains_failure_at(100.0)
    assert detector.explains_failure_at(5000.0)
    assert not detector.explains_failure_at(99.9)
    detector.on_failure(SERVER_ERROR, 1, 200.0)
    detector.on_answer(sent_at=300.0)
    assert detector.explains_failure_at(100.0)
    assert detector.explains_failure_at(200.0)
    assert not detector.explains_failure_at(99.9)
    assert not detector.explains_failure_at(200.1)


def test_each_outage_explains_only_failures_of_its_own_time() -> None:
    detector = detector_in_outage(from_s=100.0)
    detector.on_answer(sent_at=200.0)
    for job in range(FAILURE_THRESHOLD):
        detector.on_failure(SERVER_ERROR, job, 300.0 + job)
    detector.on_answer(sent_at=400.0)
    assert [detector.explains_failure_at(at) for at in (50.0, 100.5, 200.0, 305.0, 350.0)] == [
        False,
        True,
        False,
        True,
        False,
    ]


def test_probe_intervals_double_up_to_the_maximum() -> None:
    detector = detector_in_outage(from_s=100.0)
    at, gaps = 100.9, []
    for _ in range(10):
        gaps.append(detector.next_probe_at - at)
        at = detector.next_probe_at
        detector.on_probe(at)
    assert gaps[0] == pytest.approx(FIRST_PROBE_INTERVAL_S)
    assert gaps[1:6] == pytest.approx([4, 8, 16, 32, 64])
    assert gaps[6:] == pytest.approx([MAX_PROBE_INTERVAL_S] * 4)


def test_next_outage_is_probed_after_the_first_interval_again() -> None:
    detector = detector_in_outage(from_s=100.0)
    for _ in range(5):
        detector.on_probe(detector.next_probe_at)
    detector.on_answer(sent_at=500.0)
    for job in range(FAILURE_THRESHOLD):
        detector.on_failure(SERVER_ERROR, job, 600.0)
    assert detector.next_probe_at == 600.0 + FIRST_PROBE_INTERVAL_S


def test_outage_is_too_long_after_max_outage() -> None:
    detector = detector_in_outage(from_s=100.0)
    assert not detector.is_too_long(100.0 + 3599)
    assert detector.is_too_long(100.0 + 3600)
    detector.on_answer(sent_at=9000.0)
    assert not detector.is_too_long(10_000.0)


def test_first_token_resets_the_count_of_failures() -> None:
    detector = new_detector()
    for job in range(FAILURE_THRESHOLD - 1):
        detector.on_failure(SERVER_ERROR, job, 1.0)
    assert not detector.on_first_token(sent_at=0.0)
    assert not detector.on_failure(SERVER_ERROR, 1, 2.0)


def test_first_token_ends_an_outage_in_which_no_reply_began() -> None:
    detector = detector_in_outage(from_s=100.0)
    assert not detector.on_first_token(sent_at=99.0)
    assert detector.on_first_token(sent_at=110.0)
    assert detector.down_since is None


def test_first_tokens_do_not_end_an_outage_in_which_replies_break_off() -> None:
    detector = new_detector()
    for job in range(FAILURE_THRESHOLD - 1):
        assert not detector.on_first_token(sent_at=1.0)
        assert not detector.on_failure(TRUNCATED, job, 1.0, had_first_token=True)
    assert detector.on_failure(TRUNCATED, 9, 2.0, had_first_token=True)
    assert not detector.on_first_token(sent_at=3.0)
    assert detector.on_answer(sent_at=3.0)


def test_failures_of_a_burst_are_no_outage_while_its_other_requests_may_be_answered() -> None:
    detector = new_detector()
    began = [detector.on_failure(SERVER_ERROR, job, 10.0 + job / 100, unresolved_since=9.0) for job in range(50)]
    assert not any(began)
    assert not detector.on_failure(SERVER_ERROR, 1, 10.0 + MIN_STREAK_S - 0.1, unresolved_since=10.0)
    assert detector.on_failure(SERVER_ERROR, 1, 10.0 + MIN_STREAK_S, unresolved_since=10.0)
