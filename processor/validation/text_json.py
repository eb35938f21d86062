"""Reads the text of a model as JSON. Pure."""

from __future__ import annotations

from typing import Any

import orjson

from processor.core.text import one_line
from processor.validation.problem import MAX_MESSAGE_CHARS, Problem

_FENCE = "```"


class NotJson(Exception):
    def __init__(self, problem: Problem) -> None:
        super().__init__(str(problem))
        self.problem = problem


def parse_output(text: str, *, strip_fences: bool) -> Any:
    """Return the value that a text is. ``strip_fences``: a code fence around all of it is no part. Raises NotJson."""
    fenced = _without_fence(text)
    if strip_fences and fenced is not None:
        text = fenced
    if not text.strip():
        raise NotJson(Problem(pointer="", message="it is empty, and not JSON"))
    try:
        return orjson.loads(text)
    except ValueError as error:
        hint = ": it stands in a code fence" if not strip_fences and fenced is not None else f": {error}"
        raise NotJson(Problem(pointer="", message=one_line(f"it is not JSON{hint}", MAX_MESSAGE_CHARS))) from None


def _without_fence(text: str) -> str | None:
    """Return what stands in the code fence that a text consists of; None where it is none."""
    text = text.strip()
    info, newline, rest = text.partition("\n")
    if not (newline and info.startswith(_FENCE) and rest.endswith(_FENCE)) or _FENCE[0] in info.removeprefix(_FENCE):
        return None
    return rest.removesuffix(_FENCE)
