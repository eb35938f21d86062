"""Output that is to be JSON of a given shape: where requests of the APIs ask for it, and the words that ask again."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from processor.core import json_bytes
from processor.core.json_reading import fields_of

_FORCES_ANY = frozenset({"required", "any"})
"""OpenAI's and Anthropic's word for: call some tool."""
_IS_NOT_VALID = "Your last reply is not valid:"
_REPLY_AGAIN = "Reply again with the complete, corrected JSON, and nothing before or after it."


def schema_of_format(value: Any) -> Any:
    """Return the schema in chat's ``response_format``, Responses' ``text.format`` or Anthropic's
    ``output_config.format``; None where there is none.

    llama.cpp and others also take one beside ``json_object``, which else asks for an object of any shape.
    """
    asked = fields_of(value)
    kind = asked.get("type")
    if kind == "json_schema":
        return fields_of(asked.get("json_schema")).get("schema", asked.get("schema"))
    return asked.get("schema", {"type": "object"}) if kind == "json_object" else None


def forced_tool(choice: Any, tools: Sequence[tuple[Any, Any]]) -> tuple[Any, Any] | None:
    """Return the one tool that a request makes the model call; None where it may choose.

    ``choice``: the request's ``tool_choice``. ``tools``: the name and the schema of each.
    """
    fields = fields_of(choice)
    if choice in _FORCES_ANY if isinstance(choice, str) else fields.get("type") in _FORCES_ANY:
        return tools[0] if len(tools) == 1 else None
    name = fields.get("name") or fields_of(fields.get("function")).get("name")
    return next((tool for tool in tools if tool[0] == name), None) if name else None


def written_arguments(arguments: Any) -> str:
    """Return the arguments of a call as text. Some servers send them as an object."""
    if isinstance(arguments, str):
        return arguments
    return "" if arguments is None else json_bytes.dumps(arguments).decode()


def correction(problems: Iterable[object]) -> str:
    """Return the message that follows a reply that is not valid."""
    return "\n".join((_IS_NOT_VALID, *(f"- {problem}" for problem in problems), _REPLY_AGAIN))


def repeated_messages(messages: list[Any], output: str, question: str) -> list[Any]:
    """Return the messages with the last reply, unless it is empty, and the question that follows it."""
    last = [{"role": "assistant", "content": output}] if output.strip() else []
    return [*messages, *last, {"role": "user", "content": question}]
