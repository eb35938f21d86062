"""Feeds streams of events that name their type to their accumulators, cut at any place."""

from __future__ import annotations

from collections.abc import Iterable
from itertools import pairwise
from typing import Any

from hypothesis import strategies as st

from processor.protocols import SseDecoder, protocol_for
from tests.support.protocol_jobs import job_for


def assembled(path: str, pieces: Iterable[bytes], **request: Any) -> dict[str, Any]:
    """The body of a stream that comes in these pieces and ends cleanly behind them."""
    decoder, accumulator = SseDecoder(), protocol_for(path).accumulator(job_for(path, **request))
    for piece in pieces:
        accumulator.feed(decoder.feed(piece))
    accumulator.feed(decoder.finish())
    return accumulator.result()


def splits(stream: bytes) -> st.SearchStrategy[list[bytes]]:
    """All ways to cut a stream into pieces."""
    places = st.sets(st.integers(1, len(stream) - 1), max_size=40)
    return places.map(lambda cuts: [stream[a:b] for a, b in pairwise([0, *sorted(cuts), len(stream)])])
