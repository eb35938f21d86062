"""Completions, the older API: https://platform.openai.com/docs/api-reference/completions"""

from __future__ import annotations

from processor.core.errors import InvalidJob, ProtocolError
from processor.core.models import JSON, Job
from processor.protocols.choices_accumulator import ChoicesAccumulator
from processor.protocols.choices_protocol import ChoicesProtocol
from processor.tokens.rules import ModelCounter, count_texts_or_ids


class CompletionsAccumulator(ChoicesAccumulator):
    """Concatenates `choices[].text`."""

    object_name = "text_completion"
    text_field = "text"

    def _delta_of(self, choice: JSON) -> JSON:
        if not isinstance(choice.get("text"), str | None):
            raise ProtocolError("the text of a choice is not a string")
        return choice

    def _content_of(self, delta: JSON) -> JSON:
        return {"text": delta.get("text")}

    def _finalize(self, content: JSON) -> JSON:
        return {"text": content["text"] or ""}


class Completions(ChoicesProtocol):
    path = "/v1/completions"
    input_field = "prompt"
    prompt_fields = ("prompt",)

    def validate(self, body: JSON) -> None:
        if not body.get("prompt"):
            raise InvalidJob("has no prompt")

    def from_short(self, fields: JSON) -> JSON:
        if "system" in fields:
            raise InvalidJob("system has no place in a text completion: put it into the prompt")
        return fields

    def cannot_be_streamed(self, body: JSON) -> bool:
        """The best of several replies is known only once all are complete."""
        best_of = body.get("best_of")
        return type(best_of) is int and best_of > self.choices(body)

    def accumulator(self, job: Job) -> CompletionsAccumulator:
        return CompletionsAccumulator(self.choices(job.body) * _count_prompts(job.body.get("prompt")))

    def _count_prompt(self, body: JSON, counter: ModelCounter, reasons: set[str]) -> int:
        values = (body.get("prompt"), body.get("suffix"))
        return sum(count_texts_or_ids(value, counter.count_text, reasons) for value in values)


def _count_prompts(prompt: object) -> int:
    """A list is one prompt of token ids, or several prompts, each of which gets its own choices."""
    if isinstance(prompt, list) and prompt and not isinstance(prompt[0], int):
        return len(prompt)
    return 1
