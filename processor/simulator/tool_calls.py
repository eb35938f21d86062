"""Chooses the tools or functions that a reply calls, and their arguments. Pure."""

from __future__ import annotations

from random import Random
from typing import Any

import orjson

from processor.core.fast_dataclass import dataclass
from processor.core.json_reading import fields_of
from processor.core.models import JSON
from processor.simulator.corpus import chunk_text
from processor.simulator.schema_examples import make_example

_CHOICES = {"auto": "auto", "any": "required", "none": "none"}
"""Anthropic's choices and the same in OpenAI's words."""
_CALL_RATE = 0.5
"""Share of the choices that call a tool if the request leaves it open."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ToolCall:
    """A call of a tool, or of a function of the older API (which has no id)."""

    id: str | None
    name: str
    arguments: tuple[str, ...]
    """JSON, cut into the pieces in which it streams."""


def choose_tool_calls(body: JSON, rng: Random) -> tuple[ToolCall, ...]:
    """One call, sometimes two, or none."""
    functions = [_function_of(tool) for tool in _objects(body.get("tools"))]
    offered = _selectable(functions, body.get("tool_choice", "auto"), rng)
    if not offered:
        return ()
    return tuple(_make_call(offered, f"call_{rng.getrandbits(96):024x}", rng) for _ in range(rng.choice((1, 1, 1, 2))))


def choose_function_call(body: JSON, rng: Random) -> ToolCall | None:
    """A call in the older API with `functions` and `function_call`, or None."""
    offered = _selectable(_objects(body.get("functions")), body.get("function_call", "auto"), rng)
    return _make_call(offered, None, rng) if offered else None


def _function_of(tool: JSON) -> JSON:
    """The function of a tool: under `function` in chat completions, else the tool itself."""
    if "function" in tool or "name" not in tool:
        return fields_of(tool.get("function"))
    return {"name": tool["name"], "parameters": tool.get("parameters") or tool.get("input_schema") or {}}


def _objects(value: Any) -> list[JSON]:
    return [item for item in value if isinstance(item, dict)] if isinstance(value, list) else []


def _selectable(offered: list[JSON], choice: Any, rng: Random) -> list[JSON]:
    """The functions that `choice` allows: all, none, or the one it names.

    It names one as `{"name"}` or as `{"type": "function", "function": {"name"}}`.
    """
    if isinstance(choice, dict) and choice.get("type") in _CHOICES:
        choice = _CHOICES[choice["type"]]
    if isinstance(choice, dict):
        name = choice.get("name") or fields_of(choice.get("function")).get("name")
        return [function for function in offered if function.get("name") == name]
    if not offered or choice == "none" or (choice == "auto" and rng.random() >= _CALL_RATE):
        return []
    return offered


def _make_call(offered: list[JSON], call_id: str | None, rng: Random) -> ToolCall:
    function = rng.choice(offered)
    arguments = orjson.dumps(make_example(function.get("parameters", {"type": "object"}), rng)).decode()
    return ToolCall(id=call_id, name=str(function.get("name")), arguments=tuple(chunk_text(arguments, rng)))
