"""Parsing a line of a job file, in the three formats of the contract."""

from __future__ import annotations

from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from processor.core.errors import InvalidJob
from processor.core.models import Job
from processor.input.job_formats import JobDefaults, ParsedJob, job_identity, parse_job
from processor.protocols.registry import known_paths
from tests.support.protocol_jobs import CHAT, COMPLETIONS

MESSAGES = [{"role": "user", "content": "Hi"}]


def parsed(entry: Any, **defaults: Any) -> ParsedJob:
    return parse_job(orjson.dumps(entry), 7, JobDefaults(**defaults))


def job(entry: Any, **defaults: Any) -> Job:
    found = parsed(entry, **defaults)
    return found.with_id(found.custom_id or found.fingerprint)


def error_of(data: Any, **defaults: Any) -> tuple[str, str]:
    """Return the code and message of the error of an invalid line."""
    with pytest.raises(InvalidJob) as caught:
        parse_job(data if isinstance(data, bytes) else orjson.dumps(data), 7, JobDefaults(**defaults))
    return caught.value.code, str(caught.value)


# ---------------------------------------------------------------- with a body: OpenAI Batch


def test_batch_line_keeps_its_url_and_body() -> None:
    body = {"model": "gpt-4o", "messages": MESSAGES, "metadata": {"of": "the request"}, "temperature": 0}
    found = job({"custom_id": "a", "method": "POST", "url": CHAT, "body": body})
    assert (found.custom_id, found.path, found.model, found.line) == ("a", CHAT, "gpt-4o", 7)
    assert found.body == body
    assert not found.has_metadata


def test_batch_line_may_have_metadata_beside_its_body() -> None:
    found = job({"custom_id": "a", "body": {"model": "m", "messages": MESSAGES}, "metadata": [1, None]})
    assert found.has_metadata
    assert found.metadata == [1, None]


def test_body_takes_precedence_over_messages_and_messages_over_prompt() -> None:
    body = {"model": "m", "messages": MESSAGES}
    assert job({"body": body, "messages": [], "prompt": "x"}).body == body
    assert job({"model": "m", "messages": MESSAGES, "prompt": "x"}).body["messages"] == MESSAGES


# ---------------------------------------------------------------- with messages: a bare request body


def test_bare_body_is_sent_without_the_job_keys() -> None:
    found = job({"model": "m", "messages": MESSAGES, "metadata": {"k": 1}, "seed": 3, "id": "x", "url": CHAT})
    assert found.body == {"model": "m", "messages": MESSAGES, "seed": 3}
    assert (found.custom_id, found.metadata) == ("x", {"k": 1})


def test_null_metadata_is_kept() -> None:
    assert job({"model": "m", "messages": MESSAGES, "metadata": None}).has_metadata


# ---------------------------------------------------------------- with a prompt: short


def test_prompt_becomes_a_user_message() -> None:
    assert job({"id": "a", "model": "m", "prompt": "Hi", "max_tokens": 5}).body == {
        "model": "m",
        "max_tokens": 5,
        "messages": MESSAGES,
    }


def test_system_becomes_the_first_message() -> None:
    assert job({"model": "m", "prompt": "Hi", "system": "Be brief."}).body["messages"] == [
        {"role": "system", "content": "Be brief."},
        *MESSAGES,
    ]


def test_prompt_may_be_a_list_of_parts() -> None:
    parts = [{"type": "text", "text": "Hi"}]
    assert job({"model": "m", "prompt": parts}).body["messages"] == [{"role": "user", "content": parts}]


def test_prompt_of_a_text_completion_is_unchanged() -> None:
    found = job({"id": "a", "url": COMPLETIONS, "model": "m", "prompt": ["Once", "Twice"], "n": 2})
    assert found.path == COMPLETIONS
    assert found.body == {"model": "m", "prompt": ["Once", "Twice"], "n": 2}


# ---------------------------------------------------------------- defaults


def test_job_without_url_gets_the_default_path() -> None:
    assert job({"model": "m", "prompt": "Hi"}, endpoint=COMPLETIONS).path == COMPLETIONS
    assert job({"model": "m", "prompt": "Hi", "url": CHAT}, endpoint=COMPLETIONS).path == CHAT


def test_job_without_model_gets_the_default_model() -> None:
    found = job({"prompt": "Hi"}, model="m")
    assert (found.model, found.body["model"]) == ("m", "m")
    assert job({"prompt": "Hi", "model": "mine"}, model="m").model == "mine"


def test_job_without_id_is_parsed_without_id() -> None:
    assert parsed({"model": "m", "prompt": "Hi"}).custom_id is None
    assert parsed({"model": "m", "prompt": "Hi", "id": None}).custom_id is None


def test_custom_id_and_id_are_one_namespace_and_integers_become_strings() -> None:
    assert parsed({"model": "m", "prompt": "Hi", "id": "a"}).custom_id == "a"
    assert parsed({"model": "m", "prompt": "Hi", "custom_id": "b", "id": "a"}).custom_id == "b"
    assert parsed({"model": "m", "prompt": "Hi", "id": 17}).custom_id == "17"


# ---------------------------------------------------------------- what is no job


@pytest.mark.parametrize(
    ("data", "code", "message"),
    [
        (b'{"prompt": "\xff"}', "not_utf8", "not UTF-8: byte 0xff at column 13"),
        (b'{"prompt": ', "invalid_json", "broken JSON: "),
        (b"{'prompt': 'x'}", "invalid_json", "broken JSON: "),
        (b'{"a": NaN}', "invalid_json", "a is NaN or infinite"),
        (b'{"a": 1} {"b": 2}', "invalid_json", "broken JSON: "),
        (b'{"a": "\\ud800"}', "invalid_job", "has neither body"),
        ([], "not_an_object", "not a JSON object but an empty array"),
        ("text", "not_an_object", "not a JSON object but a string"),
        (17, "not_an_object", "not a JSON object but a number"),
        (None, "not_an_object", "not a JSON object but null"),
        (True, "not_an_object", "not a JSON object but a boolean"),
        ({}, "invalid_job", "has neither body, messages nor prompt"),
        ({"id": ""}, "invalid_job", "custom_id must be a non-empty string, not an empty string"),
        ({"id": 1.5}, "invalid_job", "custom_id must be a non-empty string, not a number"),
        ({"custom_id": ["a"]}, "invalid_job", "custom_id must be a non-empty string, not an array"),
        ({"id": True}, "invalid_job", "custom_id must be a non-empty string, not a boolean"),
        ({"prompt": "x"}, "invalid_job", "names no model: give it one, or set --model"),
        ({"prompt": "x", "model": ""}, "invalid_job", "model must be a non-empty string, not an empty string"),
        ({"prompt": "x", "model": 4}, "invalid_job", "model must be a non-empty string, not a number"),
        ({"prompt": "", "model": "m"}, "invalid_job", "prompt must be text, not an empty string"),
        ({"prompt": {}, "model": "m"}, "invalid_job", "prompt must be text, not an empty object"),
        ({"prompt": [], "model": "m", "url": COMPLETIONS}, "invalid_job", "prompt must be text, token ids or a list"),
        (
            {"body": {"messages": MESSAGES, "model": "m"}, "url": COMPLETIONS},
            "invalid_job",
            "has messages and no prompt",
        ),
        ({"body": {"prompt": "x", "model": "m"}}, "invalid_job", "has no messages: a prompt in a body needs"),
        ({"messages": MESSAGES, "model": "m", "url": COMPLETIONS}, "invalid_job", "has no prompt"),
        ({"messages": [], "model": "m"}, "invalid_job", "has no messages"),
        ({"messages": "x", "model": "m"}, "invalid_job", "has no messages"),
        ({"messages": ["x"], "model": "m"}, "invalid_job", "every message must be an object"),
        ({"body": None}, "invalid_job", "body must be an object, not null"),
        ({"body": {}}, "invalid_job", "has no messages"),
        ({"body": {}, "method": "GET"}, "invalid_job", "method must be POST, not 'GET'"),
        ({"body": {}, "method": ["POST"]}, "invalid_job", "method must be POST, not an array"),
        ({"body": {}, "url": ""}, "invalid_job", "url must be "),
        ({"body": {}, "url": "/v2/chat/completions"}, "invalid_job", "url must be "),
        ({"body": {}, "url": 7}, "invalid_job", "url must be "),
        (
            {"body": {}, "url": "/v1/haikus"},
            "invalid_job",
            f"url must be {known_paths()}, not '/v1/haikus'",
        ),
        (
            {"prompt": "x", "model": "m", "url": COMPLETIONS, "system": "s"},
            "invalid_job",
            "system has no place in a text completion: put it into the prompt",
        ),
    ],
)
def test_invalid_line_raises_invalid_job_with_code_and_message(data: Any, code: str, message: str) -> None:
    found = error_of(data)
    assert found[0] == code
    assert found[1].startswith(message)
    assert "\n" not in found[1]


def test_invalid_json_message_names_the_column() -> None:
    assert error_of(b'{"prompt": x}')[1].endswith("at column 12")


def test_body_nested_too_deeply_to_be_written_is_invalid() -> None:
    deep = b'{"prompt": "x", "model": "m", "more": ' + b"[" * 400 + b"]" * 400 + b"}"
    assert error_of(deep) == ("invalid_job", "is nested deeper than 300 levels")


def test_unknown_url_is_shortened_in_the_message() -> None:
    assert len(error_of({"body": {}, "url": "x" * 10_000})[1]) < 300
    assert error_of({"body": {}, "url": {"a": 1}})[1].endswith("not an object")


# ---------------------------------------------------------------- identities


values = (
    st.none() | st.booleans() | st.integers(-9, 9) | st.sampled_from(["", "a", "POST", "GET", "m", CHAT, COMPLETIONS])
)
asked = st.sampled_from([MESSAGES, "Hi", [], ["Hi"], 5, None])
parts = {"model": values, "messages": asked, "prompt": asked, "system": values, "stream": values, "n": values}
bodies = st.fixed_dictionaries({}, optional=parts)
entries = st.fixed_dictionaries(
    {},
    optional={
        **parts,
        "custom_id": values,
        "id": values,
        "method": st.sampled_from(["POST", "POST", "GET", 1]),
        "url": st.sampled_from([CHAT, COMPLETIONS, CHAT, "/v1/other", None]),
        "body": bodies | values,
        "metadata": values | st.dictionaries(st.sampled_from("ab"), values),
    },
)


@given(entries | values, st.sampled_from([b"", b"\n", b" \r\n", b"}"]), st.sampled_from([None, "m"]))
def test_job_identity_equals_id_and_fingerprint_of_parsed_job(entry: Any, end: bytes, model: str | None) -> None:
    line, defaults = orjson.dumps(entry) + end, JobDefaults(model=model)
    try:
        found = parse_job(line.strip(), 1, defaults)
    except InvalidJob:
        return  # its identity does not matter: it never had a reply
    assert job_identity(line, defaults) == (
        found.custom_id,
        bytes.fromhex(found.fingerprint),
        found.names_model,
    )


@pytest.mark.parametrize(
    "entry",
    [
        [],
        {"id": [], "model": "m", "messages": MESSAGES},
        {"method": "GET", "model": "m", "messages": MESSAGES},
        {"url": "/v1/other", "model": "m", "messages": MESSAGES},
        {"messages": MESSAGES},
        {"model": "m"},
    ],
)
def test_job_identity_raises_invalid_job_for_errors_outside_the_request(entry: Any) -> None:
    with pytest.raises(InvalidJob):
        parse_job(orjson.dumps(entry), 1, JobDefaults())
    for model in (None, ""):
        with pytest.raises(InvalidJob):
            job_identity(orjson.dumps(entry), JobDefaults(model=model))


@pytest.mark.parametrize(
    "url",
    [
        "/v1/chat/completions",
        "/chat/completions",
        "chat/completions",
        "v1/chat/completions",
        "/v1/chat/completions/",
        "/chat/completions/",
        None,
    ],
)
def test_spellings_of_a_url_mean_one_path(url: str | None) -> None:
    body = {"model": "m", "messages": MESSAGES}
    plain = job({"custom_id": "a", "body": body})
    found = job({"custom_id": "a", "url": url, "body": body})
    assert (found.path, found.fingerprint) == (CHAT, plain.fingerprint)


def test_null_as_url_means_the_default_endpoint() -> None:
    entry = {"custom_id": "a", "url": None, "prompt": "x", "model": "m"}
    assert parse_job(orjson.dumps(entry), 1, JobDefaults(endpoint=COMPLETIONS)).path == COMPLETIONS


def test_system_beside_messages_becomes_the_system_message() -> None:
    found = job({"model": "m", "messages": MESSAGES, "system": "Say no."})
    written_out = job({"model": "m", "messages": [{"role": "system", "content": "Say no."}, *MESSAGES]})
    assert (found.body, found.fingerprint) == (written_out.body, written_out.fingerprint)
    assert job({"model": "m", "messages": MESSAGES, "system": None}).body == {"model": "m", "messages": MESSAGES}


@pytest.mark.parametrize("role", ["system", "developer"])
def test_system_beside_a_system_message_is_refused(role: str) -> None:
    messages = [*MESSAGES, {"role": role, "content": "Say yes."}]
    code, message = error_of({"model": "m", "messages": messages, "system": "Say no."})
    assert (code, message) == ("invalid_job", "has system beside messages that hold a system message: keep one of them")
    assert error_of({"model": "m", "messages": MESSAGES, "system": 7})[1] == "system must be text, not a number"


@pytest.mark.parametrize("method", ["POST", "post", "Post", None])
def test_method_is_read_in_any_case_and_may_be_null(method: str | None) -> None:
    assert job({"method": method, "prompt": "x", "model": "m"}).path == CHAT


@pytest.mark.parametrize("name", ["custom_id", "id"])
@pytest.mark.parametrize(("value", "custom_id"), [(1.0, "1"), (-2.0, "-2"), (12345678.0, "12345678"), (3, "3")])
def test_whole_number_as_id_is_its_decimal_string(name: str, value: float, custom_id: str) -> None:
    assert job({name: value, "prompt": "x", "model": "m"}).custom_id == custom_id
