"""Moderations: one verdict for each input."""

from __future__ import annotations

from typing import Any

import orjson
import pytest

from processor.core.errors import InvalidJob, ProtocolError
from processor.core.models import Usage
from processor.protocols import RequestOptions, protocol_for
from processor.tokens.rules import ModelCounter
from tests.support.protocol_jobs import job_for

MODERATIONS = "/v1/moderations"
PROTOCOL = protocol_for(MODERATIONS)
WORDS = ModelCounter(count_text=lambda text: len(text.split()), base_model="m", is_loaded=True, is_known=True)

CLEAN = {"flagged": False, "categories": {"hate": False}, "category_scores": {"hate": 0.01}}
FLAGGED = {"flagged": True, "categories": {"hate": True, "violence": True, "self-harm": False}}
PARTS = [{"type": "text", "text": "one two"}, {"type": "image_url", "image_url": {"url": "https://example.com/a.png"}}]


def reply(*results: Any) -> bytes:
    return orjson.dumps({"id": "modr-1", "model": "m", "results": results})


@pytest.mark.parametrize(
    ("inputs", "results"), [("hi", [CLEAN]), (["hi"], [CLEAN]), (["a", "b"], [CLEAN, FLAGGED]), (PARTS, [FLAGGED])]
)
def test_reply_with_a_verdict_for_each_input_is_kept_as_it_came(inputs: Any, results: list[Any]) -> None:
    job = job_for(MODERATIONS, input=inputs)
    PROTOCOL.validate(job.body)
    assert PROTOCOL.parse_reply(reply(*results), job)["results"] == results


@pytest.mark.parametrize("data", [reply(), reply(CLEAN), reply(CLEAN, CLEAN, CLEAN), reply(CLEAN, None), b"{}"])
def test_reply_without_a_verdict_for_each_input_is_not_kept(data: bytes) -> None:
    with pytest.raises(ProtocolError):
        PROTOCOL.parse_reply(data, job_for(MODERATIONS, input=["a", "b"]))


@pytest.mark.parametrize("inputs", [None, "", [], 7, {}])
def test_job_without_input_is_invalid(inputs: Any) -> None:
    with pytest.raises(InvalidJob):
        PROTOCOL.validate({"input": inputs})


def test_request_never_asks_for_a_stream() -> None:
    job = job_for(MODERATIONS, input="a", stream=True)
    assert orjson.loads(PROTOCOL.encode(job, RequestOptions())) == {"input": "a"}


def test_text_names_the_categories_that_apply() -> None:
    assert PROTOCOL.text({"results": [CLEAN, FLAGGED]}) == "not flagged\nflagged: hate, violence"


def test_replies_hold_no_usage_and_tokens_are_counted_for_the_limits() -> None:
    assert PROTOCOL.usage_json(Usage(prompt_tokens=1, completion_tokens=0)) is None
    assert PROTOCOL.count_prompt({"input": ["one two", "three"]}, WORDS).tokens == 3
    counted = PROTOCOL.count_prompt({"input": PARTS}, WORDS)
    assert counted.tokens > 2
    assert counted.estimate_reasons == ("images",)
    assert PROTOCOL.request_size(job_for(MODERATIONS, input="a"), WORDS).max_tokens == 0
