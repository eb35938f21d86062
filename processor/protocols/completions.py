"""Completions (the older endpoint), streamed: https://platform.openai.com/docs/api-reference/completions"""

from __future__ import annotations

from processor.core.errors import ProtocolError
from processor.core.models import JSON
from processor.protocols.choices_accumulator import ChoicesAccumulator, choices_per_prompt


class CompletionsAccumulator(ChoicesAccumulator):
    """`choices[].text` are the pieces of the same field."""

    object_name = "text_completion"
    text_field = "text"

    def _delta_of(self, choice: JSON) -> JSON:
        if not isinstance(choice.get("text"), str | None):
            raise ProtocolError("a choice's text is no text")
        return choice

    def _content_of(self, delta: JSON) -> JSON:
        return {"text": delta.get("text")}

    def _finalize(self, content: JSON) -> JSON:
        return {"text": content["text"] or ""}


def open_completions(request: JSON) -> CompletionsAccumulator:
    return CompletionsAccumulator(choices_per_prompt(request) * _prompts(request.get("prompt")))


def _prompts(prompt: object) -> int:
    """A list is one prompt of tokens, or several prompts, each of which gets its own choices."""
    if isinstance(prompt, list) and prompt and not isinstance(prompt[0], int):
        return len(prompt)
    return 1
