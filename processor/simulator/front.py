"""The door: a raw request → what is asked for, or the refusal that needs no look at limits or time. Pure."""

from __future__ import annotations

from collections.abc import Mapping

import orjson

from processor.simulator import refusals
from processor.simulator.requests import Ask, BadRequest, parse, protocol_of
from processor.simulator.script import Answer, Step
from processor.simulator.settings import SimulatorSettings

_DEFAULT_MODELS = ("simulated-model",)
_KEY_HEADERS = ("authorization", "api-key", "x-api-key")


def receive(
    settings: SimulatorSettings, method: str, path: str, headers: Mapping[str, str], body: bytes
) -> Ask | Answer:
    """An Answer where there is nothing to ask a model."""
    refusal = _refuse_key(settings, headers)
    if refusal:
        return refusal
    protocol = protocol_of(path)
    if protocol is None and path.endswith("/models"):
        return _models(settings) if method == "GET" else refusals.wrong_method(method, path)
    if protocol is None:
        return refusals.unknown_path(method, path)
    if method != "POST":
        return refusals.wrong_method(method, path)
    try:
        ask = parse(path, protocol, body)
    except BadRequest as error:
        return refusals.invalid(str(error), error.param)
    return _refuse_ask(settings, ask) or ask


def _refuse_key(settings: SimulatorSettings, headers: Mapping[str, str]) -> Answer | None:
    if settings.auth == "open":
        return None
    if not any(headers.get(name) for name in _KEY_HEADERS):
        return refusals.no_key()
    return refusals.bad_key() if settings.auth == "refused" else None


def _models(settings: SimulatorSettings) -> Answer:
    names = settings.models or _DEFAULT_MODELS
    models = [{"id": name, "object": "model", "created": 0, "owned_by": "simulator"} for name in names]
    data = orjson.dumps({"object": "list", "data": models})
    return Answer(headers={"content-type": "application/json"}, steps=(Step(0.0, data),))


def _refuse_ask(settings: SimulatorSettings, ask: Ask) -> Answer | None:
    if "stream_options" in ask.body and not settings.knows_stream_options:
        message = "Unrecognized request argument supplied: stream_options"
        return refusals.invalid(message, "stream_options", "unknown_parameter")
    if settings.models is not None and ask.model not in settings.models:
        return refusals.unknown_model(ask.model)
    return None
