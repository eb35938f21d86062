"""Turns a valid request and its faults into the scripted steps of a reply. Pure."""

from __future__ import annotations

from processor.core.fast_dataclass import dataclass
from processor.simulator.completion import CountTokens, count_prompt_tokens, generate_completion
from processor.simulator.faults import NO_FAULTS, DrawnFaults
from processor.simulator.request_parser import ParsedRequest
from processor.simulator.response_script import Ending, ResponseStep, script_body, script_reply
from processor.simulator.settings import SimulatorSettings
from processor.simulator.ungenerated import UNGENERATED


@dataclass(frozen=True, slots=True)
class GeneratedReply:
    """The body of a response as a script."""

    steps: tuple[ResponseStep, ...]
    ending: Ending
    billed_tokens: int
    """A reply that breaks off costs as much as a complete one."""
    generation_s: float
    """Time from the first token to the first byte: a non-streamed reply is sent when all of it is generated."""


class TextGenerator:
    """Generates replies. With `settings.canned`, replies without faults are cached."""

    def __init__(self, settings: SimulatorSettings, count_tokens: CountTokens | None) -> None:
        self._settings = settings
        self._count_tokens = count_tokens
        self._canned: dict[tuple[object, ...], GeneratedReply] = {}

    def generate(self, request: ParsedRequest, drawn: DrawnFaults) -> GeneratedReply:
        if (make_body := UNGENERATED.get(request.api_kind)) is not None:
            body = make_body(request, self._settings, count_prompt_tokens(request, self._count_tokens))
            return GeneratedReply(*script_body(body, drawn), billed_tokens=0, generation_s=0.0)
        if not self._settings.canned or drawn is not NO_FAULTS:
            return self._generate(request, drawn)
        # All that a canned reply depends on.
        shape = (request.choices, request.max_tokens, request.streamed, request.include_usage)
        key = (request.api_kind, request.model, *shape)
        reply = self._canned.get(key)
        if reply is None:
            reply = self._canned[key] = self._generate(request, drawn)
        return reply

    def _generate(self, request: ParsedRequest, drawn: DrawnFaults) -> GeneratedReply:
        completion = generate_completion(request, self._settings, self._count_tokens)
        token_s = 1 / self._settings.speed_tps
        steps, ending = script_reply(
            completion,
            drawn,
            streamed=request.streamed,
            include_usage=request.include_usage,
            token_s=token_s,
            write_batch_s=self._settings.write_batch_s,
        )
        generation_s = 0.0 if request.streamed else token_s * max(choice.tokens for choice in completion.choices)
        return GeneratedReply(steps, ending, completion.usage["completion_tokens"], generation_s)
