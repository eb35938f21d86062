"""The wording of the program's messages; ``python -m tests.support.messages`` lists them."""

from __future__ import annotations

import re
from functools import cache

from tests.support.messages import Message, messages

all_messages = cache(messages)

BEGINS_IN_CAPITALS = re.compile(r"HTTP|[A-Z_]{3,}|TLS|JSON|NaN|CA ")
"""Names that are written so."""


def test_list_holds_the_messages_of_all_parts_of_the_program() -> None:
    assert len(all_messages()) > 120
    folders = {message.where.partition("/")[0] for message in all_messages()}
    assert folders >= {"app", "cli", "config", "core", "http", "input", "output", "protocols", "scheduler", "terminal"}


def is_one_line_in_lower_case_without_a_full_stop(text: str) -> bool:
    begins_well = not text[:1].isupper() or BEGINS_IN_CAPITALS.match(text)
    return "\n" not in text and not re.search(r"[.!]$", text) and bool(begins_well)


def names_the_place_and_the_remedy(text: str) -> bool:
    """It names a file, flag or setting, and says what must be so or what to do."""
    place = re.search(r"\{\}|--\w|base URL|file|transport|_s\b", text)
    return bool(place and re.search(r"[:;,]|\bmust\b|\bneed", text))


def test_messages_are_one_line_in_lower_case_without_a_full_stop() -> None:
    wrong = [message for message in all_messages() if not is_one_line_in_lower_case_without_a_full_stop(message.text)]
    assert wrong == []


def test_errors_of_usage_name_the_place_and_the_remedy() -> None:
    errors: list[Message] = [message for message in all_messages() if message.kind == "ConfigError"]
    assert len(errors) > 100
    assert [message for message in errors if not names_the_place_and_the_remedy(message.text)] == []
