"""How a reply ended, read in one step, is what the single questions say."""

from __future__ import annotations

from typing import Any

import pytest

from processor.protocols.registry import PROTOCOLS
from processor.protocols.reply_json import parse_plain_objects

REASONS: list[Any] = ["stop", "length", "STOP", "content_filter", "", None, "odd", 3, ["stop"]]
BODIES: list[Any] = [
    {"choices": [{"finish_reason": reason} for reason in reasons]}
    for reasons in ([], *([one] for one in REASONS), ["stop", "stop"], ["stop", "length"], ["odd", "stop"])
]


@pytest.mark.parametrize("path", PROTOCOLS)
@pytest.mark.parametrize("body", [*BODIES, {}, {"choices": None}, {"choices": ["stop"]}], ids=str)
def test_ending_agrees_with_the_single_questions(path: str, body: Any) -> None:
    protocol = PROTOCOLS[path]
    reasons, is_cut_short, is_unconfirmed = protocol.ending(body, {})
    assert list(reasons) == protocol.finish_reasons(body)
    assert is_cut_short == protocol.is_cut_short(body, {})
    assert is_unconfirmed == protocol.is_unconfirmed(body)


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        (b'{"a": [1, {"b": null}]}', {"a": [1, {"b": None}]}),
        (b"[1]", None),
        (b'{"a": 1', None),
        (b'{"a": %b}' % (b"1" * 25), None),
        (b'{"a": %b1%b}' % (b"[" * 20, b"]" * 20), None),
        (b'{"a": "%b"}' % (b"x" * 5000), None),
    ],
    ids=["plain", "no object", "cut", "long integer", "nested", "large"],
)
def test_only_small_flat_objects_without_long_integers_are_plain(data: bytes, expected: Any) -> None:
    assert parse_plain_objects([data]) == (None if expected is None else [expected])
