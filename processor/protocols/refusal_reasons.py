"""Recognizes refusals of a job that depend on the model or its provider: another endpoint may answer the job."""

from __future__ import annotations

from processor.core.errors import BadRequest, RequestError
from processor.core.lazy_pattern import LazyPattern

CONTENT_FILTER = "content_filter"
CONTEXT_LENGTH = "context_length"

_CODES = {
    # OpenAI, Azure
    "content_filter": CONTENT_FILTER,
    "content_policy_violation": CONTENT_FILTER,
    "context_length_exceeded": CONTEXT_LENGTH,
    "string_above_max_length": CONTEXT_LENGTH,
    # Alibaba, llama.cpp
    "data_inspection_failed": CONTENT_FILTER,
    "exceed_context_size_error": CONTEXT_LENGTH,
}
_MESSAGES = (
    (LazyPattern(r"(?i)maximum context length|context window|prompt is too long|too many tokens"), CONTEXT_LENGTH),
    (LazyPattern(r"(?i)content (management )?(policy|filter)|flagged as|safety (system|filter)"), CONTENT_FILTER),
)
"""Of servers that give no code of their own: vLLM, Anthropic, Mistral, LiteLLM."""


def refusal_reason(error: RequestError) -> str | None:
    """Return why the server refused the job: ``content_filter``, ``context_length``, or None for all other errors."""
    if not isinstance(error, BadRequest):
        return None
    if (reason := _CODES.get(error.error_code or "")) is not None:
        return reason
    return next((reason for pattern, reason in _MESSAGES if pattern.search(str(error))), None)
