"""Whether a failed request is the job's fault, the run's or the endpoint's."""

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
    RequestError,
    ServerError,
    Throttled,
    UrlNotFound,
)
from processor.core.events import BottleneckChanged, OutageEnded, OutageStarted, RunEvent
from processor.core.models import Failure, Job
from processor.health.endpoint_health import MAX_REJECTIONS, EndpointHealth
from processor.health.outage_detector import FAILURE_THRESHOLD
from processor.health.parked_jobs import MAX_DISTINCT_NOT_FOUND
from processor.retry.policy import AttemptHistory, FailJob, Park, Retry, RetryPolicy, StopRun, Verdict

ADDRESS = "http://host/v1"
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
        self, error: RequestError, *, job: Job = JOB, at: float = 1.0, history: AttemptHistory | None = None
    ) -> Verdict:
        return self.health.on_failure(
            error,
            job,
            history or AttemptHistory(),
            sent_at=at,
            now=at,
            local_time=NOON,
            had_first_token=False,
        )

    def reject(self, times: int, *, error_code: str = "invalid_value", status: int = 400) -> Verdict:
        verdicts = [self.fail(status_error(BadRequest, status, error_code=error_code)) for _ in range(times)]
        return verdicts[-1]

    def take_down(self, *, at: float = 10.0) -> None:
        for line in range(FAILURE_THRESHOLD):
            self.fail(status_error(ServerError, 503), job=job(line), at=at)
        assert self.health.is_down


# ---------------------------------------------------------------- the key


@pytest.mark.parametrize("status", [401, 402, 403, 429])
def test_denied_access_before_the_first_success_stops_the_run_with_the_providers_message(status: int) -> None:
    verdict = World().fail(status_error(AccessDenied, status))
    assert verdict == StopRun(reason="the provider refused: the server's message")


@pytest.mark.parametrize("status", [401, 402, 429])
def test_denied_access_other_than_403_stops_the_run_after_a_success_as_well(status: int) -> None:
    assert isinstance(World(has_succeeded=True).fail(status_error(AccessDenied, status)), StopRun)


def test_403_after_a_success_fails_its_job_only() -> None:
    verdict = World(has_succeeded=True).fail(status_error(AccessDenied, 403))
    assert isinstance(verdict, FailJob)
    assert verdict.failure.permanent


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
        for status in (400, 404, 422):
            assert isinstance(world.reject(10, error_code=error_code, status=status), FailJob)


def test_rejections_after_a_success_do_not_stop_the_run() -> None:
    assert isinstance(World(has_succeeded=True).reject(100), FailJob)


# ---------------------------------------------------------------- the model and the URL


def test_job_with_an_unknown_model_is_parked_before_the_first_success_and_fails_after_it() -> None:
    world = World()
    failure = Failure(code="rejected", message="the server's message", permanent=True)
    for _ in range(2 * MAX_REJECTIONS):
        assert world.fail(status_error(ModelNotFound, 404)) == Park(failure=failure)
    world.health.on_success(0, 0.0, 0.0)
    assert world.fail(status_error(ModelNotFound, 404)) == FailJob(failure=failure)


def test_parked_job_blocks_jobs_of_the_same_model_until_a_reply_is_written() -> None:
    world = World()
    world.fail(status_error(ModelNotFound, 404), job=job(model="wrong"))
    parked = world.health.parked
    assert parked.blocks(job(2, model="wrong"))
    assert not parked.blocks(job(2, model="right"))
    world.health.on_reply_written()
    assert not parked.blocks(job(2, model="wrong"))


def test_unknown_url_blocks_jobs_of_every_model() -> None:
    world = World()
    world.fail(status_error(UrlNotFound, 404), job=job(model="one"))
    assert world.health.parked.blocks(job(2, model="another"))


def stop_reason(world: World, *, stuck_jobs: int, has_earlier_replies: bool = False) -> str | None:
    return world.health.parked_jobs_stop_reason(stuck_jobs=stuck_jobs, has_earlier_replies=lambda: has_earlier_replies)


def test_run_does_not_stop_for_parked_jobs_while_another_job_may_succeed() -> None:
    world = World()
    world.fail(status_error(ModelNotFound, 404))
    assert stop_reason(world, stuck_jobs=0) is None


def test_run_stops_when_only_parked_jobs_are_left() -> None:
    world = World()
    world.fail(status_error(ModelNotFound, 404))
    assert stop_reason(world, stuck_jobs=1) == "the provider does not know the model m: the server's message"


def test_run_stops_after_twenty_different_models_were_not_found() -> None:
    world = World()
    for number in range(MAX_DISTINCT_NOT_FOUND):
        assert stop_reason(world, stuck_jobs=0) is None
        world.fail(status_error(ModelNotFound, 404), job=job(number, model=f"model-{number}"))
    assert stop_reason(world, stuck_jobs=0)


@pytest.mark.parametrize(("stuck_jobs", "are_released"), [(MAX_DISTINCT_NOT_FOUND - 1, True), (20, False)])
def test_few_parked_jobs_of_a_file_with_replies_are_released(stuck_jobs: int, are_released: bool) -> None:
    world = World()
    world.fail(status_error(ModelNotFound, 404))
    assert (stop_reason(world, stuck_jobs=stuck_jobs, has_earlier_replies=True) is None) is are_released
    assert world.health.parked.is_resolved is are_released


# ---------------------------------------------------------------- the canary


@pytest.mark.parametrize(("status", "is_cleared"), [(200, True), (500, True), (302, False), (400, False), (429, False)])
def test_canary_is_cleared_by_a_response_that_does_not_reject_the_request(status: int, is_cleared: bool) -> None:
    world = World()
    world.health.on_response(status)
    assert world.health.canary.is_cleared is is_cleared


# ---------------------------------------------------------------- outages


def test_outage_and_recovery_are_each_announced_once() -> None:
    world = World(has_succeeded=True)
    world.take_down(at=10.0)
    world.health.on_success(1, 20.0, 21.0)
    assert world.events == [
        OutageStarted(at=10.0, endpoint=ADDRESS, message="the server's message"),
        BottleneckChanged(at=10.0, bottleneck="outage"),
        OutageEnded(at=21.0, endpoint=ADDRESS),
        BottleneckChanged(at=21.0, bottleneck=None),
    ]


def test_limiter_cannot_replace_the_outage_as_bottleneck() -> None:
    world = World(has_succeeded=True)
    world.take_down(at=10.0)
    world.events.clear()
    world.health.emit_from_limiter(BottleneckChanged(at=11.0, bottleneck="in_flight"))
    world.health.emit_from_limiter(BottleneckChanged(at=12.0, bottleneck="input"))
    assert world.events == []
    world.health.on_success(1, 20.0, 21.0)
    assert world.events[-1] == BottleneckChanged(at=21.0, bottleneck="input")
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
