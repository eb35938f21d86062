"""What a server refuses of a request's options is left out of later requests for the same model."""

from __future__ import annotations

from typing import Any

import orjson
import pytest

from processor.core.errors import BadRequest, OptionRefused
from processor.core.events import Sent
from processor.core.models import JSON
from tests.support.http_exchange import HELLO_WORLD, Record, ServerConnection, event, exchange, make_job, response

WHOLE = orjson.dumps(
    {"id": "x", "choices": [{"index": 0, "message": {"content": "Hello world"}, "finish_reason": "stop"}]}
)


def refusal(status: int, body: Any) -> bytes:
    return response(orjson.dumps(body), f"{status} No", "application/json")


class StrictServer:
    """Refuses fields of a request: ``refusals`` maps a field's name to the answer."""

    def __init__(self, **refusals: bytes) -> None:
        self._refusals = refusals

    async def __call__(self, server: ServerConnection) -> None:
        request: JSON = orjson.loads(server.body)
        answer = next((answer for name, answer in self._refusals.items() if request.get(name)), None)
        if answer is None:
            answer = response(HELLO_WORLD) if request["stream"] else response(WHOLE, "200 OK", "application/json")
        await server.send(answer)


MISTRAL = refusal(422, {"message": {"detail": [{"loc": ["body", "stream_options"], "msg": "Extra inputs"}]}})
UNVERIFIED = refusal(400, {"error": {"message": "You must be verified to stream this model.", "param": "stream"}})
NO_MAX_TOKENS = refusal(400, {"error": {"message": "'max_tokens' is not supported. Use 'max_completion_tokens'."}})


def sent_modes(record: Record) -> list[bool | None]:
    return [event.streamed for event in record.events if isinstance(event, Sent)]


def test_all_refused_options_are_remembered_together() -> None:
    server = StrictServer(stream_options=MISTRAL, max_tokens=NO_MAX_TOKENS, stream=UNVERIFIED)
    record = exchange(server, times=6, job=make_job(max_tokens=5))
    assert [type(error) for error in record.errors] == [OptionRefused] * 3
    assert record.texts == ["Hello world"] * 3
    assert sent_modes(record) == [True, True, True, False, False, False]
    assert orjson.loads(record.request_bodies[-1]) == {"model": "m", "max_completion_tokens": 5, "stream": False}


def test_refused_stream_of_a_job_that_asks_for_one_is_a_bad_request() -> None:
    record = exchange(StrictServer(stream=UNVERIFIED), times=2, job=make_job(stream=True))
    assert [type(error) for error in record.errors] == [BadRequest] * 2
    assert sent_modes(record) == [True, True]


def test_option_that_is_refused_inside_a_stream_is_left_out() -> None:
    told = response(event({"error": {"message": "stream_options is not supported", "code": 400}}))
    record = exchange(StrictServer(stream_options=told), times=2)
    assert [type(error) for error in record.errors] == [OptionRefused]
    assert record.texts == ["Hello world"]


def test_option_that_is_refused_by_a_body_with_a_good_status_is_left_out() -> None:
    told = response(b'{"error": {"message": "streaming is not supported"}}', "200 OK", "application/json")
    record = exchange(StrictServer(stream=told), times=2)
    assert [type(error) for error in record.errors] == [OptionRefused]
    assert sent_modes(record) == [True, False]


@pytest.mark.parametrize("asked", [None, True, False])
def test_no_stream_asks_for_every_reply_unstreamed(asked: bool | None) -> None:
    job = make_job() if asked is None else make_job(stream=asked, stream_options={"include_usage": True})
    record = exchange(StrictServer(stream=UNVERIFIED, stream_options=MISTRAL), stream=False, job=job)
    assert record.texts == ["Hello world"]
    assert sent_modes(record) == [False]
