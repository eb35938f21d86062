"""Completions, the older API: https://platform.openai.com/docs/api-reference/completions"""

from __future__ import annotations

from typing import Any

from processor.core.errors import InvalidJob, ProtocolError
from processor.core.models import JSON, Job
from processor.core.text import json_type
from processor.protocols.choices_accumulator import ChoicesAccumulator
from processor.protocols.choices_protocol import ChoicesProtocol
from processor.tokens.rules import ModelCounter, count_texts_or_ids


class CompletionsAccumulator(ChoicesAccumulator):
    """Concatenates `choices[].text`."""

    __slots__ = ()

    object_name = "text_completion"
    text_field = "text"

    def _pop_delta(self, choice: JSON) -> JSON:
        text = choice.pop("text", None)
        if not isinstance(text, str | None):
            raise ProtocolError("the text of a choice is not a string")
        return {"text": text}

    def _finalize(self, content: JSON) -> JSON:
        return {"text": content["text"] or ""}


class Completions(ChoicesProtocol):
    path = "/v1/completions"
    input_field = "prompt"
    prompt_fields = ("prompt",)

    def validate(self, body: JSON) -> None:
        """An empty prompt, or none, is legal: the reply begins anywhere."""
        prompt = body.get("prompt")
        if prompt is None and "messages" in body:
            raise InvalidJob('has messages and no prompt: messages need "url": "/v1/chat/completions"')
        if prompt == [] or not isinstance(prompt, str | list | None):
            raise InvalidJob(f"prompt must be text, token ids or a list of these, not {json_type(prompt)}")

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

    def generated_choices(self, body: JSON) -> int:
        choices, best_of = self.choices(body), body.get("best_of")
        each = max(choices, best_of) if type(best_of) is int else choices
        return each * _count_prompts(body.get("prompt"))

    def ask_again(self, request: JSON, output: str, question: str) -> JSON | None:
        prompt = request.get("prompt")
        return {**request, "prompt": f"{prompt}{output}\n\n{question}\n\n"} if isinstance(prompt, str) else None

    def _count_prompt(self, body: JSON, counter: ModelCounter, reasons: set[str]) -> int:
        values = (body.get("prompt"), body.get("suffix"))
        return sum(count_texts_or_ids(value, counter.count_text, reasons) for value in values)

    def _count_reply(self, reply: JSON, request: JSON, counter: ModelCounter, reasons: set[str]) -> int:
        if self.cannot_be_streamed(request):  # only the best replies are sent, and all are charged
            reasons.add("best_of")
        return super()._count_reply(reply, request, counter, reasons)

    def _count_choice(self, choice: JSON, request: JSON, counter: ModelCounter, reasons: set[str]) -> int:
        """The prompt that an `echo` repeats at the beginning is no part of what was generated."""
        text = choice.get("text")
        if request.get("echo") is not True or not isinstance(text, str):
            return super()._count_choice(choice, request, counter, reasons)
        prompt = _prompt_of(choice, request.get("prompt"), self.choices(request))
        if isinstance(prompt, str) and text.startswith(prompt):
            return counter.count_text(text[len(prompt) :])
        reasons.add("echo")
        return max(counter.count_text(text) - count_texts_or_ids(prompt, counter.count_text, set()), 0)


def _prompt_of(choice: JSON, prompts: Any, choices_each: int) -> Any:
    """The prompt that a choice continues. The choices of the first prompt come first."""
    if not isinstance(prompts, list) or not prompts or isinstance(prompts[0], int):
        return prompts
    index = choice.get("index")
    place = index // choices_each if type(index) is int else 0
    return prompts[place] if 0 <= place < len(prompts) else None


def _count_prompts(prompt: object) -> int:
    """A list is one prompt of token ids, or several prompts, each of which gets its own choices."""
    if isinstance(prompt, list) and prompt and not isinstance(prompt[0], int):
        return len(prompt)
    return 1
