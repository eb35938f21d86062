"""Runs the command line and counts its byte codes: ``python traced.py COUNTS.json ARGUMENT...``.

Writes, for each function that was called, how many byte codes it executed, and how often it was called or resumed.
Threads are not counted.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from types import CodeType, FrameType
from typing import Any

import orjson


class ByteCodeCounter:
    """A trace function for ``sys.settrace``."""

    def __init__(self) -> None:
        self._byte_codes: dict[CodeType, int] = {}
        self._calls: dict[CodeType, int] = {}

    def __call__(self, frame: FrameType, event: str, argument: object) -> Callable[..., Any]:
        """A function is called, or a coroutine goes on."""
        code = frame.f_code
        self._byte_codes.setdefault(code, 0)
        self._calls[code] = self._calls.get(code, 0) + 1
        frame.f_trace_opcodes, frame.f_trace_lines = True, False
        return self._on_event

    def _on_event(self, frame: FrameType, event: str, argument: object) -> Callable[..., Any]:
        if event == "opcode":
            self._byte_codes[frame.f_code] += 1
        return self._on_event

    def counts(self) -> dict[str, list[int]]:
        """Byte codes and calls, by file and qualified name of the function."""
        counts: dict[str, list[int]] = {}
        for code, byte_codes in self._byte_codes.items():
            count = counts.setdefault(f"{code.co_filename}:{code.co_qualname}", [0, 0])
            count[0] += byte_codes
            count[1] += self._calls[code]
        return counts


def command_line() -> Callable[[], None]:
    """The command line of the checkout on the path; older ones have it in the package itself."""
    try:
        module = import_module("processor.cli.main")
    except ImportError:
        module = import_module("processor.cli")
    main: Callable[[], None] = module.main
    return main


def run(out: Path) -> None:
    main, counter = command_line(), ByteCodeCounter()
    sys.settrace(counter)
    try:
        main()
    finally:
        sys.settrace(None)
        out.write_bytes(orjson.dumps(counter.counts()))


if __name__ == "__main__":
    counts_file = Path(sys.argv.pop(1))
    run(counts_file)
