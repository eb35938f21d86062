"""What each kind of result line means for its job."""

from __future__ import annotations

from typing import Any

import pytest

from processor.batch.answers import result_line
from processor.batch.provider_batches import BatchError
from processor.batch.verdicts import (
    AccountRefused,
    Answered,
    Failed,
    SubmitAgain,
    verdict_on,
    verdict_on_batch_error,
)
from processor.core import json_bytes
from processor.core.models import Job

JOB = Job(line=1, custom_id="a", fingerprint="00" * 16, path="/v1/chat/completions", model="m", body={"model": "m"})
CHOICE = {"index": 0, "message": {"role": "assistant", "content": "Hi"}, "finish_reason": "stop"}


def verdict(response: Any = None, error: Any = None) -> Any:
    line = {"id": "batch_req_1", "custom_id": "b-0", "response": response, "error": error}
    return verdict_on(result_line(json_bytes.dumps(line)), JOB)


def response(status: int, body: Any) -> dict[str, Any]:
    return {"status_code": status, "request_id": "req_1", "body": body}


def test_whole_reply_is_kept_with_its_request_id() -> None:
    found = verdict(response(200, {"choices": [CHOICE]}))
    assert isinstance(found, Answered)
    assert (found.reply.request_id, found.reply.body["choices"]) == ("req_1", [CHOICE])


def test_integers_beyond_64_bits_stay_as_they_are() -> None:
    raw = json_bytes.dumps({"custom_id": "b-0", "response": response(200, {"choices": [CHOICE], "seed": 10**30})})
    found = verdict_on(result_line(raw), JOB)
    assert isinstance(found, Answered)
    assert found.reply.body["seed"] == 10**30


@pytest.mark.parametrize(
    ("given", "code", "permanent"),
    [
        (response(400, {"error": {"message": "bad", "code": None}}), "rejected", True),
        (response(404, {"error": {"message": "no", "code": "model_not_found"}}), "rejected", False),
        (response(403, {"error": {"message": "not allowed", "code": None}}), "refused", False),
    ],
)
def test_refusal_of_the_job_is_a_failed_row(given: Any, code: str, permanent: bool) -> None:
    found = verdict(given)
    assert isinstance(found, Failed)
    assert (found.failure.code, found.failure.permanent) == (code, permanent)


@pytest.mark.parametrize(
    ("given", "error", "code"),
    [
        (response(500, {"error": {"message": "oops"}}), None, "server_error"),
        (response(429, {"error": {"message": "slow down", "code": "rate_limit_exceeded"}}), None, "rate_limited"),
        ({"status_code": 0, "request_id": "", "body": ""}, None, "batch_no_result"),
        (None, None, "batch_no_result"),
        (None, {"code": "batch_expired", "message": "too late"}, "batch_expired"),
        (response(200, {"choices": []}), None, "protocol_error"),
    ],
)
def test_job_without_an_answer_is_submitted_again(given: Any, error: Any, code: str) -> None:
    found = verdict(given, error)
    assert isinstance(found, SubmitAgain)
    assert found.is_counted
    assert found.failed.failure.code == code


def test_cancelled_job_does_not_count_as_submitted() -> None:
    found = verdict(None, {"code": "batch_cancelled", "message": ""})
    assert isinstance(found, SubmitAgain)
    assert not found.is_counted


def test_spent_account_is_no_fault_of_the_job() -> None:
    found = verdict(response(429, {"error": {"message": "quota", "code": "insufficient_quota"}}))
    assert isinstance(found, AccountRefused)


def test_line_that_is_no_json_counts_as_missing() -> None:
    assert result_line(b'{"custom_id": "b-').own_id is None


def test_errors_of_a_whole_batch() -> None:
    of_line = verdict_on_batch_error(BatchError(code="invalid_json_line", message="bad", line=3))
    assert isinstance(of_line, Failed)
    assert of_line.failure.permanent
    full = verdict_on_batch_error(BatchError(code="token_limit_exceeded", message="full"))
    assert isinstance(full, SubmitAgain)
    assert not full.is_counted
    unknown = verdict_on_batch_error(BatchError(code="internal_error", message="oops"))
    assert isinstance(unknown, SubmitAgain)
    assert unknown.failed.failure.code == "batch_failed"
    spent = verdict_on_batch_error(BatchError(code="insufficient_quota", message="no credit"))
    assert isinstance(spent, AccountRefused)
