"""Protocols with no I/O: bytes to events, events to replies, error answers to errors."""

from processor.protocols.base import Fold
from processor.protocols.error_mapping import refusal, request_id
from processor.protocols.non_streamed import whole_body
from processor.protocols.payload import payload
from processor.protocols.registry import open_fold
from processor.protocols.sse import Decoder

__all__ = ["Decoder", "Fold", "open_fold", "payload", "refusal", "request_id", "whole_body"]
