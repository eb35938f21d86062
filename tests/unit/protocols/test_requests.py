"""What is sent for a job: the encoded request, the options that a server refuses, and what is no request."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import orjson
import pytest

from processor.core.errors import BadRequest, InvalidJob, StatusError
from processor.protocols import RequestOptions, protocol_for
from tests.support.protocol_jobs import CHAT, COMPLETIONS, job_for

BOTH = pytest.mark.parametrize("path", [CHAT, COMPLETIONS])


def encoded(path: str = CHAT, options: RequestOptions | None = None, **body: Any) -> bytes:
    return protocol_for(path).encode(job_for(path, **body), options or RequestOptions())


def sent(path: str = CHAT, options: RequestOptions | None = None, **body: Any) -> Any:
    return orjson.loads(encoded(path, options, **body))


# ---------------------------------------------------------------- encoding


@BOTH
def test_a_job_is_sent_as_a_stream_that_reports_its_usage(path: str) -> None:
    assert encoded(path, model="m", temperature=0, messages=[]) == (
        b'{"model":"m","temperature":0,"messages":[],"stream":true,"stream_options":{"include_usage":true}}'
    )


def test_obfuscation_is_disabled_where_the_server_knows_the_option() -> None:
    request = sent(options=RequestOptions(disable_obfuscation=True), model="m")
    assert request["stream_options"] == {"include_usage": True, "include_obfuscation": False}


def test_stream_options_of_the_job_keep_their_values() -> None:
    assert sent(stream_options={"include_usage": False, "x": 1})["stream_options"] == {"include_usage": False, "x": 1}
    assert sent(stream_options=None)["stream_options"] == {"include_usage": True}


def test_a_server_that_refuses_stream_options_is_sent_none() -> None:
    options = RequestOptions(include_usage=False)
    assert encoded(options=options, model="m", stream_options={"x": 1}) == b'{"model":"m","stream":true}'
    assert encoded(options=options, stream=True, model="m") == b'{"stream":true,"model":"m"}'


def test_a_job_that_asks_for_no_stream_is_sent_unchanged() -> None:
    assert encoded(stream=False, model="m") == b'{"stream":false,"model":"m"}'


def test_a_server_that_cannot_stream_is_asked_for_no_stream() -> None:
    options = RequestOptions(streamed=False)
    assert sent(options=options, model="m", stream=True, stream_options={}) == {"model": "m", "stream": False}
    assert sent(options=options, model="m") == {"model": "m", "stream": False}


def test_the_output_limit_is_sent_under_the_name_that_the_server_accepts() -> None:
    options = RequestOptions(streamed=False, output_limit_field="max_completion_tokens")
    assert sent(options=options, max_tokens=5) == {"max_completion_tokens": 5, "stream": False}
    assert sent(options=options, max_completion_tokens=5) == {"max_completion_tokens": 5, "stream": False}
    assert sent(options=options) == {"stream": False}


@BOTH
def test_encoding_does_not_change_the_job(path: str) -> None:
    job = job_for(path, model="m", stream_options={"x": 1}, max_tokens=5)
    protocol_for(path).encode(job, RequestOptions(output_limit_field="max_completion_tokens"))
    assert job.body == {"model": "m", "stream_options": {"x": 1}, "max_tokens": 5}


@pytest.mark.parametrize(
    ("body", "options", "is_streamed"),
    [
        ({}, RequestOptions(), True),
        ({"stream": True}, RequestOptions(), True),
        ({"stream": None}, RequestOptions(), True),
        ({"stream": False}, RequestOptions(), False),
        ({"stream": True}, RequestOptions(streamed=False), False),
    ],
)
def test_a_request_is_streamed_unless_the_job_or_the_server_says_no(
    body: dict[str, Any], options: RequestOptions, is_streamed: bool
) -> None:
    assert protocol_for(CHAT).is_streamed(job_for(**body), options) is is_streamed


# ---------------------------------------------------------------- refused options


def refusal(message: str = "Unknown parameter: 'stream_options'") -> StatusError:
    return BadRequest(message, status=400)


@BOTH
@pytest.mark.parametrize("options", [RequestOptions(), RequestOptions(disable_obfuscation=True)])
def test_a_job_is_sent_again_without_stream_options_where_the_server_refuses_them(
    path: str, options: RequestOptions
) -> None:
    adapted = protocol_for(path).adapt(refusal(), job_for(path), options)
    assert adapted == replace(options, include_usage=False)


@pytest.mark.parametrize(
    ("error", "body", "options"),
    [
        (refusal("Unknown parameter: 'seed'"), {}, RequestOptions()),
        (refusal(), {"stream_options": {}}, RequestOptions()),
        (refusal(), {"stream": False}, RequestOptions()),
        (refusal(), {}, RequestOptions(include_usage=False)),
        (refusal(), {}, RequestOptions(streamed=False)),
    ],
)
def test_a_refusal_of_anything_that_was_not_added_changes_no_option(
    error: StatusError, body: dict[str, Any], options: RequestOptions
) -> None:
    assert protocol_for(CHAT).adapt(error, job_for(**body), options) is None


# ---------------------------------------------------------------- job formats


def test_the_short_form_of_a_chat_becomes_messages() -> None:
    chat = protocol_for(CHAT)
    user = {"role": "user", "content": "Hi"}
    assert chat.from_short({"prompt": "Hi", "seed": 1}) == {"seed": 1, "messages": [user]}
    system = {"role": "system", "content": "Be brief."}
    assert chat.from_short({"prompt": "Hi", "system": "Be brief."}) == {"messages": [system, user]}


def test_the_short_form_of_a_completion_is_its_request() -> None:
    completions = protocol_for(COMPLETIONS)
    assert completions.from_short({"prompt": "Hi", "n": 2}) == {"prompt": "Hi", "n": 2}
    with pytest.raises(InvalidJob, match="put it into the prompt"):
        completions.from_short({"prompt": "Hi", "system": "s"})


@pytest.mark.parametrize(
    ("path", "body", "message"),
    [
        (CHAT, {}, "has no messages"),
        (CHAT, {"messages": []}, "has no messages"),
        (CHAT, {"messages": ["x"]}, "every message must be an object, not a string"),
        (CHAT, {"prompt": "x"}, "a prompt in a body needs"),
        (COMPLETIONS, {"prompt": []}, "prompt must be text, token ids or a list of these, not an empty array"),
        (COMPLETIONS, {"prompt": 5}, "prompt must be text"),
        (COMPLETIONS, {"messages": []}, "has messages and no prompt"),
    ],
)
def test_a_request_that_the_server_could_only_refuse_is_an_invalid_job(
    path: str, body: dict[str, Any], message: str
) -> None:
    with pytest.raises(InvalidJob, match=message):
        protocol_for(path).validate(body)


def test_a_path_without_a_protocol_is_a_bad_request() -> None:
    with pytest.raises(BadRequest) as raised:
        protocol_for("/v1/unknown")
    assert raised.value.status == 404
