"""Faults of the provider, by rate and seed. Pure.

The faults of the k-th attempt of a request are drawn from (seed, request, k), so that they replay at any concurrency.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import field
from random import Random

from processor.core.fast_dataclass import dataclass

FAILURES = (
    "error_500",
    "burst_429",
    "reset_before",
    "reset_mid",
    "stall_mid",
    "cut",
    "in_band_error",
    "malformed_chunk",
)
"""Faults that fail the attempt.

``error_500``        a 500, 502 (a proxy's HTML) or 503
``burst_429``        this and all other requests are throttled for half a second, with the wait in the headers
``reset_before``     the connection dies before the response begins
``reset_mid``        the connection dies in the middle of the reply
``stall_mid``        the reply stops in the middle, and the connection stays open
``cut``              the response ends cleanly before the reply is complete
``in_band_error``    an error object inside a 200 stream
``malformed_chunk``  a chunk that is not JSON
"""

QUIRKS = (
    "crlf",
    "comments",
    "split_utf8",
    "usage_on_last_chunk",
    "no_usage",
    "no_role",
    "content_null",
    "no_done",
)
"""Unusual ways to send a complete reply.

``crlf``                 lines end in CRLF
``comments``             keep-alive comments and blank lines between the events
``split_utf8``           writes end at any byte, often inside a UTF-8 character
``usage_on_last_chunk``  usage, even if not requested, on the last chunk with choices instead of a chunk of its own
``no_usage``             no usage, even if requested
``no_role``              no delta names the role
``content_null``         the first delta's content is null
``no_done``              the stream ends after its last chunk, without [DONE]
"""


WRONG_CONTENT = ("invalid_json",)
"""Complete replies whose content is wrong. ``all`` does not name them.

``invalid_json``  where the request asks for JSON: JSON that breaks off, JSON with words around it, or an object without
                  a property that the schema requires
"""

_KNOWN = FAILURES + QUIRKS + WRONG_CONTENT


@dataclass(frozen=True, slots=True, kw_only=True)
class DrawnFaults:
    """The faults of one attempt; `rng` determines where and how they occur."""

    failure: str | None
    quirks: frozenset[str]
    rng: Random


NO_FAULTS = DrawnFaults(failure=None, quirks=frozenset(), rng=Random(0))


@dataclass(frozen=True, slots=True)
class Faults:
    """Rates of faults by name, 0 to 1.

    An attempt has at most one failure, so the rates of failures add up to at most 1. Quirks occur independently.
    Raises ValueError for unknown names and rates out of range.
    """

    rates: Mapping[str, float] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for name, rate in self.rates.items():
            if name not in _KNOWN:
                raise ValueError(f"unknown fault {name!r}; known are {', '.join(_KNOWN)}, all")
            if not 0 <= rate <= 1:
                raise ValueError(f"the rate of {name} must be between 0 and 1, not {rate:g}")
        if sum(self.rates.get(name, 0.0) for name in FAILURES) > 1 + 1e-9:
            raise ValueError("the rates of faults that fail a request add up to more than 1")

    @classmethod
    def parse(cls, text: str) -> Faults:
        """Parse `name=rate,name=rate`. `all=0.05` sets every failure and quirk that is not named itself."""
        rates: dict[str, float] = {}
        for item in filter(None, (item.strip() for item in text.split(","))):
            name, _, rate = item.partition("=")
            try:
                rates[name.strip()] = float(rate)
            except ValueError:
                raise ValueError(f"a fault is written name=rate, e.g. cut=0.05, not {item!r}") from None
        default = rates.pop("all", None)
        return cls(rates if default is None else {**dict.fromkeys(FAILURES + QUIRKS, default), **rates})

    def draw(self, seed: int, identity: bytes, previous_attempts: int) -> DrawnFaults:
        """Draw the faults of an attempt, given the number of attempts before it."""
        if not self.rates:
            return NO_FAULTS
        rng = Random(b"%d:%b:%d" % (seed, identity, previous_attempts))
        position = rng.random()
        failure = None
        for name in FAILURES:
            position -= self.rates.get(name, 0.0)
            if position < 0:
                failure = name
                break
        quirks = frozenset(name for name in QUIRKS if rng.random() < self.rates.get(name, 0.0))
        return DrawnFaults(failure=failure, quirks=quirks, rng=rng)
