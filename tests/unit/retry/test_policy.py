"""What follows from a failed attempt, as a table: by the error's type, the job's history, and what the run has seen."""

from __future__ import annotations

from datetime import datetime
from typing import Any

import pytest

from processor.core.errors import (
    AccessDenied,
    BadRequest,
    ConnectError,
    ConnectionLost,
    ModelNotFound,
    OptionRefused,
    ProtocolError,
    ReplyTooLarge,
    RequestError,
    ServerError,
    StreamStalled,
    StreamTruncated,
    Throttled,
    Timeout,
)
from processor.retry.policy import (
    REJECTIONS_THAT_STOP,
    AttemptHistory,
    Decision,
    FailJob,
    Park,
    ProviderRecord,
    Retry,
    RetryPolicy,
    StopRun,
    is_own_failure,
)

NOON = datetime(2026, 6, 1, 12, 0)
POLICY = RetryPolicy()
SUCCEEDED = ProviderRecord(succeeded=True)


def status(cls: type[Any], code: int, **more: Any) -> Any:
    return cls("the server said so", status=code, **more)


OWN_FAILURES = [
    status(ServerError, 500),
    status(ServerError, 503),
    status(ServerError, 408),
    ConnectionLost("gone"),
    StreamTruncated("cut"),
    StreamStalled("silent"),
    Timeout("slow"),
    ProtocolError("senseless"),
]
HELD_UP = [status(Throttled, 429), ConnectError("refused")]


def decide(
    error: RequestError, *, own: int = 1, history: AttemptHistory | None = None, standing: ProviderRecord = SUCCEEDED
) -> Decision:
    return POLICY.decide(error, history or AttemptHistory(), standing, now=NOON, own=own)


# ---------------------------------------------------------------- again


@pytest.mark.parametrize("error", OWN_FAILURES, ids=lambda error: error.code)
def test_a_failure_that_may_pass_is_followed_by_another_attempt(error: RequestError) -> None:
    decision = decide(error)
    assert isinstance(decision, Retry)
    assert 1 <= decision.after_s <= 60
    assert not decision.replaces


@pytest.mark.parametrize("error", OWN_FAILURES, ids=lambda error: error.code)
def test_after_the_sixth_of_them_the_job_fails_and_says_so(error: RequestError) -> None:
    assert isinstance(decide(error, own=5), Retry)
    decision = decide(error, own=6)
    assert isinstance(decision, FailJob)
    assert decision.failure.code == error.code
    assert decision.failure.message == f"{error} (the last of 6 failed attempts)"
    assert not decision.failure.permanent


def test_a_job_that_may_fail_once_only_does_not_speak_of_the_last_attempt() -> None:
    decision = RetryPolicy(max_attempts=1).decide(
        status(ServerError, 500), AttemptHistory(), SUCCEEDED, now=NOON, own=1
    )
    assert isinstance(decision, FailJob)
    assert decision.failure.message == "the server said so"


@pytest.mark.parametrize("error", HELD_UP, ids=lambda error: error.code)
def test_what_is_nobodys_doing_is_tried_again_without_end(error: RequestError) -> None:
    decision = decide(error, own=99, history=AttemptHistory(held_up=1000))
    assert isinstance(decision, Retry)
    assert 1 <= decision.after_s <= 60


@pytest.mark.parametrize("error", OWN_FAILURES, ids=lambda error: error.code)
def test_own_failures_count(error: RequestError) -> None:
    assert is_own_failure(error)


@pytest.mark.parametrize(
    "error",
    [*HELD_UP, status(BadRequest, 400), status(AccessDenied, 401), status(OptionRefused, 400)],
    ids=lambda error: error.code,
)
def test_what_is_nobodys_doing_does_not_count(error: RequestError) -> None:
    assert not is_own_failure(error)


# ---------------------------------------------------------------- at once


def test_a_reused_connection_that_died_is_replaced_at_once() -> None:
    assert decide(ConnectionLost("gone", reused=True)) == Retry(after_s=0.0, replaces=True)


def test_but_only_once_an_attempt() -> None:
    decision = decide(ConnectionLost("gone", reused=True), history=AttemptHistory(replaced=True))
    assert isinstance(decision, Retry)
    assert not decision.replaces
    assert decision.after_s >= 1


def test_a_fresh_connection_that_died_is_no_such_case() -> None:
    decision = decide(ConnectionLost("gone", reused=False))
    assert isinstance(decision, Retry)
    assert not decision.replaces


def test_a_server_that_does_not_know_stream_options_is_asked_again_without_them() -> None:
    assert decide(status(OptionRefused, 400)) == Retry(after_s=0.0, replaces=True)


# ---------------------------------------------------------------- when the server names a time


@pytest.mark.parametrize("kind", [Throttled, ServerError])
def test_the_servers_wait_is_obeyed(kind: type[Any]) -> None:
    assert decide(status(kind, 429, retry_after_s=0.25)) == Retry(after_s=0.25)
    assert decide(status(kind, 429, retry_after_s=3600.0)) == Retry(after_s=3600.0)


@pytest.mark.parametrize("kind", [Throttled, ServerError])
def test_a_longer_wait_than_a_run_has_patience_for_ends_it_with_the_time_to_come_back(kind: type[Any]) -> None:
    decision = decide(status(kind, 429, retry_after_s=3600.1 + 86400))
    assert decision == StopRun(why="the provider asks to wait until 2026-06-02 13:00: the server said so")


def test_a_wait_of_nothing_is_no_wait_to_obey() -> None:
    decision = decide(status(Throttled, 429, retry_after_s=0.0))
    assert isinstance(decision, Retry)
    assert decision.after_s >= 1


# ---------------------------------------------------------------- the job's own fault


@pytest.mark.parametrize("code", [400, 404, 413, 422])
def test_a_rejected_job_fails_at_once_by_its_own_fault(code: int) -> None:
    decision = decide(status(BadRequest, code))
    assert isinstance(decision, FailJob)
    assert (decision.failure.code, decision.failure.permanent) == ("rejected", True)
    assert decision.failure.message == "the server said so"


def test_a_reply_too_large_would_only_be_paid_for_again() -> None:
    decision = decide(ReplyTooLarge("70 MiB"))
    assert isinstance(decision, FailJob)
    assert (decision.failure.code, decision.failure.permanent) == ("reply_too_large", True)


def rejected(standing: ProviderRecord, times: int, *, error_code: str = "invalid_value", code: int = 400) -> Decision:
    decision: Decision = Retry(after_s=0.0)
    for _ in range(times):
        error = status(BadRequest, code, error_code=error_code)
        standing.heard(error)
        decision = decide(error, standing=standing)
    return decision


def test_twenty_rejections_of_one_kind_and_not_one_success_stop_the_run() -> None:
    standing = ProviderRecord()
    assert isinstance(rejected(standing, REJECTIONS_THAT_STOP - 1), FailJob)
    assert rejected(standing, 1) == StopRun(why="the first 20 requests were all rejected: the server said so")


def test_rejections_of_many_kinds_do_not_stop_it() -> None:
    standing = ProviderRecord()
    for error_code in "abcdefgh":
        for code in (400, 404, 422):
            assert isinstance(rejected(standing, 10, error_code=error_code, code=code), FailJob)


def test_nor_do_they_once_a_request_has_succeeded() -> None:
    assert isinstance(rejected(ProviderRecord(succeeded=True), 100), FailJob)


def test_a_model_that_the_server_does_not_know_is_doubted_until_anything_succeeds() -> None:
    standing = ProviderRecord()
    for _ in range(2 * REJECTIONS_THAT_STOP):
        standing.heard(error := status(ModelNotFound, 404))
        decision = decide(error, standing=standing)
        assert isinstance(decision, Park)
        assert (decision.failure.code, decision.failure.permanent) == ("rejected", True)
    assert decide(error) == FailJob(failure=decision.failure)


# ---------------------------------------------------------------- the key's fault


@pytest.mark.parametrize("code", [401, 402, 403, 429])
def test_a_refused_key_stops_the_run_with_the_providers_words(code: int) -> None:
    decision = decide(status(AccessDenied, code), standing=ProviderRecord())
    assert decision == StopRun(why="the provider refused: the server said so")


@pytest.mark.parametrize("code", [401, 402, 429])
def test_it_does_so_even_after_a_success(code: int) -> None:
    assert isinstance(decide(status(AccessDenied, code)), StopRun)


def test_but_a_403_after_a_success_is_about_the_job() -> None:
    decision = decide(status(AccessDenied, 403))
    assert isinstance(decision, FailJob)
    assert decision.failure.permanent


# ---------------------------------------------------------------- no connection


def test_an_address_that_nothing_ever_came_back_from_stops_the_run() -> None:
    decision = decide(ConnectError("cannot connect to host:1"), standing=ProviderRecord())
    assert decision == StopRun(why="cannot connect to host:1; is --base-url right, and the server up?")


@pytest.mark.parametrize("error", [status(Throttled, 429), status(ServerError, 503), ConnectionLost("gone")])
def test_one_that_anything_came_back_from_is_right(error: RequestError) -> None:
    standing = ProviderRecord()
    standing.heard(error)
    assert isinstance(decide(ConnectError("refused"), standing=standing), Retry)
