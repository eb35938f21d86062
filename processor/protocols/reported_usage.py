"""Reads the token usage that a server reports in a reply."""

from __future__ import annotations

from processor.core.fast_dataclass import constructor_of
from processor.core.models import JSON, Usage

MAX_TOKENS = 1_000_000_000
"""Larger numbers are not believed."""
_new_usage = constructor_of(Usage)
_DETAILS = ("completion_tokens_details", "output_tokens_details")


def usage_in(body: JSON) -> Usage | None:
    """Return the usage in the body of a reply, under either pair of names; None where it makes no sense."""
    usage = body.get("usage")
    if not isinstance(usage, dict):
        return None
    prompt = usage.get("prompt_tokens", usage.get("input_tokens"))
    completion = usage.get("completion_tokens", usage.get("output_tokens", 0))
    if type(prompt) is not int or type(completion) is not int:
        return None
    if not (0 <= prompt <= MAX_TOKENS and 0 <= completion <= MAX_TOKENS and prompt + completion > 0):
        return None  # no request has no tokens at all
    return _new_usage(prompt_tokens=prompt, completion_tokens=completion)


def reported_reasoning_tokens(body: JSON) -> int | None:
    """Return how many tokens of a reply were reasoning, by the server's word; None where it does not say."""
    usage = body.get("usage")
    if not isinstance(usage, dict):
        return None
    for name in _DETAILS:
        details = usage.get(name)
        if isinstance(details, dict) and type(tokens := details.get("reasoning_tokens")) is int:
            return tokens
    tokens = usage.get("reasoning_tokens")
    return tokens if type(tokens) is int else None


def lift_groq_usage(body: JSON) -> None:
    """Put the usage that Groq sends within `x_groq`, in the last chunk of a stream, to its place in the body."""
    groq = body.get("x_groq")
    if isinstance(groq, dict) and isinstance(groq.get("usage"), dict) and not isinstance(body.get("usage"), dict):
        body["usage"] = groq["usage"]
