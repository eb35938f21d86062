"""Maps error responses to the errors of this package, which decide what follows.

Knows the shapes of OpenAI, Azure, Anthropic, Gemini, OpenRouter, LiteLLM, Groq, Mistral, DeepSeek, vLLM, SGLang,
Ollama, llama.cpp and FastAPI, and the HTML pages of proxies.
https://platform.openai.com/docs/guides/error-codes, https://docs.anthropic.com/en/api/errors
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from http import HTTPStatus

from processor.core.errors import (
    AccessDenied,
    BadRequest,
    ModelNotFound,
    NotFound,
    Redirected,
    Scope,
    ServerError,
    StatusError,
    Throttled,
    UrlNotFound,
)
from processor.core.lazy_pattern import LazyPattern
from processor.core.models import JSON
from processor.core.text import one_line, setting_name
from processor.protocols.account_errors import is_wrong_key, spent_scope
from processor.protocols.error_body import ErrorBody, from_json, parse_error_body
from processor.protocols.retry_after import retry_after

_STATUS_OF_CODE = {
    "invalid_request_error": 400,
    "authentication_error": 401,
    "permission_error": 403,
    "not_found_error": 404,
    "request_too_large": 413,
    "rate_limit_error": 429,
    "rate_limit_exceeded": 429,
    "overloaded_error": 529,
    "BadRequestError": 400,
    "InvalidParameter": 400,
    "ValidationException": 400,
    "content_policy_violation": 400,
    "context_length_exceeded": 400,
    "data_inspection_failed": 400,
    "exceed_context_size_error": 400,
    "invalid_prompt": 400,
    "string_above_max_length": 400,
    "content_filter": 400,
    "invalid_request": 400,
    "unsupported_parameter": 400,
    "unsupported_value": 400,
    "unknown_parameter": 400,
    "INVALID_ARGUMENT": 400,
    "invalid_api_key": 401,
    "AuthenticationError": 401,
    "UNAUTHENTICATED": 401,
    "PERMISSION_DENIED": 403,
    "PermissionDeniedError": 403,
    "model_not_found": 404,
    "NOT_FOUND": 404,
    "NotFoundError": 404,
    "UnprocessableEntityError": 422,
    "RESOURCE_EXHAUSTED": 429,
    "RateLimitError": 429,
    "rate_limit": 429,
    "too_many_requests": 429,
    "TooManyRequests": 429,
}
"""For errors inside a stream, which have no HTTP status of their own."""
_RETRYABLE_STATUSES = frozenset({408, 409, 423, 424, 425, 499})
"""Statuses below 500 that are retried, beside 429."""
_AUTH_STATUSES = frozenset({401, 403})
_NOT_IMPLEMENTED = 501
"""The one status from 500 on that is not retried: the server does not have the function."""
_REQUEST_ID_HEADERS = ("x-request-id", "request-id", "apim-request-id")
_PHRASES = {status.value: status.phrase for status in HTTPStatus}
_LIMIT_AND_REQUESTED = LazyPattern(r"\blimit:? ([\d,]{1,15}).{0,80}?\brequested:? ([\d,]{1,15})", re.IGNORECASE)
_CONTEXT_EXCEEDED = LazyPattern(
    r"(?i)(?:exceed|maximum|larger|longer|too long).{0,80}\bcontext[ _](?:length|size|window)"
    r"|\bcontext[ _](?:length|size|window)\b.{0,80}(?:exceed|too (?:large|long|small))"
    r"|\b(?:prompt|input) is too long\b"
    r"|\breduce the length of the (?:messages|prompt|input)"
)
"""The request itself is at fault, whatever status comes with these words."""

_MODEL_CODES = frozenset(
    {"model_not_found", "model_not_available", "invalid_model", "DeploymentNotFound", "deployment_not_found"}
)
# A 404 may have nearly the same words for another reason ("no endpoints found that support tools"), so that these
# patterns match whole messages, or words that are used for models only.
_NO_MODEL_404 = LazyPattern(
    r"(?i)^model: \S+$"  # Anthropic
    r"|\bmodels?\b.{0,200}\b(?:does not exist|(?:is |was )?not found)\b"  # vLLM, SGLang, Ollama, Gemini, Groq
    r"|^no endpoints found for \S+$"  # OpenRouter
)
_NO_MODEL_400 = LazyPattern(
    r"(?i)\bis not a valid model id\b"  # OpenRouter
    r"|^model not exist$"  # DeepSeek
    r"|\binvalid model name passed in model="  # LiteLLM
    r"|\bthe model `[^`]{1,200}` does not exist\b"
)
_NO_URL = LazyPattern(
    r"(?i)^(?:not found|file not found|resource not found|404 page not found)\.?$"  # FastAPI, llama.cpp, Azure, Go
    r"|^invalid url \("  # OpenAI
)


def error_from_response(
    status: int, headers: Mapping[str, str], body: bytes, *, now_wall: float | None = None
) -> StatusError:
    """The error for a response whose status is not 2xx. Header names are lower case.

    ``now_wall`` (Unix seconds) is used for a `Retry-After` date where the response has no `Date`.
    """
    error = parse_error_body(body)
    return _error(
        status,
        error,
        headers,
        message=_message(status, headers, error),
        body=error.body,
        request_id=request_id(headers) or error.request_id,
        now_wall=now_wall,
    )


def error_from_event(event: JSON) -> StatusError:
    """The error for an error event of a stream: that of the status it names or implies, else that of 500."""
    error = from_json(event)
    implied = next((_STATUS_OF_CODE[code] for code in error.codes if code in _STATUS_OF_CODE), None)
    if implied is None:
        implied = 422 if isinstance(event.get("detail"), list) else 500  # FastAPI: the fields that are wrong
    status = error.status or implied
    if status >= 500 and _CONTEXT_EXCEEDED.search(error.message):
        status = 400
    message = error.message or "the stream reported an error without a message"
    return _error(status, error, {}, message=message, body=event, request_id=error.request_id, now_wall=None)


def request_id(headers: Mapping[str, str]) -> str | None:
    """The server's id of the request, where it sends one. Header names are lower case."""
    for name in _REQUEST_ID_HEADERS:
        if value := headers.get(name):
            return value
    return None


def not_found_class(status: int, error: ErrorBody) -> type[NotFound] | None:
    """ModelNotFound or UrlNotFound where the response says so without doubt; else None."""
    if status in (400, 403, 404) and not _MODEL_CODES.isdisjoint(error.codes):
        return ModelNotFound
    if status == 400 and _NO_MODEL_400.search(error.message):
        return ModelNotFound
    if status == 404 and _NO_MODEL_404.search(error.message):
        return ModelNotFound
    if status in (404, 405, 501) and (error.body is None or _NO_URL.search(error.message)):
        return UrlNotFound
    return None


def is_key_refusal(error: AccessDenied) -> bool:
    """Whether the server refuses the key itself, and not what its account may do."""
    if error.status == 401:
        return True
    return isinstance(error.body, dict) and is_wrong_key(error.status, from_json(error.body))


def _error(
    status: int,
    error: ErrorBody,
    headers: Mapping[str, str],
    *,
    message: str,
    body: JSON | None,
    request_id: str | None,
    now_wall: float | None,
) -> StatusError:
    cls, scope = _error_class(status, error, headers.get("x-should-retry"))
    wait_s = retry_after(headers, error, now_wall, quota=cls in (AccessDenied, Throttled))
    code = _error_code(error)
    if issubclass(cls, AccessDenied):
        return cls(
            message,
            status=status,
            scope=scope,
            body=body,
            error_code=code,
            retry_after_s=wait_s,
            request_id=request_id,
        )
    return cls(message, status=status, body=body, error_code=code, retry_after_s=wait_s, request_id=request_id)


def _error_class(status: int, error: ErrorBody, should_retry: str | None) -> tuple[type[StatusError], Scope | None]:
    """The class of the error, and what it holds for where it is an AccessDenied."""
    if 300 <= status < 400:
        return Redirected, None
    if (scope := spent_scope(status, error)) is not None or status == 402:
        return AccessDenied, scope
    is_key_refused = is_wrong_key(status, error)
    if should_retry == "false" or (status == 429 and _exceeds_limit(error.message)):
        return (AccessDenied, _scope_of_key(is_key_refused)) if status in _AUTH_STATUSES else (BadRequest, None)
    if status == 429:
        return Throttled, None
    if should_retry == "true" or status in _RETRYABLE_STATUSES or (status >= 500 and status != _NOT_IMPLEMENTED):
        return ServerError, None
    if is_key_refused:
        return AccessDenied, "endpoint"
    return not_found_class(status, error) or (AccessDenied if status in _AUTH_STATUSES else BadRequest), None


def _scope_of_key(is_key_refused: bool) -> Scope | None:
    return "endpoint" if is_key_refused else None


def _exceeds_limit(message: str) -> bool:
    """Whether the request is larger than the limit of a whole minute: `Limit 30000, Requested 45000`."""
    found = _LIMIT_AND_REQUESTED.search(message)
    if found is None:
        return False
    limit, requested = (int(number.replace(",", "") or 0) for number in found.groups())
    return requested > limit


def _error_code(error: ErrorBody) -> str | None:
    return next(iter(error.codes), None) or (str(error.status) if error.status else None)


def _message(status: int, headers: Mapping[str, str], error: ErrorBody) -> str:
    if 300 <= status < 400:
        location = one_line(_without_secrets(headers.get("location", "")))
        return (
            f"HTTP {status}: redirected to {location or 'nowhere'}; set {setting_name('base_url')} to the address "
            "of the API itself"
        )
    if error.body is not None and error.message:
        return error.message
    status_line = f"HTTP {status} {_PHRASES.get(status, '')}".rstrip()
    return f"{status_line}: {error.message}" if error.message else status_line


def _without_secrets(url: str) -> str:
    """The URL without user, password, query and fragment."""
    scheme, slashes, rest = re.split(r"[?#]", url)[0].rpartition("//")
    host, slash, path = rest.partition("/")
    return scheme + slashes + host.rpartition("@")[2] + slash + path
