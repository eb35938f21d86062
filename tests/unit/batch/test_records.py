"""What is kept of a job while it is in a batch, and the ids that the provider sees."""

from __future__ import annotations

import re

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from processor.batch.records import JobRecord, index_of, own_id, record_from_json, request_without_prompt
from processor.core.models import SourceFile
from processor.protocols import protocol_for

NAME = "0123456789abcdef"


@given(st.integers(0, 10**9))
def test_own_id_is_one_that_every_provider_takes_and_leads_back(index: int) -> None:
    name = own_id(NAME, index)
    assert re.fullmatch(r"[A-Za-z0-9_-]{1,64}", name)
    assert index_of(NAME, name, index + 1) == index


@pytest.mark.parametrize(
    "name", [None, 7, "", "job-1", f"{NAME}-", f"{NAME}-9", f"{NAME}--1", f"{NAME}-x", f"{NAME}-²"]
)
def test_other_id_leads_to_no_job(name: object) -> None:
    assert index_of(NAME, name, 9) is None


def test_record_survives_its_json() -> None:
    record = JobRecord(
        custom_id="é-1",
        fingerprint="ab" * 16,
        line=7,
        attempts=3,
        submission=2,
        prompt_tokens=11,
        prompt_estimated=("tools",),
        request={"max_tokens": 5},
        metadata=None,
        has_metadata=True,
        altered=("nan",),
        source=SourceFile(2, "b.jsonl"),
    )
    assert record_from_json(orjson.loads(orjson.dumps(record.as_json()))) == record


def test_request_keeps_parameters_and_the_number_of_inputs_but_no_prompt() -> None:
    body = {"model": "m", "input": ["secret one", "secret two"], "dimensions": 8, "user": "u" * 500}
    kept = request_without_prompt(body, protocol_for("/v1/embeddings").prompt_fields)
    assert kept == {"model": "m", "input": ["", ""], "dimensions": 8}


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ("/v1/embeddings", "one"),
        ("/v1/embeddings", ["one", "two"]),
        ("/v1/embeddings", [1, 2, 3]),
        ("/v1/embeddings", [[1, 2], [3]]),
        ("/v1/moderations", ["one", "two"]),
        ("/v1/moderations", [{"type": "text", "text": "one"}, {"type": "text", "text": "two"}]),
    ],
)
def test_reply_is_checked_for_as_many_entries_as_were_asked_for(path: str, value: object) -> None:
    protocol = protocol_for(path)
    kept = request_without_prompt({"input": value}, protocol.prompt_fields)
    assert protocol.count_inputs(kept) == protocol.count_inputs({"input": value})  # type: ignore[attr-defined]
