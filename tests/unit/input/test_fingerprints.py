"""Fingerprints of requests."""

from __future__ import annotations

from hashlib import blake2b
from typing import Any

import orjson
from hypothesis import given
from hypothesis import strategies as st

from processor.input.fingerprints import fingerprint, raw_fingerprint
from processor.input.job_formats import JobDefaults, ParsedJob, parse_job
from tests.support.protocol_jobs import CHAT, COMPLETIONS

BODY = {"model": "m", "messages": [{"role": "user", "content": "Hi"}]}

VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=8,
)


def shuffled(value: Any) -> Any:
    """The same with the keys of all objects in reverse."""
    if isinstance(value, dict):
        return {key: shuffled(value[key]) for key in reversed(value)}
    return [shuffled(item) for item in value] if isinstance(value, list) else value


def parsed(**entry: Any) -> ParsedJob:
    return parse_job(orjson.dumps(entry), 1, JobDefaults())


@given(st.dictionaries(st.text(max_size=5), VALUES, max_size=5))
def test_fingerprint_ignores_the_order_of_keys(body: dict[str, Any]) -> None:
    assert fingerprint(CHAT, shuffled(body)) == fingerprint(CHAT, body)


DELIVERY = st.fixed_dictionaries(
    {}, optional={"stream": st.booleans(), "stream_options": st.just({"include_usage": True})}
)


@given(DELIVERY)
def test_fingerprint_ignores_stream_keys(options: dict[str, Any]) -> None:
    assert fingerprint(CHAT, {**BODY, **options}) == fingerprint(CHAT, BODY)


def test_fingerprint_is_digest_of_path_and_body_with_sorted_keys() -> None:
    text = b'["/v1/chat/completions",{"messages":[{"content":"Hi","role":"user"}],"model":"m"}]'
    assert fingerprint(CHAT, BODY) == blake2b(text, digest_size=16).hexdigest() == raw_fingerprint(text)
    assert len(fingerprint(CHAT, BODY)) == 32


def test_fingerprint_depends_on_path_and_body() -> None:
    fingerprints = {
        fingerprint(CHAT, BODY),
        fingerprint(COMPLETIONS, BODY),
        fingerprint(CHAT, {**BODY, "model": "n"}),
        fingerprint(CHAT, {**BODY, "temperature": 0}),
    }
    assert len(fingerprints) == 4


def test_fingerprint_of_a_job_without_id_depends_on_metadata() -> None:
    fingerprints = {parsed(model="m", prompt="Hi", metadata=metadata).fingerprint for metadata in (1, 2, {"a": 1})}
    assert len(fingerprints) == 3


def test_fingerprint_of_a_job_with_id_ignores_metadata() -> None:
    fingerprints = {parsed(id="a", model="m", prompt="Hi", metadata=metadata).fingerprint for metadata in (1, 2, None)}
    assert len(fingerprints) == 1


def test_fingerprint_is_the_same_in_all_three_formats() -> None:
    short = parsed(model="m", prompt="Hi")
    bare = parsed(**BODY)
    batch = parsed(custom_id="a", method="POST", url=CHAT, body=BODY)
    assert short.fingerprint == bare.fingerprint == batch.fingerprint


def test_fingerprint_ignores_the_default_model() -> None:
    entry = orjson.dumps({"id": "a", "prompt": "Hi"})
    fingerprints = {parse_job(entry, 1, JobDefaults(model=model)).fingerprint for model in ("m", "n")}
    assert len(fingerprints) == 1
