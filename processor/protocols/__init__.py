"""Protocols of the APIs, without I/O: jobs to requests, events to replies, error responses to errors."""

from processor.protocols.base import Accumulator, Protocol, RequestOptions
from processor.protocols.error_body import readable_text
from processor.protocols.error_mapping import error_from_response, is_key_refusal, request_id
from processor.protocols.known_refusals import options_without
from processor.protocols.lenient_json import repaired_json
from processor.protocols.registry import protocol_for
from processor.protocols.sse import SseDecoder

__all__ = [
    "Accumulator",
    "Protocol",
    "RequestOptions",
    "SseDecoder",
    "error_from_response",
    "is_key_refusal",
    "options_without",
    "protocol_for",
    "readable_text",
    "repaired_json",
    "request_id",
]
