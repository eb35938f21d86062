"""Protocols with no I/O: bytes to events, events to replies, error answers to errors."""

from processor.protocols.base import Accumulator
from processor.protocols.error_mapping import error_from_response, request_id
from processor.protocols.non_streamed import whole_body
from processor.protocols.payload import payload
from processor.protocols.registry import accumulator_for
from processor.protocols.sse import SseDecoder

__all__ = ["Accumulator", "SseDecoder", "accumulator_for", "error_from_response", "payload", "request_id", "whole_body"]
