"""Moderations: https://platform.openai.com/docs/api-reference/moderations"""

from __future__ import annotations

from typing import Any

from processor.core.models import JSON, Usage
from processor.protocols.unstreamed_protocol import UnstreamedProtocol, check_inputs
from processor.tokens.rules import ModelCounter, count_part


class Moderations(UnstreamedProtocol):
    """A verdict for each text. A list of parts (text, images) is one input, and gets one verdict."""

    path = "/v1/moderations"
    entries_field = "results"

    def validate(self, body: JSON) -> None:
        check_inputs(body.get("input"))

    def count_inputs(self, body: JSON) -> int:
        inputs = body.get("input")
        return 1 if isinstance(inputs, list) and inputs and isinstance(inputs[0], dict) else super().count_inputs(body)

    def text(self, body: JSON) -> str:
        return "\n".join(map(_verdict, body["results"]))

    def usage_json(self, usage: Usage) -> JSON | None:
        return None

    def _count_prompt(self, body: JSON, counter: ModelCounter, reasons: set[str]) -> int:
        inputs = body.get("input")
        tokens = 0
        for item in inputs if isinstance(inputs, list) else [inputs]:
            tokens += counter.count_text(item) if isinstance(item, str) else count_part(item, counter, reasons)
        return tokens


def _verdict(result: JSON) -> str:
    categories: Any = result.get("categories")
    names = [name for name, applies in categories.items() if applies] if isinstance(categories, dict) else []
    return f"flagged: {', '.join(names)}" if result.get("flagged") else "not flagged"
