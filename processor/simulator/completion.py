"""Generates the content of replies. Pure: the same seed and request give the same completion.

A test can therefore generate the expected reply and compare it with what a client assembled.
"""

from __future__ import annotations

from collections.abc import Callable
from math import log
from random import Random
from typing import Any

import orjson

from processor.core.fast_dataclass import dataclass
from processor.core.models import JSON
from processor.protocols.registry import PROTOCOLS
from processor.simulator import corpus
from processor.simulator.request_parser import API_PATHS, ApiKind, ParsedRequest
from processor.simulator.schema_examples import make_example, make_invalid
from processor.simulator.settings import SimulatorSettings
from processor.simulator.tool_calls import ToolCall, choose_function_call, choose_tool_calls

CountTokens = Callable[[str], int]
"""Returns the number of tokens of a text."""

_REFUSAL_RATE = 0.01
_CREATED_AT = 1_750_000_000
_DEFAULT_SCHEMA = {"properties": {"answer": {}}, "required": ["answer"]}


@dataclass(frozen=True, slots=True, kw_only=True)
class CompletionChoice:
    """One choice, cut into the pieces in which it streams. Exactly one of content, refusal and calls is not empty."""

    index: int
    finish_reason: str
    reasoning: tuple[str, ...] = ()
    content: tuple[str, ...] = ()
    refusal: tuple[str, ...] = ()
    calls: tuple[ToolCall, ...] = ()
    function_call: ToolCall | None = None

    @property
    def tokens(self) -> int:
        """Tokens billed for this choice: one a piece, and four for the name of each call."""
        calls = (*self.calls, self.function_call) if self.function_call else self.calls
        return len(self.reasoning) + len(self.content) + len(self.refusal) + sum(len(c.arguments) + 4 for c in calls)


@dataclass(frozen=True, slots=True, kw_only=True)
class Completion:
    """A complete reply. `top` holds the fields that are the same in every chunk and in the non-streamed body."""

    api_kind: ApiKind
    top: JSON
    choices: tuple[CompletionChoice, ...]
    usage: JSON


def generate_completion(
    request: ParsedRequest, settings: SimulatorSettings, count_tokens: CountTokens | None = None
) -> Completion:
    """Generate the reply. Without `count_tokens`, four characters of the prompt count as one token."""
    if settings.canned:
        return _canned(request, settings)
    rng = Random(b"%d:%b" % (settings.seed, request.identity))
    choices = tuple(_make_choice(index, request, settings, rng) for index in range(request.choices))
    prompt_tokens = count_prompt_tokens(request, count_tokens)
    return _assemble(request, settings, request.identity.hex(), choices, prompt_tokens)


def count_prompt_tokens(request: ParsedRequest, count_tokens: CountTokens | None) -> int:
    """Without `count_tokens`, four characters count as one token."""
    return sum(count_tokens(prompt) if count_tokens else -(-len(prompt) // 4) for prompt in request.prompts)


def _canned(request: ParsedRequest, settings: SimulatorSettings) -> Completion:
    choices = tuple(
        _make_text_choice(index, list(corpus.CANNED), request.max_tokens) for index in range(request.choices)
    )
    return _assemble(request, settings, "0" * 32, choices, prompt_tokens=1)


def _assemble(
    request: ParsedRequest,
    settings: SimulatorSettings,
    hex_id: str,
    choices: tuple[CompletionChoice, ...],
    prompt_tokens: int,
) -> Completion:
    """`hex_id`: 32 hex digits, from which the reply's id and time are made."""
    completion_tokens = sum(choice.tokens for choice in choices)
    top = {
        "id": f"{'cmpl' if request.api_kind == 'completions' else 'chatcmpl'}-{hex_id[:24]}",
        "created": _CREATED_AT + int(hex_id[24:28], 16),
        "model": request.model,
        "system_fingerprint": f"fp_{settings.seed:08x}",
    }
    usage = {
        "prompt_tokens": prompt_tokens,
        "completion_tokens": completion_tokens,
        "total_tokens": prompt_tokens + completion_tokens,
    }
    return Completion(api_kind=request.api_kind, top=top, choices=choices, usage=usage)


def _make_choice(index: int, request: ParsedRequest, settings: SimulatorSettings, rng: Random) -> CompletionChoice:
    if settings.reply_lengths:  # these are exact, whatever is asked for
        length = _draw_length(settings, rng)
        return _make_text_choice(index, corpus.make_sentences("", length, rng)[:length], request.max_tokens)
    if request.api_kind != "completions":
        calling = _make_calling_choice(index, request, rng)
        if calling:
            return calling
        if rng.random() < _REFUSAL_RATE:
            return CompletionChoice(index=index, finish_reason="stop", refusal=corpus.REFUSAL)
    length = _draw_length(settings, rng)
    reasoning: list[str] = []
    if request.api_kind != "completions" and "reason" in request.model:
        reasoning = corpus.make_sentences("Let me think.", length // 2, rng)
    content = _content(request, settings, index, length, rng)
    return _make_text_choice(index, content, request.max_tokens, reasoning)


def _make_text_choice(
    index: int, content: list[str], max_tokens: int | None, reasoning: list[str] | None = None
) -> CompletionChoice:
    """Cut off at `max_tokens`; reasoning counts towards it."""
    reasoning = reasoning or []
    allowed = len(reasoning) + len(content) if max_tokens is None else max_tokens
    return CompletionChoice(
        index=index,
        finish_reason="length" if len(reasoning) + len(content) > allowed else "stop",
        reasoning=tuple(reasoning[:allowed]),
        content=tuple(content[: max(0, allowed - len(reasoning))]),
    )


def _draw_length(settings: SimulatorSettings, rng: Random) -> int:
    """Tokens of a reply: log-normal above the shortest, so that many are short and some are long."""
    if settings.reply_lengths:
        return rng.choice(settings.reply_lengths)
    shortest, longest = settings.reply_tokens
    typical = max(1.0, (longest - shortest) / 6)
    return min(longest, shortest + round(rng.lognormvariate(log(typical), 0.8)))


def _asked_schema(request: ParsedRequest) -> Any:
    """The schema of the output that the request asks for; None where it asks for none."""
    protocol = PROTOCOLS[API_PATHS[request.api_kind]]
    schema = protocol.output_schema(request.body)
    return _DEFAULT_SCHEMA if schema == {"type": "object"} else schema


def _content(request: ParsedRequest, settings: SimulatorSettings, index: int, length: int, rng: Random) -> list[str]:
    """Pieces of JSON if the request asks for JSON; else of sentences that begin by quoting the question."""
    if (schema := _asked_schema(request)) is not None:
        value = make_example(schema, rng)
        rate = settings.faults.rates.get("invalid_json", 0.0)
        is_wrong = rate > 0 and rng.random() < rate
        text = make_invalid(value, schema, rng) if is_wrong else orjson.dumps(value).decode()
        return corpus.chunk_text(text, rng)
    prompt = request.prompts[index * len(request.prompts) // request.choices]
    topic = " ".join(prompt[-2000:].strip().rsplit("\n", 1)[-1].split()[:6])[:60]
    return corpus.make_sentences(f"On “{topic}”:", length, rng)


def _make_calling_choice(index: int, request: ParsedRequest, rng: Random) -> CompletionChoice | None:
    calls = choose_tool_calls(request.body, rng)
    if calls:
        return CompletionChoice(index=index, finish_reason="tool_calls", calls=calls)
    function_call = choose_function_call(request.body, rng)
    if function_call:
        return CompletionChoice(index=index, finish_reason="function_call", function_call=function_call)
    return None
