"""Chooses the parser of a response: by its headers, and by the form of its body."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial

from processor.core.errors import ProtocolError
from processor.core.models import Job
from processor.http.compressed_body import CompressedParser
from processor.http.content_coding import ContentDecoder, can_be_decoded, codings_in, is_plain
from processor.http.event_stream import SseParser
from processor.http.response_body import (
    BodyForm,
    ErrorParser,
    JsonParser,
    ResponseParser,
    SniffingParser,
    html_instead_of_reply_error,
)
from processor.http.settings import TransportSettings
from processor.protocols import Protocol


def reply_parser(
    protocol: Protocol,
    job: Job,
    settings: TransportSettings,
    flush_threshold: int,
    headers: Mapping[str, str],
    on_choice: Callable[[ResponseParser], None],
) -> ResponseParser:
    """The parser of a reply that has not begun. ``on_choice`` is called with the one that takes its place.

    Raises ProtocolError where the reply is compressed too many times over.
    """
    content_type, is_decoded = headers.get("content-type", ""), "content-encoding" in headers
    choose = partial(_parser_for, protocol, job, settings, flush_threshold, content_type, is_decoded, on_choice)
    parser = SniffingParser(choose, on_choice)
    return _with_decoder(parser, headers) if is_decoded else parser


def error_parser(headers: Mapping[str, str], make_error: Callable[[bytes], Exception]) -> ResponseParser:
    """The parser of a response that is no reply."""
    codings = codings_in(headers.get("content-encoding", ""))
    if all(map(can_be_decoded, codings)):
        try:
            return _with_decoder(ErrorParser(make_error), headers)
        except ProtocolError:
            pass
    return ErrorParser(lambda data: make_error(data if is_plain(data) else b""))  # the status says enough


def _with_decoder(parser: ResponseParser, headers: Mapping[str, str]) -> ResponseParser:
    """The parser of the same body as it is sent, which may be compressed."""
    codings = codings_in(headers.get("content-encoding", ""))
    return CompressedParser(ContentDecoder(codings), parser) if codings else parser


def _parser_for(
    protocol: Protocol,
    job: Job,
    settings: TransportSettings,
    flush_threshold: int,
    content_type: str,
    is_decoded: bool,
    on_choice: Callable[[ResponseParser], None],
    form: BodyForm,
) -> ResponseParser:
    if form == "page":
        return ErrorParser(html_instead_of_reply_error(content_type))
    if form == "json":
        return JsonParser(lambda data: protocol.parse_reply(data, job), max_bytes=settings.max_reply_bytes)
    if form == "gzip" and not is_decoded:  # compressed, and not announced
        choose = partial(_parser_for, protocol, job, settings, flush_threshold, content_type, True, on_choice)
        return CompressedParser(ContentDecoder(("gzip",)), SniffingParser(choose, on_choice))
    return SseParser(
        protocol.accumulator(job),
        end_marker=protocol.end_marker,
        max_bytes=settings.max_reply_bytes,
        content_type=content_type,
        live=settings.echo,
        flush_threshold=flush_threshold,
    )
