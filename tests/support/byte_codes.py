"""Counts the byte codes that are executed in ``processor/``: a measure of work that no other program disturbs."""

from __future__ import annotations

import sys
from types import FrameType
from typing import Any, Self


class ByteCodeCounter:
    """Counts while it is entered. What runs in C, such as a search through a list, counts as one."""

    def __init__(self) -> None:
        self.count = 0

    def __enter__(self) -> Self:
        sys.settrace(self._on_call)
        return self

    def __exit__(self, *_: object) -> None:
        sys.settrace(None)

    def _on_call(self, frame: FrameType, event: str, argument: Any) -> Any:
        if "/processor/" not in frame.f_code.co_filename:
            return None
        frame.f_trace_opcodes, frame.f_trace_lines = True, False
        return self._on_byte_code

    def _on_byte_code(self, frame: FrameType, event: str, argument: Any) -> Any:
        self.count += event == "opcode"
        return self._on_byte_code
