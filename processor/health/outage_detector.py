"""Is the provider down? Then nothing is sent but a probe now and then, and no job is blamed.

Pure: times are passed in. Failures that any server has now and then are told from an outage by their run: so many
in a row, of more than one job, with no answer in between.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import inf

from processor.core.errors import (
    ConnectError,
    ConnectionLost,
    OptionRefused,
    RequestError,
    ServerError,
    StreamStalled,
    StreamTruncated,
    Throttled,
    Timeout,
)

FAILURE_THRESHOLD = 10
CONNECT_FAILURE_THRESHOLD = 2
"""No connection at all is never a job's fault, and needs fewer of them to be believed."""

MIN_STREAK_S = 3.0
"""Failures come quicker than replies: for so long, requests from before the first failure may still prove it wrong."""

FIRST_PROBE_INTERVAL_S = 2.0
MAX_PROBE_INTERVAL_S = 120.0

_SIGNS = (ConnectError, ConnectionLost, Throttled, Timeout, ServerError, StreamStalled, StreamTruncated)


def indicates_outage(error: RequestError) -> bool:
    """Whether a provider that is down would fail a request like this."""
    return isinstance(error, _SIGNS) and not isinstance(error, OptionRefused)


@dataclass(frozen=True, slots=True)
class OutageInterval:
    """From the first failure of an outage to its last."""

    from_s: float
    to_s: float


class OutageDetector:
    """Hears how every attempt ended. ``down_since`` is None while the provider is up."""

    def __init__(self, *, max_outage_s: float) -> None:
        self.max_outage_s = max_outage_s
        self.down_since: float | None = None
        self._streak = 0
        self._broken_off = 0
        """Those of the streak that had begun to reply."""
        self._connects = 0
        self._streak_from = 0.0
        self._streak_last = 0.0
        self._jobs: set[int] = set()
        self._spans: list[OutageInterval] = []
        self._noticed_at = 0.0
        self._probe_after_s = FIRST_PROBE_INTERVAL_S
        self._next_probe = 0.0

    def answered(self, asked_at: float) -> bool:
        """The provider answered sensibly what it was asked at this time. True where this ends an outage; what was
        asked before it was one, and is still streaming, does not."""
        was_down = self.down_since is not None
        if was_down and asked_at < self._noticed_at:
            return False
        if was_down:
            self._spans.append(OutageInterval(self._streak_from, self._streak_last))
        self.down_since = None
        self._streak = self._broken_off = self._connects = 0
        self._jobs.clear()
        self._probe_after_s = FIRST_PROBE_INTERVAL_S
        return was_down

    def began(self, asked_at: float) -> bool:
        """The provider began a reply. As good as an answer, unless it has been breaking replies off: then only the
        failures before a reply are disproved. Long replies would look like silence else."""
        if not self._broken_off:
            return self.answered(asked_at)
        if self.down_since is None:
            self._streak, self._connects = self._broken_off, 0
        return False

    def failed(
        self, error: RequestError, job: int, at: float, *, begun: bool = False, undecided_since: float = inf
    ) -> bool:
        """An attempt of this job (by its line) failed. True where this makes it an outage.

        ``begun``: after the reply had begun. ``undecided_since``: when the oldest request was made that has neither
        begun to be answered nor failed.
        """
        if not indicates_outage(error):
            return False
        if self._streak == 0:
            self._streak_from = at
        self._streak_last = at
        self._streak += 1
        self._broken_off += begun
        self._connects += isinstance(error, ConnectError)
        if len(self._jobs) < 2:
            self._jobs.add(job)
        if self.down_since is not None or not self._is_outage(at, undecided_since):
            return False
        self.down_since = self._streak_from
        self._noticed_at = at
        self._next_probe = at + self._probe_after_s
        return True

    def excuses(self, at: float) -> bool:
        """Whether a failure at this time is explained by an outage, present or past."""
        if self.down_since is not None and at >= self.down_since:
            return True
        return any(span.from_s <= at <= span.to_s for span in reversed(self._spans))

    def probe_at(self) -> float:
        """When the next single request may go while the provider is down."""
        return self._next_probe

    def probing(self, at: float) -> None:
        """A probe goes now; the next one later than this one was."""
        self._probe_after_s = min(self._probe_after_s * 2, MAX_PROBE_INTERVAL_S)
        self._next_probe = at + self._probe_after_s

    def too_long(self, now: float) -> bool:
        return self.down_since is not None and now - self.down_since >= self.max_outage_s

    def _is_outage(self, at: float, undecided_since: float) -> bool:
        if self._connects >= CONNECT_FAILURE_THRESHOLD:
            return True
        if self._streak < FAILURE_THRESHOLD or len(self._jobs) < 2:
            return False
        return undecided_since > self._streak_from or at - self._streak_from >= MIN_STREAK_S
