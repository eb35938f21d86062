"""Decides whether an endpoint is down. While it is, only probes are sent, and no failure counts against a job.

A circuit breaker without I/O and without a clock: times are passed in. Single failures are ordinary. An outage is a
streak of failures of more than one job, without an answer in between.
"""

from __future__ import annotations

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
from processor.core.fast_dataclass import dataclass

FAILURE_THRESHOLD = 10
"""Failures in a row that make an outage."""
CONNECT_FAILURE_THRESHOLD = 2
"""Failed connections in a row that make an outage: a job's content is never the cause, so that fewer suffice."""

MIN_STREAK_S = 3.0
"""How long to wait before a series of failures is called an outage: slow replies may still come."""

FIRST_PROBE_INTERVAL_S = 2.0
MAX_PROBE_INTERVAL_S = 120.0

_OUTAGE_ERRORS = (ConnectError, ConnectionLost, Throttled, Timeout, ServerError, StreamStalled, StreamTruncated)


def indicates_outage(error: RequestError) -> bool:
    """Whether an endpoint that is down may fail a request in this way."""
    return isinstance(error, _OUTAGE_ERRORS) and not isinstance(error, OptionRefused)


@dataclass(frozen=True, slots=True)
class OutageInterval:
    """An outage that is over, from its first failure to its last."""

    from_s: float
    to_s: float


class OutageDetector:
    """Follows how the requests to one endpoint end. ``down_since`` is None while the endpoint is up."""

    def __init__(self, *, max_outage_s: float) -> None:
        self.max_outage_s = max_outage_s
        self.down_since: float | None = None
        self.next_probe_at = 0.0
        """When the next single request may be sent while the endpoint is down."""
        self._probe_interval_s = FIRST_PROBE_INTERVAL_S
        self._streak = 0
        """Failures since the last answer. The next two are parts of it."""
        self._failed_after_first_token = 0
        self._connect_failures = 0
        self._streak_began_at = 0.0
        self._last_failure_at = 0.0
        self._failed_positions: set[int] = set()
        """The jobs of the streak, by position; two are enough."""
        self._detected_at = 0.0
        self._past: list[OutageInterval] = []

    @property
    def is_down(self) -> bool:
        return self.down_since is not None

    def on_answer(self, sent_at: float) -> bool:
        """A request sent at ``sent_at`` was answered, with a reply or a refusal. True if this ends an outage.

        A request that was sent before the outage was detected, and is still being answered, does not end it.
        """
        if not self._streak:
            return False
        was_down = self.is_down
        if was_down and sent_at < self._detected_at:
            return False
        if was_down:
            self._past.append(OutageInterval(self._streak_began_at, self._last_failure_at))
        self.down_since = None
        self._streak = self._failed_after_first_token = self._connect_failures = 0
        self._failed_positions.clear()
        return was_down

    def on_first_token(self, sent_at: float) -> bool:
        """A reply has begun. True if this ends an outage.

        It counts as an answer: otherwise long replies would look like silence. But if replies of the streak have
        broken off, it resets only failures without a first token.
        """
        if not self._failed_after_first_token:
            return self.on_answer(sent_at)
        if self.down_since is None:
            self._streak, self._connect_failures = self._failed_after_first_token, 0
        return False

    def on_failure(
        self,
        error: RequestError,
        position: int,
        at: float,
        *,
        had_first_token: bool = False,
        unresolved_since: float = inf,
    ) -> bool:
        """A request of the job at this position failed. True if this begins an outage.

        ``unresolved_since``: when the oldest request was sent that has neither failed nor begun to be answered.
        """
        if not indicates_outage(error):
            return False
        self._extend_streak(error, position, at, had_first_token=had_first_token)
        if self.down_since is not None or not self._is_outage(at, unresolved_since):
            return False
        self.down_since = self._streak_began_at
        self._detected_at = at
        self._probe_interval_s = FIRST_PROBE_INTERVAL_S
        self.next_probe_at = at + self._probe_interval_s
        return True

    def on_probe(self, at: float) -> None:
        """A probe is sent. The interval to the next one doubles."""
        self._probe_interval_s = min(self._probe_interval_s * 2, MAX_PROBE_INTERVAL_S)
        self.next_probe_at = at + self._probe_interval_s

    def explains_failure_at(self, at: float) -> bool:
        """Whether a failure at this time belongs to an outage, present or past."""
        if self.down_since is not None and at >= self.down_since:
            return True
        return any(outage.from_s <= at <= outage.to_s for outage in reversed(self._past))

    def is_too_long(self, now: float) -> bool:
        """Whether the present outage has lasted for ``max_outage_s``."""
        return self.down_since is not None and now - self.down_since >= self.max_outage_s

    def _extend_streak(self, error: RequestError, position: int, at: float, *, had_first_token: bool) -> None:
        if self._streak == 0:
            self._streak_began_at = at
        self._last_failure_at = at
        self._streak += 1
        self._failed_after_first_token += had_first_token
        self._connect_failures += isinstance(error, ConnectError)
        if len(self._failed_positions) < 2:
            self._failed_positions.add(position)

    def _is_outage(self, at: float, unresolved_since: float) -> bool:
        if self._connect_failures >= CONNECT_FAILURE_THRESHOLD:
            return True
        if self._streak < FAILURE_THRESHOLD or len(self._failed_positions) < 2:
            return False
        return unresolved_since > self._streak_began_at or at - self._streak_began_at >= MIN_STREAK_S
