"""What passes between the driver and a worker arrives as it was, with ages in place of times."""

from __future__ import annotations

import json
import pickle
from typing import Any

import pytest

from processor.cluster.messages import (
    CancelRequest,
    RequestEnded,
    RequestReported,
    SendRequest,
    WorkerNotice,
    decode,
    decode_info,
    encode,
    encode_aged,
    encode_info,
    numbered_target,
)
from processor.core.errors import Throttled
from processor.core.events import Delta, FirstToken, RequestEvent, ResponseStarted, Sent
from processor.core.json_bytes import MAX_DEPTH
from processor.core.models import Job, Reply, Target
from processor.core.secrets import Secret

KEY = "not-a-key-of-anyone"


def nested(depth: int) -> Any:
    value: Any = {"large": 2**80, "text": "é\ud800"}
    for _ in range(depth):
        value = [value]
    return value


def job(body: dict[str, Any]) -> Job:
    return Job(line=3, custom_id="a", fingerprint="f", path="/v1/chat/completions", model="m", body=body)


@pytest.mark.parametrize(
    "message",
    [
        SendRequest(7, 0, job({"messages": nested(MAX_DEPTH)})),
        CancelRequest(7),
        RequestEnded(7, Reply(status_code=200, request_id="r", body={"deep": nested(MAX_DEPTH)})),
        RequestEnded(7, Throttled("slow down", status=429, body={"a": 1}, retry_after_s=3.0, request_id="r")),
        WorkerNotice("a message"),
    ],
    ids=lambda message: type(message).__name__,
)
def test_message_arrives_as_it_was(message: object) -> None:
    assert decode(encode([message])) == [message]


@pytest.mark.parametrize(
    ("event", "aged"),
    [
        (Sent(100.5, streamed=True), Sent(1.5, streamed=True)),
        (ResponseStarted(200, {"a": "b"}, 101.0), ResponseStarted(200, {"a": "b"}, 1.0)),
        (FirstToken(102.0), FirstToken(0.0)),
        (FirstToken(103.0), FirstToken(0.0)),
        (Delta("text"), Delta("text")),
    ],
)
def test_time_of_an_event_becomes_its_age(event: RequestEvent, aged: RequestEvent) -> None:
    assert decode(encode_aged([RequestReported(7, event)], 102.0)) == [RequestReported(7, aged)]


def test_target_is_passed_without_its_key() -> None:
    numbered = numbered_target(0, Target(base_url="https://host/v1", key=Secret(KEY)), "A_VARIABLE", b"salt")
    assert KEY.encode() not in pickle.dumps(numbered)
    assert numbered.matches(KEY)
    assert not numbered.matches("another-key-of-nobody")
    assert not numbered.matches("")


def test_what_a_worker_of_another_version_tells_is_read() -> None:
    told = {"version": "9.9", "sources": "0" * 16, "python": "3.99", "node": "n", "colour": "blue"}
    info = decode_info(json.dumps(told).encode())
    assert (info.version, info.python, info.max_connections) == ("9.9", "3.99", 0)
    assert decode_info(encode_info(info)) == info
