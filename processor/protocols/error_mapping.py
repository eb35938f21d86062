"""Error answers → the error that says what may follow.

The shapes of OpenAI, Azure, Anthropic, Gemini, OpenRouter, LiteLLM, vLLM, llama.cpp and FastAPI, and whatever a
proxy says in HTML. https://platform.openai.com/docs/guides/error-codes, https://docs.anthropic.com/en/api/errors
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from http import HTTPStatus

from processor.core.errors import AccessDenied, BadRequest, ServerError, StatusError, Throttled
from processor.core.models import JSON
from processor.protocols.absence import not_found_class
from processor.protocols.error_body import ErrorBody, one_line, parse_error_body, saying_of
from processor.protocols.retry_after import retry_after

_NEVER_RETRY = frozenset(
    {
        "insufficient_quota",
        "credit_balance_exhausted",
        "organization_spend_limit_exceeded",
        "project_spend_limit_exceeded",
        "organization_usage_limit_exceeded",
        "enforced_spend_limit_reached",
        "billing_error",
    }
)
_STATUS_OF_KIND = {
    "invalid_request_error": 400,
    "authentication_error": 401,
    "permission_error": 403,
    "not_found_error": 404,
    "request_too_large": 413,
    "rate_limit_error": 429,
    "rate_limit_exceeded": 429,
    "overloaded_error": 529,
}
"""For errors told inside a stream, which have no status of their own."""
_SERVERS_FAULT = frozenset({408, 409})
_KEYS_FAULT = frozenset({401, 403})
_NOT_IMPLEMENTED = 501
"""No server changes its mind about that."""
_REQUEST_ID_HEADERS = ("x-request-id", "request-id", "apim-request-id")
_PHRASES = {status.value: status.phrase for status in HTTPStatus}
_LIMIT_AND_REQUESTED = re.compile(r"\blimit:? ([\d,]{1,15}).{0,80}?\brequested:? ([\d,]{1,15})", re.IGNORECASE)


def error_from_response(
    status: int, headers: Mapping[str, str], body: bytes, *, now_wall: float | None = None
) -> StatusError:
    """The error that an answer with a bad status stands for. Header names are lower case.

    ``now_wall`` (Unix seconds) serves a `Retry-After` date where the answer itself has no `Date`.
    """
    said = parse_error_body(body)
    return _error_class(status, said, headers.get("x-should-retry"))(
        _message(status, headers, said),
        status=status,
        body=said.body,
        error_code=_error_code(said),
        retry_after_s=retry_after(headers, said.message, now_wall),
        request_id=request_id(headers) or said.request_id,
    )


def error_from_event(event: JSON) -> StatusError:
    """An error told inside a stream: as the status it would have had raises it, 500 where it does not say."""
    said = saying_of(event)
    named = next((_STATUS_OF_KIND[kind] for kind in said.kinds if kind in _STATUS_OF_KIND), 500)
    status = said.status or named
    return _error_class(status, said, None)(
        said.message or "the stream told an error without a message",
        status=status,
        body=event,
        error_code=_error_code(said),
        retry_after_s=retry_after({}, said.message),
        request_id=said.request_id,
    )


def request_id(headers: Mapping[str, str]) -> str | None:
    """The server's name for the exchange, where it gives one. Header names are lower case."""
    return next((headers[name] for name in _REQUEST_ID_HEADERS if headers.get(name)), None)


def _error_class(status: int, said: ErrorBody, should_retry: str | None) -> type[StatusError]:
    if status == 402 or not _NEVER_RETRY.isdisjoint(said.kinds):
        return AccessDenied
    if should_retry == "false" or (status == 429 and _can_never_fit(said.message)):
        return AccessDenied if status in _KEYS_FAULT else BadRequest
    if status == 429:
        return Throttled
    if should_retry == "true" or status in _SERVERS_FAULT or (status >= 500 and status != _NOT_IMPLEMENTED):
        return ServerError
    return not_found_class(status, said) or (AccessDenied if status in _KEYS_FAULT else BadRequest)


def _can_never_fit(message: str) -> bool:
    """`Limit 30000, Requested 45000`: one request larger than a whole minute."""
    found = _LIMIT_AND_REQUESTED.search(message)
    if found is None:
        return False
    limit, requested = (int(number.replace(",", "") or 0) for number in found.groups())
    return requested > limit


def _error_code(said: ErrorBody) -> str | None:
    return next(iter(said.kinds), None) or (str(said.status) if said.status else None)


def _message(status: int, headers: Mapping[str, str], said: ErrorBody) -> str:
    if 300 <= status < 400:
        where = one_line(_without_secrets(headers.get("location", "")))
        return f"HTTP {status}: redirected to {where or 'nowhere'}; redirects are not followed"
    if said.body is not None and said.message:
        return said.message
    name = f"HTTP {status} {_PHRASES.get(status, '')}".rstrip()
    return f"{name}: {said.message}" if said.message else name


def _without_secrets(url: str) -> str:
    """An address without user, password, query and fragment."""
    scheme, slashes, rest = re.split(r"[?#]", url)[0].rpartition("//")
    host, slash, path = rest.partition("/")
    return scheme + slashes + host.rpartition("@")[2] + slash + path
