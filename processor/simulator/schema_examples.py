"""Makes values that match a JSON schema, for tool arguments and JSON replies. Pure."""

from __future__ import annotations

from collections.abc import Callable
from random import Random
from typing import Any

import orjson

from processor.core.json_reading import fields_of
from processor.core.models import JSON

_WORDS = ("Oslo", "tomorrow", "blue", "naïve", 'three "quoted" words', "line\nbreak", "寿司", "🙂", "")
_MAX_DEPTH = 6


def make_example(schema: Any, rng: Random, depth: int = 0) -> Any:
    """Supports const, enum, anyOf, oneOf, type (one or several), properties, required, items, minimum and maximum."""
    if not isinstance(schema, dict):
        return rng.choice(_WORDS)
    if "const" in schema:
        return schema["const"]
    for options in (schema.get("enum"), schema.get("anyOf"), schema.get("oneOf")):
        if isinstance(options, list) and options:
            chosen = rng.choice(options)
            return chosen if options is schema.get("enum") else make_example(chosen, rng, depth + 1)
    kind = schema.get("type", "object" if "properties" in schema else "string")
    if isinstance(kind, list) and kind:
        kind = rng.choice(kind)
    return _MAKERS.get(str(kind), _text)(schema, rng, depth)


def make_invalid(value: Any, schema: Any, rng: Random) -> str:
    """Return a text that is not the value: broken off, among other words, or without a property that is required."""
    text = orjson.dumps(value).decode()
    required = fields_of(schema).get("required")
    if isinstance(value, dict) and isinstance(required, list) and required and rng.random() < 1 / 3:
        name = rng.choice(required)
        return orjson.dumps({key: item for key, item in value.items() if key != name}).decode()
    return text[: len(text) // 2] if rng.random() < 0.5 else f"Here it is: {text}"


def _text(schema: JSON, rng: Random, depth: int) -> str:
    return rng.choice(_WORDS)


def _integer(schema: JSON, rng: Random, depth: int) -> int:
    low, high = schema.get("minimum", 0), schema.get("maximum")
    low = int(low) if isinstance(low, int | float) else 0
    return rng.randint(low, max(low, int(high)) if isinstance(high, int | float) else low + 100)


def _number(schema: JSON, rng: Random, depth: int) -> float:
    return _integer(schema, rng, depth) + rng.choice((0.0, 0.25, 0.5))


def _array(schema: JSON, rng: Random, depth: int) -> list[Any]:
    length = rng.randint(1, 3) if depth < _MAX_DEPTH else 0
    return [make_example(schema.get("items"), rng, depth + 1) for _ in range(length)]


def _object(schema: JSON, rng: Random, depth: int) -> JSON:
    """All required properties, and each other one with a chance of one half."""
    properties, required = fields_of(schema.get("properties")), schema.get("required")
    required = required if isinstance(required, list) else []
    names = [name for name in properties if name in required or (depth < _MAX_DEPTH and rng.random() < 0.5)]
    return {name: make_example(properties[name], rng, depth + 1) for name in names}


_MAKERS: dict[str, Callable[[JSON, Random, int], Any]] = {
    "string": _text,
    "integer": _integer,
    "number": _number,
    "boolean": lambda schema, rng, depth: rng.random() < 0.5,
    "null": lambda schema, rng, depth: None,
    "array": _array,
    "object": _object,
}
