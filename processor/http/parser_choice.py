"""Chooses the parser of a reply by the form of its body."""

from __future__ import annotations

from collections.abc import Callable

from processor.core.models import Job
from processor.http.response_body import (
    BodyForm,
    ErrorParser,
    JsonParser,
    ResponseParser,
    SseParser,
    html_instead_of_reply_error,
)
from processor.http.settings import TransportSettings
from processor.protocols import Accumulator, Protocol


def parser_for(
    protocol: Protocol,
    job: Job,
    settings: TransportSettings,
    on_events: Callable[[Accumulator], None],
    flush_threshold: int,
    content_type: str,
    form: BodyForm,
) -> ResponseParser:
    if form == "page":
        return ErrorParser(html_instead_of_reply_error(content_type))
    if form == "json":
        return JsonParser(protocol.parse_json, max_bytes=settings.max_reply_bytes)
    return SseParser(
        protocol.accumulator(job),
        on_events,
        end_marker=protocol.end_marker,
        max_bytes=settings.max_reply_bytes,
        content_type=content_type,
        live=settings.echo,
        flush_threshold=flush_threshold,
    )
