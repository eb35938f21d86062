"""What a provider is known to refuse of the requests of an API, beside what no server accepts."""

from __future__ import annotations

from processor.core.fast_dataclass import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class RequestLimits:
    """The limits of one provider. The defaults hold where nothing is known of it."""

    max_inputs: int | None = None
    """Of one embeddings request."""
    accepts_empty_text: bool = True
    """An empty text may stand among the inputs of an embeddings request."""


UNKNOWN_LIMITS = RequestLimits()
