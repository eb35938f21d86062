"""What the simulated model says: the same for the same seed and request. Pure.

The simulator knows what it said, so that a test can compare it with what a client assembled.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from math import log
from random import Random

import orjson

from processor.core.models import JSON
from processor.simulator import corpus
from processor.simulator.request_parser import ParsedRequest, parse, protocol_of
from processor.simulator.schema_examples import an_object, example
from processor.simulator.settings import SimulatorSettings
from processor.simulator.tool_calls import ToolCall, called_function, called_tools

CountTokens = Callable[[str], int]
"""Counts a text's tokens."""

_REFUSES = 0.01
_CREATED = 1_750_000_000
_SOME_OBJECT = {"properties": {"answer": {}}, "required": ["answer"]}


@dataclass(frozen=True, slots=True, kw_only=True)
class CompletionChoice:
    """One answer, in the pieces in which it streams. Of content, refusal and calls one is not empty."""

    index: int
    finish_reason: str
    reasoning: tuple[str, ...] = ()
    content: tuple[str, ...] = ()
    refusal: tuple[str, ...] = ()
    calls: tuple[ToolCall, ...] = ()
    function_call: ToolCall | None = None

    @property
    def tokens(self) -> int:
        calls = (*self.calls, self.function_call) if self.function_call else self.calls
        return len(self.reasoning) + len(self.content) + len(self.refusal) + sum(len(c.arguments) + 4 for c in calls)


@dataclass(frozen=True, slots=True, kw_only=True)
class Completion:
    """A whole reply. `top` stands in every chunk and in the unstreamed body alike."""

    chat: bool
    top: JSON
    choices: tuple[CompletionChoice, ...]
    usage: JSON


def say(ask: ParsedRequest, settings: SimulatorSettings, count: CountTokens | None = None) -> Completion:
    """`count` counts the prompt's tokens; without it, four characters are one."""
    if settings.canned:
        return _canned(ask, settings)
    rng = Random(b"%d:%b" % (settings.seed, ask.identity))
    choices = tuple(_choice(index, ask, settings, rng) for index in range(ask.choices))
    prompt_tokens = sum(count(prompt) if count else -(-len(prompt) // 4) for prompt in ask.prompts)
    return _said(ask, settings, ask.identity.hex(), choices, prompt_tokens)


def _canned(ask: ParsedRequest, settings: SimulatorSettings) -> Completion:
    choices = tuple(_text(index, list(corpus.CANNED), ask.max_tokens) for index in range(ask.choices))
    return _said(ask, settings, "0" * 32, choices, prompt_tokens=1)


def _said(
    ask: ParsedRequest,
    settings: SimulatorSettings,
    name: str,
    choices: tuple[CompletionChoice, ...],
    prompt_tokens: int,
) -> Completion:
    """`name`: 32 hex digits."""
    chat = ask.protocol == "chat"
    completion_tokens = sum(choice.tokens for choice in choices)
    top = {
        "id": f"{'chatcmpl' if chat else 'cmpl'}-{name[:24]}",
        "created": _CREATED + int(name[24:28], 16),
        "model": ask.model,
        "system_fingerprint": f"fp_{settings.seed:08x}",
    }
    usage = {
        "prompt_tokens": prompt_tokens,
        "completion_tokens": completion_tokens,
        "total_tokens": prompt_tokens + completion_tokens,
    }
    return Completion(chat=chat, top=top, choices=choices, usage=usage)


def expected_body(path: str, request: JSON, settings: SimulatorSettings, count: CountTokens | None = None) -> JSON:
    """The unstreamed answer to a request body. Raises BadRequest, and ValueError for a path that is not served."""
    protocol = protocol_of(path)
    if protocol is None:
        raise ValueError(f"{path} is not served")
    return unstreamed(say(parse(path, protocol, orjson.dumps(request)), settings, count))


def unstreamed(said: Completion) -> JSON:
    """The body that answers a request with `"stream": false`."""
    choices = [_message_choice(choice) if said.chat else _text_choice(choice) for choice in said.choices]
    kind = "chat.completion" if said.chat else "text_completion"
    return {**said.top, "object": kind, "choices": choices, "usage": said.usage}


def _message_choice(choice: CompletionChoice) -> JSON:
    instead = choice.refusal or choice.calls or choice.function_call
    message: JSON = {
        "role": "assistant",
        "content": None if instead else "".join(choice.content),
        "refusal": "".join(choice.refusal) or None,
    }
    if choice.reasoning:
        message["reasoning_content"] = "".join(choice.reasoning)
    if choice.calls:
        message["tool_calls"] = [{"id": c.id, "type": "function", "function": _called(c)} for c in choice.calls]
    if choice.function_call:
        message["function_call"] = _called(choice.function_call)
    return {"index": choice.index, "message": message, "logprobs": None, "finish_reason": choice.finish_reason}


def _called(call: ToolCall) -> JSON:
    return {"name": call.name, "arguments": "".join(call.arguments)}


def _text_choice(choice: CompletionChoice) -> JSON:
    text = "".join(choice.content)
    return {"index": choice.index, "text": text, "logprobs": None, "finish_reason": choice.finish_reason}


def _choice(index: int, ask: ParsedRequest, settings: SimulatorSettings, rng: Random) -> CompletionChoice:
    if ask.protocol == "chat":
        instead = _calling(index, ask, rng)
        if instead:
            return instead
        if rng.random() < _REFUSES:
            return CompletionChoice(index=index, finish_reason="stop", refusal=corpus.REFUSAL)
    length = _length(settings, rng)
    reasoning: list[str] = []
    if ask.protocol == "chat" and "reason" in ask.model:
        reasoning = corpus.sentences("Let me think.", length // 2, rng)
    return _text(index, _content(ask, index, length, rng), ask.max_tokens, reasoning)


def _text(
    index: int, content: list[str], max_tokens: int | None, reasoning: list[str] | None = None
) -> CompletionChoice:
    """As much of it as is allowed; reasoning counts, too."""
    reasoning = reasoning or []
    room = len(reasoning) + len(content) if max_tokens is None else max_tokens
    return CompletionChoice(
        index=index,
        finish_reason="length" if len(reasoning) + len(content) > room else "stop",
        reasoning=tuple(reasoning[:room]),
        content=tuple(content[: max(0, room - len(reasoning))]),
    )


def _length(settings: SimulatorSettings, rng: Random) -> int:
    """Log-normal above the shortest: many short replies, some long ones."""
    shortest, longest = settings.reply_tokens
    typical = max(1.0, (longest - shortest) / 6)
    return min(longest, shortest + round(rng.lognormvariate(log(typical), 0.8)))


def _content(ask: ParsedRequest, index: int, length: int, rng: Random) -> list[str]:
    """JSON where it is asked for, else sentences after a word on the question, so that replies can be told apart."""
    wanted = an_object(ask.body.get("response_format"))
    if wanted.get("type") in ("json_object", "json_schema"):
        schema = an_object(wanted.get("json_schema")).get("schema", _SOME_OBJECT)
        return corpus.chunk_text(orjson.dumps(example(schema, rng)).decode(), rng)
    prompt = ask.prompts[index * len(ask.prompts) // ask.choices]
    topic = " ".join(prompt[-2000:].strip().rsplit("\n", 1)[-1].split()[:6])[:60]
    return corpus.sentences(f"On “{topic}”:", length, rng)


def _calling(index: int, ask: ParsedRequest, rng: Random) -> CompletionChoice | None:
    calls = called_tools(ask.body, rng)
    if calls:
        return CompletionChoice(index=index, finish_reason="tool_calls", calls=calls)
    function_call = called_function(ask.body, rng)
    if function_call:
        return CompletionChoice(index=index, finish_reason="function_call", function_call=function_call)
    return None
