"""Changes of a request's body that APIs have in common."""

from __future__ import annotations

from processor.core.models import JSON


def unstreamed(body: JSON) -> JSON:
    """The body that asks for a whole reply: without ``stream_options``, which are refused there."""
    if body.get("stream") is False and "stream_options" not in body:
        return body
    return {name: value for name, value in body.items() if name != "stream_options"} | {"stream": False}
