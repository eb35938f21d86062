"""What a finish reason says of a reply: whole, failed, or neither. Case is ignored.

A reason in neither list is kept, and its row says ``"complete": "unconfirmed"``.
"""

from __future__ import annotations

from processor.core.errors import ServerError

SUCCESSFUL = frozenset(
    {
        "stop",
        "length",
        "tool_calls",
        "function_call",
        "content_filter",
        "complete",
        "end_turn",
        "eos",
        "eos_token",
        "max_length",
        "max_output_tokens",
        "max_tokens",
        "model_length",
        "recitation",
        "refusal",
        "safety",
        "sensitive",
        "stop_sequence",
        "stop_sequence_reached",
        "stop_str",
        "tool_call",
        "tool_use",
    }
)
"""OpenAI's own, and those that Anthropic, Cohere, Gemini, Mistral, TGI and Zhipu send under the same field."""
FAILED = frozenset(
    {
        "abort",
        "aborted",
        "cancel",
        "canceled",
        "cancelled",
        "engine_error",
        "error",
        "error_limit",
        "error_toxic",
        "failed",
        "failure",
        "insufficient_system_resource",
        "internal_error",
        "interrupted",
        "malformed_function_call",
        "network_error",
        "overloaded",
        "server_error",
        "timeout",
        "unexpected_tool_call",
        "user_cancel",
    }
)
"""vLLM and SGLang: abort. DeepSeek: insufficient_system_resource. OpenRouter and Mistral: error. Zhipu: network_error.
Cohere: error_toxic, error_limit, user_cancel. Gemini: malformed_function_call."""
_NOT_GIVEN = frozenset({"", "null", "none", "nil", "undefined"})


REFUSED = frozenset({"content_filter", "recitation", "refusal", "safety", "sensitive"})
"""A part of the successful ones: the model, or a filter, would not write the reply."""


def given_reason(value: object) -> str | None:
    """The finish reason in a reply; None where the field holds no meaningful string."""
    if value == "stop":  # most of them
        return "stop"
    return value if isinstance(value, str) and value.strip().lower() not in _NOT_GIVEN else None


def is_failure(reason: str) -> bool:
    return reason.strip().lower() in FAILED


def is_success(reason: str | None) -> bool:
    return reason == "stop" or (reason is not None and reason.strip().lower() in SUCCESSFUL)


def is_refusal(reason: str) -> bool:
    return reason.strip().lower() in REFUSED


def failed_reply(reason: str) -> ServerError:
    """The error for a reply that the server ended with a reason that means failure."""
    return ServerError(f"the server ended the reply with the finish reason {reason!r:.40}", status=500)
