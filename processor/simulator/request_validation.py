"""The door: a raw request → what is asked for, or the refusal that needs no look at limits or time. Pure."""

from __future__ import annotations

from collections.abc import Mapping

import orjson

from processor.simulator import error_responses
from processor.simulator.request_parser import InvalidRequest, ParsedRequest, parse, protocol_of
from processor.simulator.response_script import ResponseStep, ScriptedResponse
from processor.simulator.settings import SimulatorSettings

_DEFAULT_MODELS = ("simulated-model",)
_KEY_HEADERS = ("authorization", "api-key", "x-api-key")


def receive(
    settings: SimulatorSettings, method: str, path: str, headers: Mapping[str, str], body: bytes
) -> ParsedRequest | ScriptedResponse:
    """An Answer where there is nothing to ask a model."""
    refusal = _refuse_key(settings, headers)
    if refusal:
        return refusal
    protocol = protocol_of(path)
    if protocol is None and path.endswith("/models"):
        return _models(settings) if method == "GET" else error_responses.wrong_method(method, path)
    if protocol is None:
        return error_responses.unknown_path(method, path)
    if method != "POST":
        return error_responses.wrong_method(method, path)
    try:
        ask = parse(path, protocol, body)
    except InvalidRequest as error:
        return error_responses.invalid(str(error), error.param)
    return _refuse_ask(settings, ask) or ask


def _refuse_key(settings: SimulatorSettings, headers: Mapping[str, str]) -> ScriptedResponse | None:
    if settings.auth == "open":
        return None
    if not any(headers.get(name) for name in _KEY_HEADERS):
        return error_responses.no_key()
    return error_responses.bad_key() if settings.auth == "refused" else None


def _models(settings: SimulatorSettings) -> ScriptedResponse:
    names = settings.models or _DEFAULT_MODELS
    models = [{"id": name, "object": "model", "created": 0, "owned_by": "simulator"} for name in names]
    data = orjson.dumps({"object": "list", "data": models})
    return ScriptedResponse(headers={"content-type": "application/json"}, steps=(ResponseStep(0.0, data),))


def _refuse_ask(settings: SimulatorSettings, ask: ParsedRequest) -> ScriptedResponse | None:
    if "stream_options" in ask.body and not settings.knows_stream_options:
        message = "Unrecognized request argument supplied: stream_options"
        return error_responses.invalid(message, "stream_options", "unknown_parameter")
    if settings.models is not None and ask.model not in settings.models:
        return error_responses.unknown_model(ask.model)
    return None
