"""What the retry policy does with each type of error, given the job's history."""

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
from processor.core.process_errors import WorkerLost
from processor.retry.policy import (
    MAX_WORKERS_LOST,
    AttemptHistory,
    FailJob,
    Retry,
    RetryPolicy,
    Verdict,
    counts_against_job,
)

NOON = datetime(2026, 6, 1, 12, 0)


def status_error(cls: type[Any], status: int, **more: Any) -> Any:
    return cls("the server's message", status=status, **more)


COUNTED = [
    status_error(ServerError, 500),
    status_error(ServerError, 503),
    status_error(ServerError, 408),
    ConnectionLost("lost"),
    StreamTruncated("cut"),
    StreamStalled("silent"),
    Timeout("slow"),
    ProtocolError("senseless"),
]
RETRIED_WITHOUT_LIMIT = [status_error(Throttled, 429), ConnectError("refused")]
NOT_COUNTED = [
    *RETRIED_WITHOUT_LIMIT,
    status_error(BadRequest, 400),
    status_error(AccessDenied, 401),
    status_error(OptionRefused, 400),
]


def error_code(error: RequestError) -> str:
    return error.code


def decide(
    error: RequestError,
    *,
    counted_failures: int = 1,
    history: AttemptHistory | None = None,
    policy: RetryPolicy | None = None,
    alone_for_s: float | None = None,
) -> Verdict:
    return (policy or RetryPolicy()).decide(
        error, history or AttemptHistory(), counted_failures=counted_failures, now=NOON, alone_for_s=alone_for_s
    )


# ---------------------------------------------------------------- retries with backoff


@pytest.mark.parametrize("error", COUNTED, ids=error_code)
def test_failure_that_may_pass_is_retried_after_a_backoff(error: RequestError) -> None:
    verdict = decide(error)
    assert isinstance(verdict, Retry)
    assert 1 <= verdict.delay_s <= 60
    assert not verdict.is_replacement


@pytest.mark.parametrize("error", COUNTED, ids=error_code)
def test_job_fails_after_six_counted_failures_and_its_message_says_so(error: RequestError) -> None:
    assert isinstance(decide(error, counted_failures=5), Retry)
    verdict = decide(error, counted_failures=6)
    assert isinstance(verdict, FailJob)
    assert verdict.failure.code == error.code
    assert verdict.failure.message == f"{error} (the last of 6 failed attempts)"
    assert not verdict.failure.permanent


def test_message_of_a_job_with_a_single_attempt_counts_no_attempts() -> None:
    verdict = decide(status_error(ServerError, 500), policy=RetryPolicy(max_attempts=1))
    assert isinstance(verdict, FailJob)
    assert verdict.failure.message == "the server's message"


@pytest.mark.parametrize("error", RETRIED_WITHOUT_LIMIT, ids=error_code)
def test_throttled_or_unconnected_request_is_retried_without_limit(error: RequestError) -> None:
    verdict = decide(error, counted_failures=99, history=AttemptHistory(uncounted_failures=1000))
    assert isinstance(verdict, Retry)
    assert 1 <= verdict.delay_s <= 60


@pytest.mark.parametrize("error", COUNTED, ids=error_code)
def test_failure_that_the_job_may_have_caused_counts_against_it(error: RequestError) -> None:
    assert counts_against_job(error)


@pytest.mark.parametrize("error", NOT_COUNTED, ids=error_code)
def test_failure_that_the_job_cannot_have_caused_does_not_count_against_it(error: RequestError) -> None:
    assert not counts_against_job(error)


# ---------------------------------------------------------------- replacements


def test_reused_connection_that_died_is_replaced_at_once() -> None:
    assert decide(ConnectionLost("lost", reused=True)) == Retry(delay_s=0.0, is_replacement=True)


def test_replacement_that_dies_on_a_reused_connection_is_not_replaced_again() -> None:
    verdict = decide(ConnectionLost("lost", reused=True), history=AttemptHistory(last_was_replacement=True))
    assert isinstance(verdict, Retry)
    assert not verdict.is_replacement
    assert verdict.delay_s >= 1


def test_fresh_connection_that_died_is_retried_and_not_replaced() -> None:
    verdict = decide(ConnectionLost("lost", reused=False))
    assert isinstance(verdict, Retry)
    assert not verdict.is_replacement


def test_request_with_a_refused_option_is_replaced_at_once() -> None:
    assert decide(status_error(OptionRefused, 400)) == Retry(delay_s=0.0, is_replacement=True)


# ---------------------------------------------------------------- the history


def test_history_records_counted_and_uncounted_failures_apart() -> None:
    history, retry = AttemptHistory(), Retry(delay_s=1.0)
    history.record(retry, status_error(ServerError, 500), 10.0)
    history.record(retry, status_error(Throttled, 429), 20.0)
    history.record(retry, StreamTruncated("cut"), 30.0)
    assert [at for at, _ in history.failures] == [10.0, 30.0]
    assert (history.uncounted_failures, history.first_throttled_at) == (1, 20.0)


def test_history_records_of_a_replaced_attempt_only_that_it_was_replaced() -> None:
    history = AttemptHistory()
    history.record(Retry(delay_s=0.0, is_replacement=True), ConnectionLost("lost", reused=True), 10.0)
    assert history == AttemptHistory(last_was_replacement=True)
    history.record(Retry(delay_s=1.0), ConnectionLost("lost", reused=True), 11.0)
    assert [at for at, _ in history.failures] == [11.0]
    assert not history.last_was_replacement


# ---------------------------------------------------------------- waits that the server names


@pytest.mark.parametrize("cls", [Throttled, ServerError])
def test_wait_that_the_server_names_is_obeyed(cls: type[Any]) -> None:
    assert decide(status_error(cls, 429, retry_after_s=0.25)) == Retry(delay_s=0.25)
    assert decide(status_error(cls, 429, retry_after_s=3600.0)) == Retry(delay_s=3600.0)


@pytest.mark.parametrize("cls", [Throttled, ServerError])
def test_wait_longer_than_max_wait_fails_the_job_that_alone_must_wait_and_names_the_time(cls: type[Any]) -> None:
    error = status_error(cls, 429, retry_after_s=3600.1 + 86400)
    assert RetryPolicy().asks_for_long_wait(error)
    verdict = decide(error)
    assert isinstance(verdict, FailJob)
    assert verdict.failure.message == "the provider asks to wait until 2026-06-02 13:00: the server's message"
    assert not verdict.failure.permanent, "the next run sends it again"


def test_job_that_is_throttled_alone_fails_after_max_wait() -> None:
    error = status_error(Throttled, 429, retry_after_s=10.0)
    assert decide(error, alone_for_s=3589.0) == Retry(delay_s=10.0)
    verdict = decide(error, alone_for_s=3591.0)
    assert isinstance(verdict, FailJob)
    assert (verdict.failure.code, verdict.failure.permanent) == ("rate_limited", False)
    assert verdict.failure.message == "throttled for 3591 s while other jobs were answered: the server's message"
    assert isinstance(decide(error, alone_for_s=None), Retry), "a limit of all has no end"
    assert isinstance(decide(ConnectError("refused"), alone_for_s=3700.0), Retry), "that is an outage"


def test_wait_of_zero_seconds_is_replaced_by_the_backoff() -> None:
    verdict = decide(status_error(Throttled, 429, retry_after_s=0.0))
    assert isinstance(verdict, Retry)
    assert verdict.delay_s >= 1


# ---------------------------------------------------------------- permanent failures


@pytest.mark.parametrize("status", [400, 404, 413, 422])
def test_rejected_job_fails_at_once_and_permanently(status: int) -> None:
    verdict = decide(status_error(BadRequest, status))
    assert isinstance(verdict, FailJob)
    assert (verdict.failure.code, verdict.failure.permanent) == ("rejected", True)
    assert verdict.failure.message == "the server's message"


def test_job_with_an_unknown_model_fails_permanently() -> None:
    verdict = decide(status_error(ModelNotFound, 404))
    assert isinstance(verdict, FailJob)
    assert (verdict.failure.code, verdict.failure.permanent) == ("rejected", True)


def test_job_whose_reply_is_too_large_fails_permanently_and_is_not_paid_for_again() -> None:
    verdict = decide(ReplyTooLarge("70 MiB"))
    assert isinstance(verdict, FailJob)
    assert (verdict.failure.code, verdict.failure.permanent) == ("reply_too_large", True)


def test_job_of_a_lost_worker_is_sent_again_at_once_and_given_up_only_after_many() -> None:
    policy, history, error = RetryPolicy(max_attempts=1), AttemptHistory(), WorkerLost("killed")
    verdicts: list[Verdict] = []
    for at in range(MAX_WORKERS_LOST):
        verdicts.append(policy.decide(error, history, counted_failures=0, now=NOON))
        history.record(verdicts[-1], error, float(at))
    assert verdicts[:-1] == [Retry(delay_s=0.0, is_replacement=True)] * (MAX_WORKERS_LOST - 1)
    assert isinstance(verdicts[-1], FailJob)
    assert (verdicts[-1].failure.code, verdicts[-1].failure.permanent) == ("worker_lost", False)
    assert not counts_against_job(error)
