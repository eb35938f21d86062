"""Reads the text of a model as JSON. Pure."""

from __future__ import annotations

import re
from typing import Any

import orjson

from processor.core.text import one_line
from processor.validation.problem import MAX_MESSAGE_CHARS, Problem

_FENCED = re.compile(r"\s*```[^\n`]*\n(.*?)\n?[ \t]*```\s*", re.DOTALL)


class NotJson(Exception):
    def __init__(self, problem: Problem) -> None:
        super().__init__(str(problem))
        self.problem = problem


def parse_output(text: str, *, strip_fences: bool) -> Any:
    """Return the value that a text is. ``strip_fences``: a code fence around all of it is no part. Raises NotJson."""
    if strip_fences and (fenced := _FENCED.fullmatch(text)):
        text = fenced[1]
    if not text.strip():
        raise NotJson(Problem(pointer="", message="it is empty, and not JSON"))
    try:
        return orjson.loads(text)
    except ValueError as error:
        hint = ": it stands in a code fence" if not strip_fences and _FENCED.fullmatch(text) else f": {error}"
        raise NotJson(Problem(pointer="", message=one_line(f"it is not JSON{hint}", MAX_MESSAGE_CHARS))) from None
