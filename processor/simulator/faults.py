"""Misbehaviour by rate and seed. Pure: what goes wrong with a request's k-th try is drawn from (seed, request, k).

So it replays whatever the concurrency, and another seed is another night.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from random import Random

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
"""The attempt fails.

``error_500``        a 500, 502 (a proxy's HTML) or 503
``burst_429``        this and every other request is refused for a moment, with the wait in the headers
``reset_before``     the connection dies before the response begins
``reset_mid``        it dies in the middle of the reply
``stall_mid``        silence in the middle of the reply, for ever
``cut``              the response ends cleanly, but without its end
``in_band_error``    an error object inside a 200 stream
``malformed_chunk``  a chunk that is no JSON
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
"""Odd, but no failure: the reply is whole.

``crlf``                 lines end in CRLF
``comments``             keep-alive comments and blank lines between the events
``split_utf8``           writes end anywhere, best inside a character
``usage_on_last_chunk``  unasked usage beside the last finish reason, instead of a chunk of its own
``no_usage``             none, though asked for
``no_role``              no delta names the role
``content_null``         the first delta's content is null
``no_done``              the stream ends after its last chunk, without [DONE]
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class DrawnFaults:
    """What goes wrong with one try; `rng` decides where and how."""

    failure: str | None
    manners: frozenset[str]
    rng: Random


NO_FAULTS = DrawnFaults(failure=None, manners=frozenset(), rng=Random(0))


@dataclass(frozen=True, slots=True)
class Faults:
    """Rates by name, 0 to 1. Of the failures at most one happens to a try, so that their rates' sum is at most 1;
    manners happen independently. Raises ValueError for names and rates that make no sense."""

    rates: Mapping[str, float] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for name, rate in self.rates.items():
            if name not in FAILURES + QUIRKS:
                raise ValueError(f"no fault is called {name!r}; there are {', '.join(FAILURES + QUIRKS)}, all")
            if not 0 <= rate <= 1:
                raise ValueError(f"the rate of {name} must be between 0 and 1, not {rate:g}")
        if sum(self.rates.get(name, 0.0) for name in FAILURES) > 1 + 1e-9:
            raise ValueError("the rates of faults that fail a request add up to more than 1")

    @classmethod
    def parse(cls, text: str) -> Faults:
        """From `name=rate,name=rate`. `all=0.05` sets every fault and manner; what is named beside it stands."""
        given: dict[str, float] = {}
        for item in filter(None, (item.strip() for item in text.split(","))):
            name, _, rate = item.partition("=")
            try:
                given[name.strip()] = float(rate)
            except ValueError:
                raise ValueError(f"a fault is written name=rate, e.g. cut=0.05, not {item!r}") from None
        default = given.pop("all", None)
        return cls(given if default is None else {**dict.fromkeys(FAILURES + QUIRKS, default), **given})

    def draw(self, seed: int, identity: bytes, tries: int) -> DrawnFaults:
        """For a request that was tried this many times before."""
        if not self.rates:
            return NO_FAULTS
        rng = Random(b"%d:%b:%d" % (seed, identity, tries))
        position = rng.random()
        failure = None
        for name in FAILURES:
            position -= self.rates.get(name, 0.0)
            if position < 0:
                failure = name
                break
        manners = frozenset(name for name in QUIRKS if rng.random() < self.rates.get(name, 0.0))
        return DrawnFaults(failure=failure, manners=manners, rng=rng)
