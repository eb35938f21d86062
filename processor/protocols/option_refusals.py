"""Recognizes errors that refuse an option of the request which can be left out or sent in another way."""

from __future__ import annotations

import re

from processor.core.errors import AccessDenied, BadRequest, ServerError, StatusError
from processor.core.lazy_pattern import LazyPattern
from processor.core.models import JSON
from processor.protocols.error_body import ErrorBody, from_json

OUTPUT_LIMIT_FIELDS = ("max_completion_tokens", "max_tokens")
"""The names of the limit of output tokens, in the order in which they are looked for."""

_STATUSES = frozenset({400, 403, 404, 405, 406, 415, 422, 500, 501})
_UNSUPPORTED = LazyPattern(
    r"(?i)\b(?:unsupported|unknown|unrecogni[sz]ed|unexpected|extra (?:inputs?|fields?|keys?|parameters?))\b"
    r"|(?:\b(?:not|cannot be|never)|n't) (?:be )?(?:currently )?"
    r"(?:supported|support|permitted|allowed|enabled|available|accepted|recogni[sz]ed|defined|stream(?:ed)?)\b"
    r"|\b(?:cannot|can't) (?:be )?stream"
    r"|\binvalid (?:parameter|field|argument|request field|option)\b"
    r"|\b(?:deprecated|removed|disabled|instead|incompatible|must be verified)\b"
    r"|\bmust (?:be|not be) (?:set to )?(?:false|true|null)\b"
)
"""The field itself is refused, and not its value: `max_tokens is too large` does not match."""
_STREAM = LazyPattern(r"(?i)\bstream(?:ing|ed|s)?\b")
_STREAM_REQUIRED = LazyPattern(
    r"(?i)\bonly (?:be )?(?:\w+ )?(?:supports?|supported|available|works?|accepts?|allows?)\b.{0,40}\bstream"
    r"|\bstream\W{0,3}(?: \w+)? (?:must|should|needs? to) be (?:set to )?(?:true|enabled)|\bstream mode only\b"
    r"|\bnon-stream"
)
_REQUIRED = LazyPattern(r"(?i)\b(?:required|missing)\b")


def refuses_stream_options(error: StatusError) -> bool:
    refusal = _refusal(error)
    return refusal is not None and ("stream_options" in refusal.message or "stream_options" in refusal.fields)


def refuses_stream(error: StatusError) -> bool:
    """Whether the request is refused because its reply is to be streamed."""
    refusal = _refusal(error)
    if refusal is None or _STREAM_REQUIRED.search(refusal.message):
        return False
    if "stream" in refusal.fields and error.status < 500:
        return True
    return bool(_STREAM.search(refusal.message) and _UNSUPPORTED.search(refusal.message))


def other_output_limit_field(error: StatusError, body: JSON) -> str | None:
    """The name under which the limit of output tokens may be accepted, where ``body`` has it under a refused one."""
    sent = [name for name in OUTPUT_LIMIT_FIELDS if body.get(name) is not None]
    refusal = _refusal(error)
    if len(sent) != 1 or refusal is None:
        return None
    other = next(name for name in OUTPUT_LIMIT_FIELDS if name not in sent)
    if _names(refusal, sent[0]) and _UNSUPPORTED.search(refusal.message):
        return other
    return other if _names(refusal, other) and _REQUIRED.search(refusal.message) else None


def _names(refusal: ErrorBody, field: str) -> bool:
    return field in refusal.fields or re.search(rf"\b{field}\b", refusal.message) is not None


def _refusal(error: StatusError) -> ErrorBody | None:
    """What the error says, where it may be about an option. A server that fails over an option may say so with 500."""
    if not isinstance(error, BadRequest | AccessDenied | ServerError) or error.status not in _STATUSES:
        return None
    if isinstance(error, AccessDenied) and error.scope is not None:
        return None
    return from_json(error.body) if isinstance(error.body, dict) else ErrorBody(message=str(error))
