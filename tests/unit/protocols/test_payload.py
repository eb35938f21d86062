"""What is sent for a job, and replies that come in one piece."""

from __future__ import annotations

from typing import Any

import orjson
import pytest

from processor.core.errors import ProtocolError, ServerError, Throttled
from processor.core.models import Job
from processor.protocols import payload, whole_body


def job(**body: Any) -> Job:
    return Job(line=1, custom_id="a", fingerprint="0" * 32, path="/v1/chat/completions", model="m", body=body)


def test_a_job_is_streamed_and_asks_for_its_usage() -> None:
    sent = payload(job(model="m", temperature=0, messages=[]))
    assert sent == (
        b'{"model":"m","temperature":0,"messages":[],"stream":true,"stream_options":{"include_usage":true}}'
    )


def test_the_padding_is_declined_where_the_server_knows_it() -> None:
    options = orjson.loads(payload(job(model="m"), obfuscation=False))["stream_options"]
    assert options == {"include_usage": True, "include_obfuscation": False}


def test_the_jobs_own_stream_options_stand() -> None:
    options = orjson.loads(payload(job(stream_options={"include_usage": False, "x": 1})))["stream_options"]
    assert options == {"include_usage": False, "x": 1}
    assert orjson.loads(payload(job(stream_options=None)))["stream_options"] == {"include_usage": True}


def test_a_server_that_does_not_know_stream_options_is_sent_none() -> None:
    assert payload(job(model="m", stream_options={"x": 1}), usage=False) == b'{"model":"m","stream":true}'


def test_a_job_that_is_not_streamed_is_sent_as_it_is() -> None:
    assert payload(job(stream=False, model="m")) == b'{"stream":false,"model":"m"}'
    assert payload(job(stream=True, model="m"), usage=False) == b'{"stream":true,"model":"m"}'


def test_the_job_itself_is_left_as_it_was() -> None:
    one = job(model="m", stream_options={"x": 1})
    payload(one)
    assert one.body == {"model": "m", "stream_options": {"x": 1}}


def test_a_reply_in_one_piece_is_its_own_body() -> None:
    body = {"id": "x", "choices": [{"index": 0, "message": {"role": "assistant", "content": "hi"}}]}
    assert whole_body(orjson.dumps(body)) == body


@pytest.mark.parametrize(
    "data", [b"", b"hi", b"[]", b"{}", b'{"choices": []}', b'{"choices": {}}', b'{"choices": [1]}', b'{"error": null}']
)
def test_a_reply_without_choices_makes_no_sense(data: bytes) -> None:
    with pytest.raises(ProtocolError):
        whole_body(data)


def test_an_error_with_a_good_status_is_raised() -> None:
    with pytest.raises(ServerError):
        whole_body(b'{"error": {"message": "boom"}}')
    with pytest.raises(Throttled):
        whole_body(b'{"error": {"message": "slow", "code": 429}}')
