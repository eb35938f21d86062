"""The part of the provider that generates: what is asked for → what is written, and when. Pure."""

from __future__ import annotations

from dataclasses import dataclass

from processor.simulator.completion import CountTokens, say
from processor.simulator.faults import NO_FAULTS, DrawnFaults
from processor.simulator.request_parser import ParsedRequest
from processor.simulator.response_script import Ending, ResponseStep, reply
from processor.simulator.settings import SimulatorSettings


@dataclass(frozen=True, slots=True)
class Generated:
    steps: tuple[ResponseStep, ...]
    ending: Ending
    tokens: int
    """Billed for; a reply that breaks off costs no less."""
    before_s: float
    """From the first token to the first byte: a reply that is not streamed is made whole first."""


class TextGenerator:
    def __init__(self, settings: SimulatorSettings, count: CountTokens | None) -> None:
        self._settings = settings
        self._count = count
        self._canned: dict[tuple[object, ...], Generated] = {}

    def generate(self, ask: ParsedRequest, drawn: DrawnFaults) -> Generated:
        if not self._settings.canned or drawn is not NO_FAULTS:
            return self._generate(ask, drawn)
        # All that a canned reply depends on.
        key = (ask.protocol, ask.model, ask.choices, ask.max_tokens, ask.streamed, ask.include_usage)
        made = self._canned.get(key)
        if made is None:
            made = self._canned[key] = self._generate(ask, drawn)
        return made

    def _generate(self, ask: ParsedRequest, drawn: DrawnFaults) -> Generated:
        said = say(ask, self._settings, self._count)
        token_s = 1 / self._settings.speed_tps
        steps, ending = reply(
            said,
            drawn,
            streamed=ask.streamed,
            include_usage=ask.include_usage,
            token_s=token_s,
            gather_s=self._settings.gather_s,
        )
        before_s = 0.0 if ask.streamed else token_s * max(choice.tokens for choice in said.choices)
        return Generated(steps, ending, said.usage["completion_tokens"], before_s)
