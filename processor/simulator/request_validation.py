"""Checks a raw request for everything that does not depend on limits or time. Pure."""

from __future__ import annotations

from collections.abc import Mapping

from processor.simulator import error_responses
from processor.simulator.request_parser import InvalidRequest, ParsedRequest, api_kind_of, parse
from processor.simulator.response_script import ScriptedResponse, json_response
from processor.simulator.settings import SimulatorSettings

_DEFAULT_MODELS = ("simulated-model",)
_KEY_HEADERS = ("authorization", "api-key", "x-api-key")


def validate(
    settings: SimulatorSettings, method: str, path: str, headers: Mapping[str, str], body: bytes
) -> ParsedRequest | ScriptedResponse:
    """The parsed request, or the response if there is nothing to generate: an error, or the list of models."""
    error_response = check_key(settings, headers)
    if error_response:
        return error_response
    api_kind = api_kind_of(path)
    if api_kind is None and path.endswith("/models"):
        return _models(settings) if method == "GET" else error_responses.wrong_method(method, path)
    if api_kind is None:
        return error_responses.unknown_path(method, path)
    if method != "POST":
        return error_responses.wrong_method(method, path)
    try:
        request = parse(path, api_kind, body)
    except InvalidRequest as error:
        return error_responses.invalid_request(str(error), error.param)
    return _check_request(settings, request) or request


def check_key(settings: SimulatorSettings, headers: Mapping[str, str]) -> ScriptedResponse | None:
    """The refusal of a request without a key that is accepted; None where it has one."""
    if settings.auth == "open":
        return None
    if not any(headers.get(name) for name in _KEY_HEADERS):
        return error_responses.no_key()
    return error_responses.bad_key() if settings.auth == "refused" else None


def _models(settings: SimulatorSettings) -> ScriptedResponse:
    names = settings.models or _DEFAULT_MODELS
    models = [{"id": name, "object": "model", "created": 0, "owned_by": "simulator"} for name in names]
    return json_response({"object": "list", "data": models})


def _check_request(settings: SimulatorSettings, request: ParsedRequest) -> ScriptedResponse | None:
    if "stream_options" in request.body and not settings.supports_stream_options:
        message = "Unrecognized request argument supplied: stream_options"
        return error_responses.invalid_request(message, "stream_options", "unknown_parameter")
    if settings.models is not None and request.model not in settings.models:
        return error_responses.unknown_model(request.model)
    return None
