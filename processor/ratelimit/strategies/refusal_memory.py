"""Tells a limit from random overload, by one statistical criterion. Pure.

Random refusals have no memory: behind a refused request as many are refused as elsewhere. Behind the first request that
a limit refuses, far more are, because the limit stays exhausted for a while.

So the requests are counted in two samples: up to the first refusal of an episode, and behind it. With a share p refused
in the first sample, and q of m requests in the second, the logarithm of the likelihood ratio is

    G = m (q ln(q / p) + (1 - q) ln((1 - q) / (1 - p)))

and if the refusals are random, a share of q or more has a probability of at most e^-G (Chernoff's bound).
"""

from __future__ import annotations

from math import log

from processor.ratelimit.estimator.decaying_value import MEAN_OVER_REQUESTS

MIN_EVIDENCE = 5.0
"""G from which refusals are due to a limit: chance alone reaches it less than once in a hundred times."""

MAX_RANDOM_SHARE = 0.22
"""More than this share is never refused at random: the criterion compares with at most this."""


class RefusalMemory:
    """Counts the requests of episodes; older ones count less."""

    def __init__(self) -> None:
        self._first_refused = self._up_to_first = 0.0
        self._refused_behind = self._behind = 0.0

    def add(self, *, up_to_first: int, behind: int, refused_behind: int) -> None:
        """Add an episode: the requests up to its first refusal (0: it began with one), those behind, and how many of
        these were refused."""
        weight = 1 - 1 / MEAN_OVER_REQUESTS
        self._first_refused = weight * self._first_refused + (up_to_first > 0)
        self._up_to_first = weight * self._up_to_first + up_to_first
        self._behind = weight * self._behind + behind
        self._refused_behind = weight * self._refused_behind + refused_behind

    @property
    def shows_limit(self) -> bool:
        return self.evidence >= MIN_EVIDENCE

    @property
    def refused_share(self) -> float:
        """Of all requests."""
        return (self._first_refused + self._refused_behind) / max(1.0, self._up_to_first + self._behind)

    @property
    def evidence(self) -> float:
        """G, or 0 where no more are refused behind a refusal than elsewhere, and no more than chance would in all."""
        # One request more, refused: few requests say little.
        elsewhere = min(MAX_RANDOM_SHARE, (self._first_refused + 1) / (self._up_to_first + 1))
        return max(
            _evidence(self._refused_behind, self._behind, elsewhere),
            _evidence(self._first_refused + self._refused_behind, self._up_to_first + self._behind, MAX_RANDOM_SHARE),
        )


def _evidence(refused: float, requests: float, expected: float) -> float:
    """G for so many refused requests, where this share is expected."""
    if refused <= expected * requests:
        return 0.0
    share = refused / requests
    accepted = (1 - share) * log((1 - share) / (1 - expected)) if share < 1 else 0.0
    return requests * (share * log(share / expected) + accepted)
