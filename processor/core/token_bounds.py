"""The most tokens that a request can be billed for, as a value."""

from __future__ import annotations

from processor.core.fast_dataclass import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class TokenBounds:
    """The most tokens that one request can be billed for."""

    prompt_tokens: int
    output_tokens: int | None
    """Of one choice; None: only the model's own limit bounds it."""
    choices: int = 1
    unknown: str | None = None
    """What of the request has no such bound; None where all of it has."""
