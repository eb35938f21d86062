"""The wording of the program's messages; ``python -m tests.support.messages`` lists them."""

from __future__ import annotations

import re

import pytest

from tests.support.messages import Message, messages

ALL = messages()

BEGINS_IN_CAPITALS = re.compile(r"HTTP|[A-Z_]{3,}|TLS|JSON|NaN|CA ")
"""Names that are written so."""


def test_list_holds_the_messages_of_all_parts_of_the_program() -> None:
    assert len(ALL) > 120
    folders = {message.where.partition("/")[0] for message in ALL}
    assert folders >= {"app", "cli", "config", "core", "http", "input", "output", "protocols", "scheduler", "terminal"}


@pytest.mark.parametrize("message", ALL, ids=lambda message: f"{message.where} {message.text[:40]}")
def test_message_is_one_line_in_lower_case_without_a_full_stop(message: Message) -> None:
    text = message.text
    assert "\n" not in text
    assert not re.search(r"[.!]$", text)
    assert not text[:1].isupper() or BEGINS_IN_CAPITALS.match(text)


@pytest.mark.parametrize(
    "message",
    [message for message in ALL if message.kind == "ConfigError"],
    ids=lambda message: f"{message.where} {message.text[:40]}",
)
def test_error_of_usage_names_the_place_and_the_remedy(message: Message) -> None:
    """It names a file, flag or setting, and says what must be so or what to do."""
    assert re.search(r"\{\}|--\w|base URL|file|transport|_s\b", message.text)
    assert re.search(r"[:;,]|\bmust\b|\bneed", message.text)
