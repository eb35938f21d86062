"""Whether a failed request is the job's fault, the run's or the endpoint's."""

from __future__ import annotations

from datetime import datetime
from typing import Any

import pytest

from processor.core.errors import (
    AccessDenied,
    AddressError,
    BadRequest,
    ConnectError,
    ConnectionLost,
    ModelNotFound,
    ProtocolError,
    Redirected,
    RequestError,
    ServerError,
    StreamTruncated,
    Throttled,
    UrlNotFound,
)
from processor.core.events import BottleneckChanged, OutageEnded, OutageStarted, RunEvent
from processor.core.models import Failure, Job
from processor.core.process_errors import WorkerLost
from processor.health.endpoint_health import MAX_REJECTIONS, EndpointHealth
from processor.health.failed_attempt import FailedAttempt
from processor.health.outage_detector import FAILURE_THRESHOLD
from processor.health.parked_jobs import MAX_PARKED_JOBS, MAX_PARKED_PER_CAUSE
from processor.retry.policy import (
    AttemptHistory,
    Defer,
    FailJob,
    LeaveJob,
    Park,
    Retry,
    RetryPolicy,
    StopRun,
    Verdict,
)
from processor.simulator.virtual_clock import run

ADDRESS = "http://host/v1"
GROUP = "/v1/chat/completions m"
NOON = datetime(2026, 6, 1, 12, 0)


def status_error(cls: type[Any], status: int, **more: Any) -> Any:
    return cls("the server's message", status=status, **more)


def job(line: int = 1, *, model: str = "m") -> Job:
    return Job(
        line=line,
        custom_id=f"job-{line}",
        fingerprint="",
        path="/v1/chat/completions",
        model=model,
        body={"model": model},
    )


JOB = job()


class World:
    """The health of one endpoint, and the events that it emitted."""

    def __init__(self, *, has_succeeded: bool = False, max_outage_s: float = 3600.0) -> None:
        self.events: list[RunEvent] = []
        self.health = EndpointHealth(RetryPolicy(), self.events.append, endpoint=ADDRESS, max_outage_s=max_outage_s)
        if has_succeeded:
            self.health.on_success(0, 0.0, 0.0)

    def fail(
        self,
        error: RequestError,
        *,
        job: Job = JOB,
        at: float = 1.0,
        history: AttemptHistory | None = None,
        is_singled_out: bool = False,
    ) -> Verdict:
        attempt = FailedAttempt(
            job=job, limit_group=GROUP, sent_at=at, now=at, local_time=NOON, is_singled_out=is_singled_out
        )
        return self.health.on_failure(error, attempt, history or AttemptHistory())

    def succeed(self, line: int, *, at: float, model: str = "m") -> None:
        self.health.on_success(line, at, at)
        self.health.on_reply_written(job(line, model=model), GROUP, at)

    def reject(self, times: int, *, error_code: str = "invalid_value", status: int = 400) -> Verdict:
        verdicts = [self.fail(status_error(BadRequest, status, error_code=error_code)) for _ in range(times)]
        return verdicts[-1]

    def take_down(self, *, at: float = 10.0) -> None:
        for line in range(FAILURE_THRESHOLD):
            self.fail(status_error(ServerError, 503), job=job(line), at=at)
        assert self.health.is_down


# ---------------------------------------------------------------- the key and the account


@pytest.mark.parametrize("has_succeeded", [False, True])
@pytest.mark.parametrize(("status", "scope"), [(401, None), (402, "endpoint"), (403, "endpoint"), (429, None)])
def test_refused_key_or_account_stops_the_endpoint_with_the_providers_message(
    status: int, scope: Any, has_succeeded: bool
) -> None:
    verdict = World(has_succeeded=has_succeeded).fail(status_error(AccessDenied, status, scope=scope))
    assert verdict == StopRun(reason="the provider refused: the server's message")


def test_refused_account_names_the_time_when_it_comes_back() -> None:
    verdict = World().fail(status_error(AccessDenied, 429, scope="endpoint", retry_after_s=7200.0))
    assert verdict == StopRun(reason="the provider refused: the server's message (until 2026-06-01 14:00)")


def test_refused_model_is_closed_and_no_other() -> None:
    world = World(has_succeeded=True)
    error = status_error(AccessDenied, 429, scope="model")
    assert world.fail(error, job=job(model="spent")) == LeaveJob()
    assert world.health.closed_reason("spent", GROUP) == "the provider refused: the server's message"
    assert world.health.closed_reason("m", GROUP) is None


# ---------------------------------------------------------------- the address


def test_failed_connection_before_any_response_stops_the_run() -> None:
    verdict = World().fail(ConnectError("cannot connect to host:1"))
    assert verdict == StopRun(reason="cannot connect to host:1; is --base-url right, and the server up?")


@pytest.mark.parametrize(
    "earlier", [status_error(Throttled, 429), status_error(ServerError, 503), ConnectionLost("lost")]
)
def test_failed_connection_after_any_other_failure_is_retried(earlier: RequestError) -> None:
    world = World()
    world.fail(earlier)
    assert isinstance(world.fail(ConnectError("refused")), Retry)


# ---------------------------------------------------------------- the options


def test_twenty_rejections_of_one_kind_without_a_success_stop_the_run() -> None:
    world = World()
    assert isinstance(world.reject(MAX_REJECTIONS - 1), FailJob)
    assert world.reject(1) == StopRun(reason="the first 20 requests were all rejected: the server's message")


def test_rejections_of_different_kinds_do_not_stop_the_run() -> None:
    world = World()
    for error_code in "abcdefgh":
        for status in (400, 413, 422):
            assert isinstance(world.reject(10, error_code=error_code, status=status), FailJob)


def test_rejections_after_a_success_do_not_stop_the_run() -> None:
    assert isinstance(World(has_succeeded=True).reject(100), FailJob)


def test_redirect_stops_the_endpoint() -> None:
    verdict = World(has_succeeded=True).fail(status_error(Redirected, 302))
    assert verdict == StopRun(reason="the server's message")


@pytest.mark.parametrize(("has_succeeded", "is_end"), [(False, True), (True, False)])
def test_wrong_address_stops_the_endpoint_before_its_first_success(has_succeeded: bool, is_end: bool) -> None:
    verdict = World(has_succeeded=has_succeeded).fail(AddressError("the certificate is not trusted"))
    assert (verdict == StopRun(reason="the certificate is not trusted")) is is_end


# ---------------------------------------------------------------- parked jobs


PARKING = [
    status_error(AccessDenied, 402),
    status_error(AccessDenied, 403),
    status_error(BadRequest, 404),
    status_error(ModelNotFound, 400),
    status_error(UrlNotFound, 404),
    ProtocolError("senseless"),
    StreamTruncated("no end", ended_by_server=True),
]


def parked(verdict: Verdict) -> Park:
    assert isinstance(verdict, Park)
    return verdict


@pytest.mark.parametrize("error", PARKING, ids=str)
@pytest.mark.parametrize("has_succeeded", [False, True])
def test_job_that_may_be_at_fault_is_released_by_a_success_that_was_sent_later(
    error: RequestError, has_succeeded: bool
) -> None:
    async def main() -> None:
        world = World(has_succeeded=has_succeeded)
        verdict = parked(world.fail(error, at=10.0))
        world.succeed(2, at=9.0)
        assert not verdict.is_at_fault.done(), "sent before the parked job"
        world.succeed(JOB.line, at=11.0)
        assert not verdict.is_at_fault.done(), "no other job"
        world.succeed(3, at=11.0)
        assert verdict.is_at_fault.result() is True

    run(main())


def test_refused_job_fails_and_one_that_was_not_understood_is_tried_again() -> None:
    async def main() -> None:
        world = World()
        failure = Failure(code="refused", message="the server's message", permanent=True)
        assert parked(world.fail(status_error(AccessDenied, 403))).at_fault == FailJob(failure=failure)
        assert isinstance(parked(world.fail(ProtocolError("senseless"), job=job(2))).at_fault, Retry)
        again = world.fail(ProtocolError("senseless"), job=job(3), history=AttemptHistory(is_at_fault=True))
        assert isinstance(again, Retry), "it is known that the job is at fault"

    run(main())


@pytest.mark.parametrize("error", PARKING[:5], ids=str)
def test_twenty_different_jobs_close_their_model(error: RequestError) -> None:
    async def main() -> None:
        world = World()
        for line in range(MAX_PARKED_PER_CAUSE - 1):
            world.succeed(100 + line, at=line, model="other")
            parked(world.fail(error, job=job(line), at=line))
        assert world.fail(error, job=job(99), at=99.0) == LeaveJob()
        assert world.health.closed_reason("m", GROUP)
        assert world.fail(error, job=job(98), at=99.0) == LeaveJob(), "in flight when the model was closed"
        assert isinstance(world.fail(error, job=job(97, model="other"), at=99.0), Park)

    run(main())


@pytest.mark.parametrize("error", PARKING, ids=str)
def test_twenty_different_jobs_of_any_model_stop_an_endpoint_without_a_success(error: RequestError) -> None:
    async def main() -> None:
        world = World()
        for line in range(MAX_PARKED_PER_CAUSE - 1):
            parked(world.fail(error, job=job(line, model=f"model-{line}")))
        verdict = world.fail(error, job=job(99, model="another"))
        assert isinstance(verdict, StopRun)
        assert "(20 jobs: job-0, job-1, job-2 and 17 more)" in verdict.reason
        assert str(error) in verdict.reason

    run(main())


def test_success_in_between_begins_the_count_anew() -> None:
    async def main() -> None:
        world = World()
        for line in range(5 * MAX_PARKED_PER_CAUSE):
            parked(world.fail(ProtocolError("senseless"), job=job(line), at=line))
            if line % 10 == 9:
                world.succeed(1000, at=line + 0.5)

    run(main())


def test_no_more_than_256_jobs_are_held() -> None:
    async def main() -> None:
        world = World()
        for line in range(MAX_PARKED_JOBS):
            parked(world.fail(status_error(ModelNotFound, 404), job=job(line, model=f"model-{line}"), at=line))
            world.succeed(1000, at=line + 0.5)
        verdict = world.fail(status_error(ModelNotFound, 404), job=job(999, model="last"), at=999.0)
        assert isinstance(verdict, Defer)
        assert not verdict.failure.permanent
        assert len(world.health.parked) == MAX_PARKED_JOBS

    run(main())


# ---------------------------------------------------------------- waits


def test_second_long_wait_closes_the_limit_group() -> None:
    async def main() -> None:
        world = World(has_succeeded=True)
        first = parked(world.fail(status_error(Throttled, 429, retry_after_s=7200.0), at=10.0))
        assert world.health.closed_reason("m", GROUP) is None
        assert world.fail(status_error(Throttled, 429, retry_after_s=7100.0), job=job(2), at=11.0) == LeaveJob()
        assert first.is_at_fault.result() is False
        assert world.health.closed_reason("any", GROUP) == (
            "the provider asks to wait until 2026-06-01 14:00: the server's message (2 jobs: job-1, job-2)"
        )
        assert world.health.closed_reason("m", "another group") is None

    run(main())


def test_long_wait_of_one_job_alone_fails_it_for_this_run() -> None:
    async def main() -> None:
        world = World(has_succeeded=True)
        verdict = parked(world.fail(status_error(Throttled, 429, retry_after_s=7200.0), at=10.0))
        world.succeed(2, at=11.0)
        assert verdict.is_at_fault.result() is True
        assert isinstance(verdict.at_fault, FailJob)
        assert (verdict.at_fault.failure.code, verdict.at_fault.failure.permanent) == ("rate_limited", False)

    run(main())


def test_job_that_is_throttled_alone_gets_a_failed_row_after_max_wait() -> None:
    world, history = World(has_succeeded=True), AttemptHistory()
    error = status_error(Throttled, 429, retry_after_s=60.0)
    assert isinstance(world.fail(error, at=10.0, history=history), Retry)
    assert isinstance(world.fail(error, at=3500.0, history=history, is_singled_out=True), Retry)
    assert isinstance(world.fail(error, at=3600.0, history=history), Retry), "others are throttled as well"
    assert isinstance(world.fail(error, at=3600.0, history=history, is_singled_out=True), FailJob)


# ---------------------------------------------------------------- the canary


def test_canary_ends_when_something_is_understood() -> None:
    begun, complete = World(), World()
    assert not begun.health.canary.is_cleared
    begun.health.on_first_token(1, 0.0, 1.0)
    complete.health.on_success(1, 0.0, 1.0)
    assert begun.health.canary.is_cleared
    assert complete.health.canary.is_cleared


# ---------------------------------------------------------------- outages


def test_outage_and_recovery_are_each_announced_once() -> None:
    world = World(has_succeeded=True)
    world.take_down(at=10.0)
    world.health.on_success(1, 20.0, 21.0)
    assert world.events == [
        BottleneckChanged(at=10.0, bottleneck="outage"),
        OutageStarted(at=10.0, endpoint=ADDRESS, message="the server's message"),
        BottleneckChanged(at=21.0, bottleneck=None),
        OutageEnded(at=21.0, endpoint=ADDRESS),
    ], "what is shown with the message of an outage is the state in it"


def test_limiter_cannot_replace_the_outage_as_bottleneck() -> None:
    world = World(has_succeeded=True)
    world.take_down(at=10.0)
    world.events.clear()
    world.health.emit_from_limiter(BottleneckChanged(at=11.0, bottleneck="in_flight"))
    world.health.emit_from_limiter(BottleneckChanged(at=12.0, bottleneck="input"))
    assert world.events == []
    world.health.on_success(1, 20.0, 21.0)
    assert world.events[-2] == BottleneckChanged(at=21.0, bottleneck="input")
    world.health.emit_from_limiter(BottleneckChanged(at=22.0, bottleneck="in_flight"))
    assert world.events[-1] == BottleneckChanged(at=22.0, bottleneck="in_flight")


def test_failures_during_an_outage_neither_count_nor_wait() -> None:
    world, history = World(has_succeeded=True), AttemptHistory()
    world.take_down(at=10.0)
    for attempt in range(20):
        verdict = world.fail(status_error(ServerError, 503), at=11.0 + attempt, history=history)
        assert verdict == Retry(delay_s=0.0)


def test_outage_longer_than_the_maximum_stops_the_run() -> None:
    world = World(has_succeeded=True, max_outage_s=1800.0)
    world.take_down(at=10.0)
    verdict = world.fail(status_error(ServerError, 503), at=1810.0)
    assert verdict == StopRun(reason="the provider has been down for 0.5 h: the server's message")


def test_stream_without_end_marker_is_a_sign_of_an_outage_only_after_the_first_success() -> None:
    async def main() -> None:
        for has_succeeded in (False, True):
            world = World(has_succeeded=has_succeeded)
            for line in range(FAILURE_THRESHOLD):
                world.fail(StreamTruncated("no end", ended_by_server=True), job=job(line), at=10.0)
            assert world.health.is_down is has_succeeded

    run(main())


def test_broken_connection_is_a_sign_of_an_outage_and_never_parks() -> None:
    world = World()
    verdicts = [world.fail(StreamTruncated("reset"), job=job(line), at=10.0) for line in range(FAILURE_THRESHOLD)]
    assert world.health.is_down
    assert all(isinstance(verdict, Retry) for verdict in verdicts)


def test_streams_that_an_outage_cuts_do_not_park() -> None:
    world = World(has_succeeded=True)
    world.take_down(at=10.0)
    assert isinstance(world.fail(StreamTruncated("no end", ended_by_server=True), at=11.0), Retry)


def test_lost_worker_is_neither_a_sign_of_an_outage_nor_an_answer() -> None:
    world = World(has_succeeded=True)
    for line in range(2 * FAILURE_THRESHOLD):
        verdict = world.fail(WorkerLost("killed"), job=job(line), at=10.0)
        assert verdict == Retry(delay_s=0.0, is_replacement=True)
    assert world.events == []
    world.take_down(at=20.0)
    world.fail(WorkerLost("killed"), at=30.0)
    assert world.health.is_down


def test_lost_worker_does_not_show_that_the_endpoint_can_be_reached() -> None:
    world = World()
    world.fail(WorkerLost("killed"))
    assert isinstance(world.fail(ConnectError("refused")), StopRun)
