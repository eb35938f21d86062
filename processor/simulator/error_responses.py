"""Error responses, in the wording and format of OpenAI. Pure.

https://platform.openai.com/docs/guides/error-codes
"""

from __future__ import annotations

from collections.abc import Mapping
from math import ceil
from random import Random

from processor.simulator.counters import SECOND_NS
from processor.simulator.rate_limit_headers import Resource, go_duration
from processor.simulator.rate_limiter import LimitDecision
from processor.simulator.response_script import ResponseStep, ScriptedResponse, json_response

_UNITS: dict[Resource, str] = {
    "requests": "requests per min (RPM)",
    "tokens": "tokens per min (TPM)",
    "input_tokens": "input tokens per min (ITPM)",
    "output_tokens": "output tokens per min (OTPM)",
}
_PAGE = b"<html>\r\n<head><title>502 Bad Gateway</title></head>\r\n<body><h1>502 Bad Gateway</h1></body>\r\n</html>\r\n"

NO_RESPONSE = ScriptedResponse(status=None, headers={}, ending="reset")


def invalid_request(message: str, param: str | None, code: str | None = None) -> ScriptedResponse:
    return _error(400, message, "invalid_request_error", param=param, code=code)


def unknown_path(method: str, path: str) -> ScriptedResponse:
    return _error(404, f"Invalid URL ({method} {path})", "invalid_request_error")


def not_found(message: str) -> ScriptedResponse:
    return _error(404, message, "invalid_request_error")


def wrong_method(method: str, path: str) -> ScriptedResponse:
    return _error(405, f"Not allowed to {method} on {path}", "invalid_request_error", code="method_not_supported")


def unknown_model(model: str) -> ScriptedResponse:
    message = f"The model `{model}` does not exist or you do not have access to it."
    return _error(404, message, "invalid_request_error", code="model_not_found")


def no_key() -> ScriptedResponse:
    return _error(401, "You didn't provide an API key.", "invalid_request_error")


def bad_key() -> ScriptedResponse:
    return _error(401, "Incorrect API key provided.", "invalid_request_error", code="invalid_api_key")


def no_quota() -> ScriptedResponse:
    message = "You exceeded your current quota, please check your plan and billing details."
    return _error(429, message, "insufficient_quota", code="insufficient_quota")


def over_limit(model: str, decision: LimitDecision, headers: Mapping[str, str]) -> ScriptedResponse:
    """A 429 for an exceeded limit. The message states the wait; so do the headers if there are rate-limit headers."""
    resource = decision.resource or "requests"
    limit = f"for {model} in organization org-simulated on {_UNITS[resource]}: Limit {decision.limit}"
    if decision.retry_after_s is None:
        message = f"Request too large {limit}, Requested {decision.requested}. It must be reduced in order to run."
        return _error(429, message, resource, code="rate_limit_exceeded", headers=headers)
    wait = go_duration(round(decision.retry_after_s * SECOND_NS))
    used = f"Used {decision.used}, Requested {decision.requested}"
    message = f"Rate limit reached {limit}, {used}. Please try again in {wait}."
    wait_headers = _wait_headers(decision.retry_after_s) if headers else {}
    return _error(429, message, resource, code="rate_limit_exceeded", headers={**headers, **wait_headers})


def throttled_burst(wait_s: float) -> ScriptedResponse:
    message = "That was too fast. Please slow down and try again."
    return _error(429, message, "requests", code="rate_limit_exceeded", headers=_wait_headers(wait_s))


def outage(kind: str) -> ScriptedResponse:
    """`kind` as in `settings.Outage`."""
    return {"refuse": NO_RESPONSE, "500": server_error(), "503": overloaded(), "429": throttled_burst(1.0)}[kind]


def server_error() -> ScriptedResponse:
    message = "The server had an error while processing your request. Sorry about that!"
    return _error(500, message, "server_error")


def overloaded() -> ScriptedResponse:
    message = "The engine is currently overloaded, please try again later."
    return _error(503, message, "server_error", code="server_is_overloaded")


def random_5xx(rng: Random) -> ScriptedResponse:
    page = ScriptedResponse(status=502, headers={"content-type": "text/html"}, steps=(ResponseStep(0.0, _PAGE),))
    return rng.choice((server_error(), server_error(), overloaded(), page))


def _wait_headers(wait_s: float) -> dict[str, str]:
    return {"retry-after": str(ceil(wait_s)), "retry-after-ms": str(ceil(wait_s * 1000))}


def _error(
    status: int,
    message: str,
    error_type: str,
    *,
    param: str | None = None,
    code: str | None = None,
    headers: Mapping[str, str] | None = None,
) -> ScriptedResponse:
    body = {"error": {"message": message, "type": error_type, "param": param, "code": code}}
    return json_response(body, status, headers)
