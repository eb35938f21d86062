"""Secrets: what counts as one, and where they are masked."""

from __future__ import annotations

import json
import pickle
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from processor.core.errors import AccessDenied
from processor.core.models import Reply
from processor.core.secrets import MASK, Secret, StreamMask, holds_secret, mask_text, mask_values
from processor.core.text import excerpt, one_line
from processor.scheduler.masking import mask_error, masked_reply

KEY = 'not-a-key-"of"/anyone+else='
SECRET = Secret(KEY)


def reply(body: dict[str, Any], request_id: str | None = None) -> Reply:
    return Reply(status_code=200, request_id=request_id, body=body, altered=("utf8",))


@pytest.mark.parametrize(
    "value", ["none", "EMPTY", "ollama", "lm-studio", "sk-no-key-required", "x", "fifteen-letters"]
)
def test_placeholder_or_short_key_is_not_masked(value: str) -> None:
    assert not Secret(value).is_masked
    assert mask_text(f"say {value}") == f"say {value}"


def test_secret_does_not_print_itself_and_can_be_sent_to_another_process() -> None:
    assert KEY not in f"{SECRET} {SECRET!r}"
    assert pickle.loads(pickle.dumps(SECRET)) == SECRET


@pytest.mark.parametrize("form", [KEY, json.dumps(KEY)[1:-1], "not-a-key-%22of%22/anyone%2Belse%3D"])
def test_secret_is_masked_as_text_in_json_and_in_a_url(form: str) -> None:
    assert mask_text(f"x{form}y") == f"x{MASK}y"


@given(before=st.text(max_size=600), max_chars=st.integers(1, 700))
def test_no_part_of_a_secret_is_left_where_a_text_is_cut(before: str, max_chars: int) -> None:
    assert KEY[:4] not in one_line(before + KEY + " and more", max_chars)


@pytest.mark.parametrize("padding", [0, 60, 75, 300, 315])
def test_excerpt_of_bytes_holds_no_part_of_a_secret(padding: int) -> None:
    assert KEY[:4] not in excerpt(b" " * padding + KEY.encode() + b" and more")


def test_values_and_names_are_masked_in_place_at_any_depth() -> None:
    deep: dict[str, Any] = {"text": KEY}
    for _ in range(5000):
        deep = {"in": [deep]}
    assert mask_values(deep)
    for _ in range(5000):
        deep = deep["in"][0]
    assert deep == {"text": MASK}
    named = {KEY: [1, None, f"a {KEY}"]}
    assert mask_values(named)
    assert named == {MASK: [1, None, f"a {MASK}"]}
    assert not mask_values({"a": "b", "n": [1.5, True]})


def test_reply_that_repeats_the_key_is_masked_and_says_so() -> None:
    assert masked_reply(reply({"a": f"my key: {KEY}"})) == Reply(
        status_code=200, request_id=None, body={"a": f"my key: {MASK}"}, altered=("key", "utf8")
    )
    assert masked_reply(reply({}, f"req-{KEY}")).request_id == f"req-{MASK}"
    assert masked_reply(reply({"n": 2**80, "a": KEY})).body == {"n": 2**80, "a": MASK}


def test_reply_without_the_key_stays_the_same_object() -> None:
    unchanged = reply({"a": "text", "n": 1.0}, "req-1")
    assert masked_reply(unchanged) is unchanged


def test_error_is_masked_in_all_its_parts() -> None:
    error = AccessDenied(
        f"bad {KEY}", status=401, body={"error": {"param": KEY}}, error_code=KEY, request_id=f"r-{KEY}"
    )
    error.__context__ = ValueError(KEY)
    mask_error(error)
    assert KEY not in f"{error} {vars(error)} {error.__context__}"
    assert str(error) == f"bad {MASK}"


@given(st.lists(st.text(max_size=5), max_size=5), st.data())
def test_secret_in_a_text_that_comes_in_pieces_is_masked(words: list[str], data: st.DataObject) -> None:
    text = KEY.join(["", *words, ""])
    mask, shown, at = StreamMask(), "", 0
    while at < len(text):
        size = data.draw(st.integers(1, 40))
        shown += mask.feed(text[at : at + size])
        at += size
    shown += mask.flush()
    assert shown == mask_text(text)


@pytest.mark.parametrize("body", [b"", b"no key", f"the key {KEY} here".encode(), json.dumps(f"a {KEY}").encode()])
def test_search_in_bytes_finds_what_masking_changes(body: bytes) -> None:
    assert holds_secret(body) is (mask_text(body.decode()) != body.decode())
