"""Which of the offered tools or functions the simulated model calls, and with what. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from random import Random
from typing import Any

import orjson

from processor.core.models import JSON
from processor.simulator.corpus import chunk_text
from processor.simulator.schema_examples import an_object, example

_CALLS = 0.5
"""The share of the answers that call something, where the request leaves it open."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ToolCall:
    """Of a tool, or of a function (without an id)."""

    id: str | None
    name: str
    arguments: tuple[str, ...]
    """JSON, in the pieces in which it streams."""


def called_tools(body: JSON, rng: Random) -> tuple[ToolCall, ...]:
    """One call, or sometimes two at once."""
    functions = [an_object(tool.get("function")) for tool in _objects(body.get("tools"))]
    offered = _wanted(functions, body.get("tool_choice", "auto"), rng)
    if not offered:
        return ()
    return tuple(_call(offered, f"call_{rng.getrandbits(96):024x}", rng) for _ in range(rng.choice((1, 1, 1, 2))))


def called_function(body: JSON, rng: Random) -> ToolCall | None:
    """The older way: `functions` and `function_call`."""
    offered = _wanted(_objects(body.get("functions")), body.get("function_call", "auto"), rng)
    return _call(offered, None, rng) if offered else None


def _objects(value: Any) -> list[JSON]:
    return [item for item in value if isinstance(item, dict)] if isinstance(value, list) else []


def _wanted(offered: list[JSON], wanted: Any, rng: Random) -> list[JSON]:
    """All, none, or the one that is named: `{"name"}`, or `{"type": "function", "function": {"name"}}`."""
    if isinstance(wanted, dict):
        name = wanted.get("name") or an_object(wanted.get("function")).get("name")
        return [function for function in offered if function.get("name") == name]
    if not offered or wanted == "none" or (wanted == "auto" and rng.random() >= _CALLS):
        return []
    return offered


def _call(offered: list[JSON], call_id: str | None, rng: Random) -> ToolCall:
    function = rng.choice(offered)
    arguments = orjson.dumps(example(function.get("parameters", {"type": "object"}), rng)).decode()
    return ToolCall(id=call_id, name=str(function.get("name")), arguments=tuple(chunk_text(arguments, rng)))
