"""Replies that come as one JSON body: unstreamed by request, or because a server ignores `stream`."""

from __future__ import annotations

from processor.core.errors import ProtocolError
from processor.core.models import JSON
from processor.protocols.base import parse_object
from processor.protocols.error_mapping import error_from_event


def whole_body(data: bytes) -> JSON:
    """The body itself. Raises ProtocolError, or the StatusError of an error told with a good status."""
    body = parse_object(data, "the reply")
    if body.get("error") or body.get("object") == "error":
        raise error_from_event(body)
    choices = body.get("choices")
    if not isinstance(choices, list) or not choices:
        raise ProtocolError("the reply has no choices")
    if not all(isinstance(choice, dict) for choice in choices):
        raise ProtocolError("a choice is no object")
    return body
