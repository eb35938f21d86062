from __future__ import annotations

import json
import math
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from processor.core.job_keys import job_key
from processor.core.models import Failure, Reply, Result, Usage
from processor.output.index_entry import (
    FAILED,
    INVALID_LINE,
    PACKED_ENTRY,
    PERMANENT,
    REPLIED,
    SIMULATED,
    entry_from_result,
    parse_entry,
)
from processor.output.job_index import JobIndex, JobStatus
from processor.output.row_json import encode_row
from tests.support.results_samples import TIMING, failure, fingerprint_of, invalid_line, reply

KEYS = ["id", "custom_id", "response", "error", "usage", "usage_source", "attempts", "timing", "cost_usd", "line"]


def test_row_has_the_contract_keys_in_order() -> None:
    line = encode_row(reply("a"))
    row = json.loads(line)
    assert list(row) == KEYS
    assert list(row["response"]) == ["status_code", "request_id", "body"]
    assert list(row["timing"]) == ["started_at", "queued_s", "first_token_s", "total_s"]
    assert list(row["usage"]) == ["prompt_tokens", "completion_tokens", "total_tokens"]
    assert row["error"] is None
    assert line.endswith(b"}\n")
    assert line.count(b"\n") == 1


def test_optional_keys_stand_between_line_and_metadata() -> None:
    more: dict[str, Any] = {
        "usage_estimated": ("tools",),
        "has_metadata": True,
        "metadata": {"k": 1},
        "simulated": True,
    }
    row = json.loads(encode_row(failure("a", permanent=True, **more)))
    assert list(row) == [*KEYS, "simulated", "usage_estimated", "own_fault", "metadata"]
    assert "complete" not in row
    assert row["metadata"] == {"k": 1}
    assert row["usage_estimated"] == ["tools"]


def test_row_of_an_unconfirmed_or_altered_reply_says_so_before_the_metadata() -> None:
    result = reply("a", is_unconfirmed=True, simulated=True, has_metadata=True)
    assert result.reply is not None
    result = replace(result, reply=replace(result.reply, altered=("nan", "utf8")))
    row = json.loads(encode_row(result))
    assert row["complete"] == "unconfirmed"
    assert row["altered"] == ["nan", "utf8"]
    assert list(row) == [*KEYS, "simulated", "altered", "complete", "metadata"]


def test_row_names_the_address_and_the_model_of_its_last_request() -> None:
    asked: dict[str, Any] = {"endpoint": "https://host/v1/chat/completions", "asked_model": "m", "streamed": False}
    for result in (reply("a", is_unconfirmed=True, **asked), failure("a", permanent=True, **asked)):
        row = json.loads(encode_row(result))
        assert list(row)[10:13] == ["endpoint", "asked_model", "streamed"]
        assert asked.items() <= row.items()
    assert not asked.keys() & json.loads(encode_row(failure("never sent"))).keys()


def test_null_metadata_is_written_where_the_job_has_it() -> None:
    assert json.loads(encode_row(reply("a", has_metadata=True)))["metadata"] is None
    assert "metadata" not in json.loads(encode_row(reply("a")))


def test_failed_row_has_code_message_and_refusing_response() -> None:
    refused = replace(failure("a"), reply=Reply(status_code=400, request_id="q", body={"error": {"message": "no"}}))
    row = json.loads(encode_row(refused))
    assert row["error"] == {"code": "timeout", "message": "no"}
    assert row["response"] == {"status_code": 400, "request_id": "q", "body": {"error": {"message": "no"}}}
    assert json.loads(encode_row(failure("a")))["response"] is None


def test_row_of_an_invalid_line_has_no_timing() -> None:
    row = json.loads(encode_row(invalid_line(7)))
    assert (row["timing"], row["line"], row["custom_id"], row["attempts"]) == (None, 7, None, 0)


def test_row_has_the_computed_usage_and_its_body_the_reported_one() -> None:
    reported = {"prompt_tokens": 9, "completion_tokens": 9, "total_tokens": 18, "details": {}}
    body = {"text": "x", "usage": reported}
    usage = Usage(prompt_tokens=9, completion_tokens=9)
    with_reported = replace(reply("a"), reply=Reply(status_code=200, request_id=None, body=body), reported=usage)
    row = json.loads(encode_row(with_reported))
    assert row["response"]["body"]["usage"] == reported
    assert row["usage"]["total_tokens"] == 3


def _nested(depth: int) -> object:
    value: object = 1
    for _ in range(depth):
        value = [value]
    return value


@pytest.mark.parametrize(
    "odd",
    [2**70, -(2**63) - 1, "half a pair: \ud83d", {"\udc00": 1}, math.nan, [math.inf], _nested(300), _nested(2000)],
    ids=["int", "negative", "surrogate", "key", "nan", "inf", "deep", "abyss"],
)
def test_body_that_orjson_refuses_is_written_and_read_again(odd: Any) -> None:
    result = replace(reply("a"), reply=Reply(status_code=200, request_id=None, body={"odd": odd, "text": "kept"}))
    raw = encode_row(result)
    assert raw.count(b"\n") == 1
    assert parse_entry(raw[:-1]) == entry_from_result(result, raw[:-1])
    body = json.loads(raw)["response"]["body"]
    assert body["text"] == "kept"
    if not isinstance(odd, float | list):
        assert body["odd"] == odd


names = st.text(min_size=1, max_size=8) | st.just("half \ud83d")
results = st.builds(
    Result,
    fingerprint=st.binary(min_size=16, max_size=16).map(bytes.hex),
    custom_id=names,
    line=st.integers(1, 2**33),
    reply=st.just(Reply(status_code=200, request_id=None, body={"a": 1})),
    failure=st.none()
    | st.builds(
        Failure,
        code=st.sampled_from(["timeout", "rejected", "invalid_json"]),
        message=st.text(),
        permanent=st.booleans(),
    ),
    attempts=st.integers(0, 2**17),
    timing=st.none() | st.just(TIMING),
    simulated=st.booleans(),
)


@given(results)
def test_entry_parsed_from_a_row_equals_entry_of_its_result(result: Result) -> None:
    raw = encode_row(result)[:-1]
    assert parse_entry(raw) == entry_from_result(result, raw)


def test_entry_flags_follow_from_the_failure() -> None:
    def flags(result: Result) -> int:
        return parse_entry(encode_row(result)[:-1]).flags

    assert flags(reply("a")) == REPLIED
    assert flags(reply("a", simulated=True)) == REPLIED | SIMULATED
    assert flags(failure("a")) == FAILED
    assert flags(failure("a", "rejected", permanent=True)) == FAILED | PERMANENT
    assert flags(invalid_line(3)) == INVALID_LINE
    # A job can also fail before a request is sent, without timing: the code decides.
    assert flags(replace(failure("a", "too_large"), timing=None)) == FAILED
    assert parse_entry(encode_row(reply("a"))[:-1]).key == job_key("a")


@pytest.mark.parametrize(
    "line",
    [
        b"",
        b"nonsense",
        b"[]",
        b"null",
        b"7",
        b'"text"',
        b"{}",
        b"\xff\xfe",
        b'{"id":"' + fingerprint_of("a").encode() + b'","custom_id":"a"}',
        b"[" * 3000,
        encode_row(reply("a"))[:-2],
        encode_row(reply("a"))[:-1] + encode_row(reply("b"))[:-1],
        encode_row(reply("a")).replace(b'"custom_id":"a"', b'"custom_id":null')[:-1],
        encode_row(reply("a")).replace(b'"custom_id":"a"', b'"custom_id":1.5')[:-1],
        encode_row(reply("a")).replace(b'"status_code":200', b'"status_code":500')[:-1],
        encode_row(reply("a")).replace(b'"body":{', b'"body":null,"wrong":{')[:-1],
        encode_row(reply("a")).replace(b'"response":{', b'"wrong":{')[:-1],
        encode_row(reply("a")).replace(b'"error":null', b'"error":7')[:-1],
        encode_row(reply("a")).replace(fingerprint_of("a").encode(), b"")[:-1].replace(b'"id":""', b'"id":7'),
        encode_row(failure("a")).replace(b'"error":{', b'"error":null,"wrong":{')[:-1],
    ],
)
def test_line_that_is_not_a_row_raises_value_error(line: bytes) -> None:
    with pytest.raises(ValueError):
        parse_entry(line)


DISPENSABLE = ("error", "usage", "usage_source", "attempts", "timing", "cost_usd", "line")


@pytest.mark.parametrize("name", DISPENSABLE)
@pytest.mark.parametrize("has_null", [False, True])
def test_row_without_a_dispensable_field_is_the_same_reply(name: str, has_null: bool) -> None:
    row = json.loads(encode_row(reply("a", attempts=1, line=0)))
    row |= {name: None, "simulated": None, "endpoint": None}
    if not has_null:
        del row[name]
    assert parse_entry(json.dumps(row).encode()) == parse_entry(encode_row(reply("a", attempts=1, line=0)))


def test_row_whose_numbers_a_tool_has_rewritten_is_the_same_reply() -> None:
    row = json.loads(encode_row(reply("7", attempts=3, line=4)))
    rewritten = json.dumps(row | {"custom_id": 7, "attempts": 3.0, "line": 4.0}).encode()
    assert parse_entry(rewritten) == parse_entry(encode_row(reply("7", attempts=3, line=4)))
    for odd in (-1, "1", True, 1.5):
        assert parse_entry(json.dumps(row | {"attempts": odd}).encode()).attempts == 1


def test_row_without_fingerprint_is_the_reply_of_a_changed_job() -> None:
    row = json.loads(encode_row(reply("a")))
    del row["id"]
    index = JobIndex()
    index.load_rows(PACKED_ENTRY.pack(*parse_entry(json.dumps(row).encode())))
    assert index.classify("a", fingerprint_of("a")) is JobStatus.CHANGED


def test_failed_row_needs_its_code_and_no_timing() -> None:
    row = json.loads(encode_row(failure("a", permanent=True)))
    del row["timing"], row["response"]
    assert parse_entry(json.dumps(row).encode()).flags == FAILED | PERMANENT


def test_row_id_that_is_not_hexadecimal_gets_its_own_check() -> None:
    odd = encode_row(reply("a")).replace(fingerprint_of("a").encode(), b"batch_req_1")[:-1]
    other = encode_row(reply("a")).replace(fingerprint_of("a").encode(), b"batch_req_2")[:-1]
    short = encode_row(reply("a")).replace(fingerprint_of("a").encode(), b"ab")[:-1]
    assert len({parse_entry(line).check for line in (odd, other, short)}) == 3
    assert {len(parse_entry(line).check) for line in (odd, other, short)} == {4}


@pytest.mark.parametrize("character", ["\u2028", "\u2029", "\u0085", "\u2028\u2029\u0085", "\x0b\x0c\x1c\x1d\x1e\r"])
@pytest.mark.parametrize("text", ["%s", "a%sb é è Å …", "\N{GRINNING FACE}%s" * 3])
def test_row_is_one_line_for_readers_that_end_lines_at_other_characters(character: str, text: str) -> None:
    text = text.replace("%s", character)
    body = {"text": text, text: [text]}
    result = replace(failure(text, has_metadata=True), reply=Reply(status_code=400, request_id=text, body=body))
    result = replace(result, metadata={text: text}, failure=Failure(code="rejected", message=text))
    raw = encode_row(result)
    assert raw.decode().splitlines() == [raw.decode().removesuffix("\n")]
    row = json.loads(raw)
    assert (row["custom_id"], row["response"]["body"], row["metadata"]) == (text, body, {text: text})
    assert (row["response"]["request_id"], row["error"]["message"]) == (text, text)


@pytest.mark.parametrize("text", ["é à è ü Å ß", "…—“”’", "日本語 한국어", "\u2027\u202a\u0084\u0086\u00a8\u00a9"])
def test_other_text_of_a_row_is_not_escaped(text: str) -> None:
    assert text.encode() in encode_row(reply("a", text))


def test_row_names_what_was_altered_of_the_job_and_of_the_reply_once() -> None:
    result = reply("a", altered=("nan", "surrogate"), has_metadata=True)
    assert result.reply is not None
    both = replace(result, reply=replace(result.reply, altered=("surrogate", "utf8")))
    assert json.loads(encode_row(result))["altered"] == ["nan", "surrogate"]
    assert json.loads(encode_row(both))["altered"] == ["nan", "surrogate", "utf8"]
    assert json.loads(encode_row(failure("a", altered=("nan",))))["altered"] == ["nan"]
