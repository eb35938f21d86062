"""The picture of how a server counts one resource: what was sent and what it said, in; when a cost fits, out.

Pure: no clock, no waiting; times are passed in, in seconds.

A header's *remaining* is compared with what the own history predicts for a server that counts by a window,
and for one that refills a bucket. What it shows less than predicted, others have used; both kinds of server
are followed with that much taken off. Until the kind is known, both must agree before a request goes.
"""

from __future__ import annotations

from math import inf

from processor.ratelimit.estimator.decaying_value import DecayingValue
from processor.ratelimit.estimator.external_usage import FORESEEN_S, ExternalUsage, Interval
from processor.ratelimit.estimator.send_history import (
    LATE_ARRIVAL_S,
    LATENCY_JITTER_S,
    ORDER_CERTAIN_S,
    WINDOW_S,
    SendHistory,
)
from processor.ratelimit.estimator.window_or_bucket import CounterClassifier, CounterType, Observation

_MISJUDGED = 0.1
"""In units that were wrong by so much, what came back was, too."""

SMALL_BUCKET_S = 5.0
"""A bucket of fewer seconds' refill is small: bursts gain nothing there, even pacing loses nothing."""

SHARED_KEY_SHARE = 0.02
"""Others that use more than this share of the limit make the two kinds look alike, for some minutes."""
SHARED_KEY_S = 3 * WINDOW_S

FRESH_S = 1.0
"""Where others use the key, what remained at a time longer ago is no ground for a burst."""

MOST_LATE_S = 1.0
"""By how much a window may be left later than thought; learned from refusals."""

_STRAGGLERS, _STRAGGLING = 2, 0.1
"""How many of the requests just before one may be counted behind it: so many of its size, and a share of them all."""

RESERVE_HALVES_S = 10 * WINDOW_S
_RESERVED, _MOST_RESERVED = 2, 12
"""Requests for which room is kept after a refusal, and at most."""
_RESERVED_SHARE = 0.04
"""Of the limit, at most, unless that is less than four requests."""
_RESERVED_SMALL_S = 0.5
"""Seconds' refill, at most, where the bucket is small."""


class ServerModel:
    def __init__(self, limit: float, *, tolerance: float) -> None:
        """``tolerance``: by which share the server's charges may differ from ours; 0 where they are counts."""
        self.limit = limit
        self.history = SendHistory(limit)
        self._margin = self.history.rate * ORDER_CERTAIN_S
        """What a bucket may gain while one request is on its way and another is not."""
        self.pending = 0.0
        """Permitted and not yet sent: it may reach the server at any time."""
        self.heard_at = -inf
        self._full_at = inf
        """When the newest header says that all of it is back."""
        self._kinds = CounterClassifier(tolerance)
        self._newest = -inf
        """When the newest request was sent that has a header."""
        self._last: tuple[float, float, float] | None = None
        """The newest header: when its request was sent, its cost, and what remained."""
        self._window = ExternalUsage()
        self._bucket = ExternalUsage()
        self._company_at = -inf
        self._short_at = -inf
        """When there was no room where there should have been."""
        self._others_at = -inf
        """When more was missing than ever was sent. What is there too much of may be a matter of units."""
        self._reserve = DecayingValue(RESERVE_HALVES_S)

    @property
    def kind(self) -> CounterType | None:
        return self._kinds.kind

    @property
    def heard(self) -> bool:
        return self.heard_at > -inf

    @property
    def company(self) -> bool:
        """Whether others have lately used a good part of the limit."""
        return self._newest - self._company_at <= SHARED_KEY_S

    def is_stale(self, now: float) -> bool:
        """Whether others may have used by now what the newest header left."""
        return self._newest - self._others_at <= SHARED_KEY_S and now - self._newest > FRESH_S

    @property
    def small(self) -> bool:
        """Whether the server's bucket is known to hold a few seconds' refill only."""
        return self.kind == "bucket" and self.limit - self._bucket.used < SMALL_BUCKET_S * self.history.rate

    def set_limit(self, limit: float, since: float) -> None:
        """The server has another limit: known from a request that was sent then. The next header says what is left."""
        self._window, self._bucket = ExternalUsage(), ExternalUsage()
        self._last = None
        self._relimit(limit, since)

    def rescale(self, limit: float) -> None:
        """The same limit in other units: ours turned out to be worth more, or less, at the server."""
        factor = limit / self.limit
        self._relimit(limit)
        if abs(factor - 1) > _MISJUDGED:
            self._kinds.kind = None
        for others in (self._window, self._bucket):
            others.rescale(factor)
        if self._last is not None:
            sent_at, cost, remaining = self._last
            self._last = sent_at, cost, remaining * factor
            self._explain(self._mark(*self._last))

    def _relimit(self, limit: float, since: float = -inf) -> None:
        self.limit = limit
        self.history.set_limit(limit, since)
        self._margin = self.history.rate * ORDER_CERTAIN_S
        self._kinds.forget()

    # ------------------------------------------------------------ what happens

    def sent(self, cost: float, at: float) -> None:
        self.pending -= cost
        if self._bucket.used < 0 and self.history.level(at) >= self.limit:
            # More cannot have been in it.
            self._bucket.used = 0.0
        self.history.add(at, cost)

    def reply(
        self, sent_at: float, cost: float, remaining: float, at: float, *, refused: bool, reset_s: float | None = None
    ) -> None:
        """A response has told what remained when its request, of this cost, was counted."""
        self.heard_at = at
        if refused:
            self._kinds.doubt(cost)
        if sent_at < max(self._newest - ORDER_CERTAIN_S, at - WINDOW_S):
            return
        if self._newest > -inf and sent_at > self._newest + ORDER_CERTAIN_S:
            self._window.note(self._newest)
            self._bucket.note(self._newest)
        self._newest = max(self._newest, sent_at)
        self._full_at = inf if reset_s is None else at + reset_s
        self._last = sent_at, cost, remaining
        mark = self._mark(sent_at, cost, remaining)
        self._explain(mark)
        if not refused:
            self._kinds.hear(mark)
        left_late = self.history.total_sent_by(sent_at - WINDOW_S + LATE_ARRIVAL_S) - self.history.total_sent_by(
            sent_at - WINDOW_S
        )
        self._kinds.exceeds_window(-self._window.used - left_late - mark.early, self.limit - mark.window.least)

    def lost(self, cost: float) -> None:
        """A request that was sent will have no response."""
        self._kinds.doubt(cost)

    def short(self, cost: float, now: float, *, news: bool) -> None:
        """There was no room where there should have been: keep some back for a while. ``news``: it was sent since the
        last time."""
        if news and (self.company or now - self._short_at <= SHARED_KEY_S):
            # One may have arrived late. Another so soon: there are others, or it is a window after all.
            if self.kind == "bucket" and not self.small:
                self._kinds.kind = None
            self._company_at = now
        self._short_at = now
        self.history.late_arrival_s = min(MOST_LATE_S, 2 * self.history.late_arrival_s + LATENCY_JITTER_S)
        most = min(_MOST_RESERVED * cost, max(2 * _RESERVED * cost, _RESERVED_SHARE * self.limit))
        self._reserve.raise_by(_RESERVED * cost, now, most=most)

    # ------------------------------------------------------------ what follows

    def when(self, cost: float, now: float) -> float:
        """From when on the server surely has room for this cost, as far as is known; inf: something must happen."""
        if self.kind == "bucket":
            return self._bucket_when(cost, now)
        window_at = self._window_when(cost, self._in_window(now), now)
        return window_at if self._window_alone else max(window_at, self._bucket_when(cost, now))

    def sounding_when(self, cost: float, now: float) -> float:
        """The same, for one request that is to show the kind: a window that others fill may be a small bucket."""
        return max(self._window_when(cost, 0.0, now), self._bucket_when(cost, now))

    def room(self, now: float) -> float:
        """What would fit now."""
        rest = self.pending + self._reserve.value(now)
        bucket = self.history.level(now) - self._held_back - self._bucket.ahead(self._newest, now) - rest
        if self.kind == "bucket":
            return bucket
        window = self.limit - self.history.in_window(now) - self._in_window(now) - rest
        return window if self._window_alone else min(window, bucket)

    @property
    def _window_alone(self) -> bool:
        """Whether the bucket need not agree. Where others use the key, the kinds look alike, and both must."""
        return not self.heard or (self.kind == "window" and not self.company)

    def _in_window(self, now: float) -> float:
        """Others' part of it. Never less than nothing: what seems so will not be there when ours has left."""
        return max(0.0, self._window.ahead(self._newest, now))

    def _window_when(self, cost: float, others: float, now: float) -> float:
        history = self.history
        need = self.pending + cost + others + self._kept(cost, now)
        at = history.window_frees_at(history.in_window(now) + need - self.limit, now)
        if at < inf or self.pending or others <= 0:
            return at
        # Even when all of ours has left: let what others hold ebb away evenly.
        ours_left_at = history.window_frees_at(history.in_window(now), now)
        return max(ours_left_at, self._ebbed_at(self.heard_at, max(history.rate, need - self.limit)))

    def _bucket_when(self, cost: float, now: float) -> float:
        history, others = self.history, self._bucket.ahead(self._newest, now)
        reserve = self._kept(cost, now)
        # Others are believed to use a little more than is seen: it may never show itself so full.
        capacity = max(0.0, self.limit - others - (self._spare if others > 0 else 0.0))
        if self.small:
            reserve = min(reserve, _RESERVED_SMALL_S * history.rate)
        rest = self._held_back + self.pending + reserve
        level = min(cost, capacity) + others + rest
        if level > self.limit:
            # More than it holds: what others owe ebbs away too, once it is full but for that.
            return self._ebbed_at(max(history.level_reached_at(self.limit), self._newest), level - self.limit)
        at = history.level_reached_at(level)
        # While this waits, others go on, but nobody knows for how long.
        wait_s, share = max(0.0, at - now), min(0.9, self._bucket.drift / history.rate)
        return max(at, now + min(wait_s / (1 - share), wait_s + share * FORESEEN_S))

    def _kept(self, cost: float, now: float) -> float:
        """The room that is kept: never so much that this could not go at all, or nothing would ever happen again."""
        return min(self._reserve.value(now), max(0.0, self.limit - cost))

    @property
    def _held_back(self) -> float:
        """What the bucket may hold less than the history thinks, because requests arrive later than sent. Where it is
        large, much later ones cost nothing but that the whole run ends so much later."""
        return self.history.rate * LATE_ARRIVAL_S if self.kind == "bucket" and not self.small else self._margin

    @property
    def _spare(self) -> float:
        """By how much more than a header shows others are believed to use."""
        return 1 + 2 * self._margin

    def _ebbed_at(self, since: float, amount: float) -> float:
        # The header has not counted what was sent beside it or later: that may arrive later than sent, too. Who comes
        # to a small bucket waits for that already, by its pace.
        late_s = 0.0 if self.small else ORDER_CERTAIN_S
        return min(since + amount / self.history.rate, max(self._full_at, since + late_s))

    def _mark(self, sent_at: float, cost: float, remaining: float) -> Observation:
        history, limit, margin = self.history, self.limit, self._margin
        before, by, after = history.bounds(sent_at)
        surely_gone, _, maybe_gone = history.bounds(sent_at - WINDOW_S)
        most_used, least_used = after - surely_gone, before + cost - maybe_gone
        shortly_before = before - history.total_sent_by(sent_at - LATE_ARRIVAL_S)
        level = history.level(sent_at)
        return Observation(
            at=sent_at,
            shown=remaining,
            sent=by,
            late=history.total_sent_by(sent_at + LATE_ARRIVAL_S) - after,
            early=min(shortly_before, _STRAGGLERS * cost + _STRAGGLING * shortly_before),
            window=Interval(limit - most_used, limit - least_used),
            bucket=Interval(level - (after - by) - margin, min(limit, level + (by - before - cost) + margin)),
        )

    def _explain(self, mark: Observation) -> None:
        spare = self._spare
        self._window.explain(mark.window, mark.shown, spare)
        # A bucket in debt shows 0.
        self._bucket.explain(mark.bucket if mark.shown else Interval(mark.bucket.least, inf), mark.shown, spare)
        # What one late arrival explains is nobody else's.
        much = SHARED_KEY_SHARE * self.limit + mark.late + mark.early
        used = (self._bucket if self.kind == "bucket" else self._window).used
        if (used if self.kind == "bucket" else abs(used)) > much:
            self._company_at = mark.at
        if used > much:
            self._others_at = mark.at
