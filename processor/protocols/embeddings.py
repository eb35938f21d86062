"""Embeddings: https://platform.openai.com/docs/api-reference/embeddings"""

from __future__ import annotations

from typing import Any

from processor.core.errors import InvalidJob, ProtocolError
from processor.core.models import JSON, Usage
from processor.core.text import json_type
from processor.protocols.request_limits import RequestLimits
from processor.protocols.unstreamed_protocol import UnstreamedProtocol, check_inputs
from processor.tokens.rules import ModelCounter, count_texts_or_ids


class Embeddings(UnstreamedProtocol):
    """A vector for each input: a list of numbers, or base64 of 32-bit floats, as the server sends it."""

    path = "/v1/embeddings"
    entries_field = "data"

    def validate(self, body: JSON) -> None:
        inputs = body.get("input")
        check_inputs(inputs)
        if isinstance(inputs, list):
            kinds = {_kind(item) for item in inputs}
            if len(kinds) > 1:
                raise InvalidJob("input must be a list of texts, of token ids, or of lists of token ids, not a mixture")
            if None in kinds:
                wrong = next(item for item in inputs if _kind(item) is None)
                raise InvalidJob(f"every input must be text or token ids, not {json_type(wrong)}")

    def check_limits(self, body: JSON, limits: RequestLimits) -> None:
        inputs = body["input"]
        if limits.max_inputs is not None and (count := self.count_inputs(body)) > limits.max_inputs:
            raise InvalidJob(f"has {count:,} inputs, more than the {limits.max_inputs:,} that the provider accepts")
        if not limits.accepts_empty_text and isinstance(inputs, list) and any(item in ("", []) for item in inputs):
            raise InvalidJob("has an empty text among its inputs, which the provider refuses")

    def parse_json(self, data: bytes) -> JSON:
        body = super().parse_json(data)
        entries: list[JSON] = body["data"]
        if not all(_is_embedding(entry.get("embedding")) for entry in entries):
            raise ProtocolError("an entry of the reply has no embedding")
        indexes: list[Any] = [entry.get("index") for entry in entries]
        if all(type(index) is int for index in indexes):
            if len(set(indexes)) > 1 and sorted(indexes) != list(range(len(entries))):
                raise ProtocolError(f"the entries of the reply have the indexes {sorted(indexes)!s:.100}")
            entries.sort(key=lambda entry: int(entry["index"]))  # all the same: as they came
        return body

    def count_inputs(self, body: JSON) -> int:
        """A list of token ids is one input."""
        inputs = body.get("input")
        return 1 if isinstance(inputs, list) and inputs and type(inputs[0]) is int else super().count_inputs(body)

    def text(self, body: JSON) -> str:
        return ""

    def usage_json(self, usage: Usage) -> JSON:
        return {"prompt_tokens": usage.prompt_tokens, "total_tokens": usage.prompt_tokens}

    def _count_prompt(self, body: JSON, counter: ModelCounter, reasons: set[str]) -> int:
        return count_texts_or_ids(body.get("input"), counter.count_text, reasons)


def _kind(item: Any) -> str | None:
    """What an element of ``input`` is; None for what no server takes. An object is a picture or the like."""
    if isinstance(item, str):
        return "text"
    if type(item) is int:
        return "token"
    if isinstance(item, dict):
        return "part"
    return "tokens" if isinstance(item, list) and item and all(type(token) is int for token in item) else None


def _is_embedding(value: Any) -> bool:
    """A vector as numbers or base64; several vectors by type (`{"float": [...]}`) from some servers."""
    return isinstance(value, str | list | dict) and bool(value)
