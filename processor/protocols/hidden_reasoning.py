"""Decides whether a model reasoned before its reply without sending what it thought, so that it cannot be counted."""

from __future__ import annotations

from typing import Any

from processor.core.models import JSON
from processor.protocols.reported_usage import reported_reasoning_tokens

_HIDING = ("o1", "o3", "o4", "gpt-5", "gemini-2.5", "gemini-3", "grok-4")
"""Models that reason unless they are told not to, and send a summary at most. By the beginning of the name."""
_NOT_REASONING = ("gpt-5-chat", "gpt-5.1-chat", "gpt-5.2-chat", "gemini-2.5-flash-lite", "grok-4-fast-non-reasoning")


def has_hidden_reasoning(reply: JSON, request: JSON, base_model: str) -> bool:
    """Whether tokens of the reply are missing from what was sent of it."""
    hides = base_model.startswith(_HIDING) and not base_model.startswith(_NOT_REASONING)
    reported = reported_reasoning_tokens(reply)
    if not hides:
        return bool(reported) and not _shows_reasoning(reply)
    return reported > 0 if reported is not None else not _is_switched_off(request)


def _is_switched_off(request: JSON) -> bool:
    reasoning = request.get("reasoning")
    effort = reasoning.get("effort") if isinstance(reasoning, dict) else request.get("reasoning_effort")
    return effort == "none"


def _shows_reasoning(reply: JSON) -> bool:
    choices = reply.get("choices")
    return any(map(_shows, choices)) if isinstance(choices, list) else False


def _shows(choice: Any) -> bool:
    message = choice.get("message") if isinstance(choice, dict) else None
    if not isinstance(message, dict):
        return False
    content = message.get("content")
    parts = content if isinstance(content, list) else ()
    return bool(
        message.get("reasoning_content")
        or message.get("reasoning")
        or any(isinstance(part, dict) and part.get("thinking") for part in parts)
    )
