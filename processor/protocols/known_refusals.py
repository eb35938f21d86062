"""Applies what is known of a provider's refusals to the options of its requests, before the first one is sent."""

from __future__ import annotations

from collections.abc import Set
from dataclasses import replace

from processor.protocols.base import RequestOptions
from processor.protocols.option_refusals import OUTPUT_LIMIT_FIELDS


def options_without(options: RequestOptions, refused: Set[str]) -> RequestOptions:
    """The options for a server that is known to refuse these fields: `stream`, `stream_options`, or one of the names of
    the limit of output tokens."""
    accepted = [name for name in OUTPUT_LIMIT_FIELDS if name not in refused]
    return replace(
        options,
        stream_refused=options.stream_refused or "stream" in refused,
        include_usage=options.include_usage and "stream_options" not in refused,
        output_limit_field=accepted[0] if len(accepted) == 1 else options.output_limit_field,
    )
