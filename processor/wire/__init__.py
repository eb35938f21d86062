"""Protocols with no I/O: bytes to events, events to replies, error answers to errors."""

from processor.wire.endpoints import open_fold
from processor.wire.fold import Fold
from processor.wire.payload import payload
from processor.wire.refusal import refusal, request_id
from processor.wire.sse import Decoder
from processor.wire.whole import whole_body

__all__ = ["Decoder", "Fold", "open_fold", "payload", "refusal", "request_id", "whole_body"]
