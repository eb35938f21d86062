"""One limit of a lane: when may a cost go? Pure.

ceiling    set lower than what the server grants: evenly, and never more than it in 60 seconds
unheard    evenly, and never more than the limit in 60 seconds
unknown    at once; once it has refused, evenly, at a guess
heard      as the model of the server says; in bursts as far as the server is trusted, else evenly too
"""

from __future__ import annotations

from math import inf

from processor.ratelimit.clearance import FastPath
from processor.ratelimit.estimator.burst_breaker import PROBE_S, BreakerState, BurstBreaker
from processor.ratelimit.estimator.send_history import MERGE_S, WINDOW_S
from processor.ratelimit.estimator.server_model import SMALL_BUCKET_S, ServerModel
from processor.ratelimit.estimator.token_ratio import ISOLATION_S, TokenRatio
from processor.ratelimit.headers import Reported
from processor.ratelimit.strategies.aimd_rate import AimdRate
from processor.ratelimit.strategies.pacer import Pacer

UNLIMITED = 1e18

LIMIT_TOLERANCE = 0.01
"""Limits that differ by no more than this share are the same."""

_SOUNDINGS = 3
"""Requests kept back from a burst while it is unknown how the server counts."""
_SOUNDING_UNITS = 2.2
"""What a bucket must refill between two of them to be told from a window."""
_SOUNDING_S = 1.0

SECOND_BUCKET_REFILL_S = 1.0
"""After it a bucket of one second is full, whatever was in it."""
_SECOND_S = 1.05
_MEMORY = 50

_CLEAR = 0.5
"""The share of what fits that may go in a moment without another look."""


class ResourceLimiter:
    """Costs are counted in our own units; what the server says is converted, once it has shown its rate."""

    def __init__(self, configured: float | None, *, tolerance: float) -> None:
        """``tolerance``: see Picture. Without any, the server's units are ours."""
        self.configured = configured
        self.reported: float | None = None
        self.aimd = AimdRate()
        self.model = ServerModel(configured or UNLIMITED, tolerance=tolerance)
        self._tolerance = tolerance
        self._exchange = TokenRatio() if tolerance else None
        self._trust = BurstBreaker()
        self._pace = Pacer()
        self._ceiling: float | None = None
        self._unit = 1.0
        """The mean cost so far."""
        self._seen = 0
        self._last_went = -inf
        self._refused_at = -inf
        self._relimited_at = -inf
        self._told_at = -inf
        """When the newest request was sent whose response named the limit."""
        self._sure = False
        """Whether the reported limit was the first, or has stood for a minute: a slip is soon corrected."""
        self._named_at = -inf
        self._careful = True
        """Whether a bucket of one second must be reckoned with."""
        self._clearance = FastPath()
        self._heard_of = -inf
        """When the newest request was sent whose header the model has seen."""

    @property
    def limit(self) -> float | None:
        """What is in force, in the server's units; None: nothing is."""
        return self._ceiling or self.reported or self.configured

    @property
    def is_overruled(self) -> bool:
        """Whether more is configured than the server grants."""
        return self.configured is not None and self.configured > (1 + LIMIT_TOLERANCE) * (self.reported or inf)

    def exceeds_limit(self, cost: float) -> bool:
        """Whether this exceeds a whole minute's limit. The server's is compared with the least it may charge:
        what it refuses for good costs one request, a job that is not tried is lost."""
        if self.configured is not None and cost > self.configured:
            return True
        return self.reported is not None and self._sure and cost * self._rate * (1 - self._tolerance) > self.reported

    # ------------------------------------------------------------ when

    def earliest(self, cost: float, now: float) -> float:
        """From when on this cost may go, as far as is known now; inf: not before something else happens."""
        model = self.model
        if model.limit == UNLIMITED:
            return now if self.aimd.per_minute is None else self._pace.at(cost, self._paced_by, careful=True)
        cost = min(cost, model.limit)
        if self._clearance.covers(cost, now):
            return now
        if self._ceiling is not None:
            return max(model.when(cost, now), self._ceiling_when(cost, self._ceiling, now), self._even_at(cost))
        if not model.heard:
            return max(model.when(cost, now), self._even_at(cost))
        fits_at = self._sounding_when(cost, now) if model.kind is None else model.when(cost, now)
        if self._only_evenly(now):
            return max(fits_at, self._even_at(cost))
        at = max(fits_at, self._allowed_at(cost, now))
        if at <= now and model.kind is not None:
            self._clearance.give(_CLEAR * min(model.room(now), self._trust.at_once), now)
        return at

    def _allowed_at(self, cost: float, now: float) -> float:
        """Evenly, or at once as far as the server is trusted."""
        model, trust, rate = self.model, self._trust, self.model.history.rate
        trust.forgive(now)
        if trust.state is BreakerState.WARY and model.room(now) >= SMALL_BUCKET_S * rate:
            if now < self._alone_at(self._last_went):
                return self._alone_at(self._last_went)
            trust.probe(PROBE_S * rate + self._unit, now)
        if trust.may_burst(cost, model.heard_at, now):
            return now
        return max(self._even_at(cost), self._alone_at(trust.probe_ended))

    def _only_evenly(self, now: float) -> bool:
        """Whether bursts gain nothing, or nobody knows what others have left of the room for one."""
        return self.model.small or self.model.is_stale(now)

    def _alone_at(self, sent_at: float) -> float:
        """A probe that is to teach the exchange rate is kept apart from what was sent before and after."""
        return sent_at + ISOLATION_S if self._exchange is not None and sent_at < inf else -inf

    def _even_at(self, cost: float) -> float:
        return self._pace.at(cost, self._paced_by, careful=self._careful)

    def _ceiling_when(self, cost: float, ceiling: float, now: float) -> float:
        ledger = self.model.history
        return ledger.window_frees_at(ledger.in_window(now) + self.model.pending + cost - ceiling, now)

    def _sounding_when(self, cost: float, now: float) -> float:
        """Keep a little back, and let it go one by one: each shows whether something has come back meanwhile."""
        every_s = max(_SOUNDING_S, _SOUNDING_UNITS * self._unit / self.model.history.rate)
        sounding_at = max(self.model.sounding_when(cost, now), self._last_went + every_s)
        return min(sounding_at, self.model.when(cost + _SOUNDINGS * self._unit, now))

    # ------------------------------------------------------------ what becomes of a request

    def on_grant(self, cost: float, now: float) -> None:
        self._clearance.take(cost)
        self._last_went = now
        self.model.pending += cost
        self._seen = min(self._seen + 1, _MEMORY)
        self._unit += (cost - self._unit) / self._seen
        if self.model.limit < UNLIMITED:
            self._trust.granted(cost, now)
        paced_by = self._paced_by
        if paced_by < UNLIMITED:
            self._pace.went(cost, paced_by, now)

    def on_cancelled(self, cost: float, granted_at: float) -> None:
        """The permit was given back before anything was sent."""
        self.model.pending -= cost
        self._pace.give_back(cost, self._paced_by)
        self.on_response(granted_at)

    def on_sent(self, cost: float, at: float) -> None:
        self.model.sent(cost, at)
        self._last_went = at
        if self._exchange is not None:
            self._exchange.sent(cost, at)

    def on_response(self, granted_at: float) -> None:
        self._trust.answered(granted_at, _SECOND_S * self.model.history.rate)

    def on_response_lost(self, cost: float, granted_at: float) -> None:
        """It was sent, and will have no response."""
        self.model.lost(cost)
        self.on_response(granted_at)

    def refund(self, excess: float, sent_at: float) -> None:
        """The server has counted less than was charged, by this much, and knows it now."""
        self.model.history.correct(sent_at, -excess)
        self._pace.give_back(excess, self._paced_by)

    # ------------------------------------------------------------ what the server says

    def on_headers(self, said: Reported, sent_at: float, cost: float, at: float, *, refused: bool) -> bool:
        """Returns whether the limit in force changes."""
        changed = said.limit is not None and sent_at >= self._told_at and self._told_limit(said.limit, sent_at, at)
        # More than there ever is makes no sense; who goes by it sends a storm.
        if said.remaining is not None and said.remaining <= (1 + LIMIT_TOLERANCE) * (
            self.reported or self.configured or -inf
        ):
            self._told_remaining(said.remaining, said.reset_s, sent_at, cost, at, refused=refused)
        return changed

    def max_server_cost(self, cost: float) -> float:
        """What the server may take for this, in its units, at the most."""
        return cost * self._rate * (1 + self._tolerance)

    def on_headers_absent(self) -> None:
        """A request was answered well, and nothing was said about this limit."""
        if self.reported is None and self._refused_at == -inf:
            self._careful = False

    def may_explain_429(self, granted_at: float, *, scarce: bool) -> bool:
        """Whether a refusal may be due to this limit: it shows no room, or was taken at its word until then."""
        return self.limit is not None and (scarce or granted_at <= self._trust.broken_at)

    def on_throttled(self, granted_at: float, at: float, *, promised: bool) -> None:
        """``promised``: the headers showed room for what was refused."""
        news = granted_at > self._refused_at
        evenly = self._trust.state is BreakerState.BROKEN or self.model.small or not self.model.heard
        known = self.model.limit < UNLIMITED  # a guess finds its own pace
        if news and known and evenly and self._careful and granted_at > self._relimited_at:
            self._pace.slow_down(at)
        self._refused_at = at
        self._clearance.end()
        self._careful = True
        self._trust.refused(granted_at, at, promised=promised)
        if not promised:
            self.model.short(self._unit, at, news=news)

    def reset_pacer(self, until: float, cost: float) -> None:
        """The server has said that there will be room then for this cost: a second's bucket may hold no more yet."""
        missing_s = max(0.0, SECOND_BUCKET_REFILL_S - cost / self.model.history.rate) if self._careful else 0.0
        self._pace.rest(until + missing_s)
        self._clearance.end()

    def _told_limit(self, limit: float, sent_at: float, at: float) -> bool:
        self._told_at = sent_at
        if limit == self.reported:
            self._sure = self._sure or sent_at >= self._named_at + WINDOW_S
            return False
        self._sure, self._named_at = self.reported is None, sent_at
        if self.reported is not None:
            # What is refused because of that is no reason to pace slower.
            self._relimited_at = at
        before, self.reported = self.limit, limit
        self._clearance.end()
        below = self.configured is not None and self.configured < (1 - LIMIT_TOLERANCE) * limit
        self._ceiling = self.configured if below else None
        self._careful = self._careful and not below
        if self.model.limit != limit / self._rate:
            self.model.set_limit(limit / self._rate, sent_at)
        return self.limit != before

    def _told_remaining(
        self, remaining: float, reset_s: float | None, sent_at: float, cost: float, at: float, *, refused: bool
    ) -> None:
        model, exchange = self.model, self._exchange
        if exchange is not None and refused:
            exchange.refused(sent_at, cost)
        elif exchange is not None:
            before = exchange.rate
            if exchange.reply(sent_at, cost, remaining, model.history, company=model.company):
                model.rescale(model.limit * before / exchange.rate)
                self._clearance.end()
        # Of requests that went at the same moment one shows what all do, where nobody else is about.
        calm = model.kind is not None and not model.company and not refused
        if calm and 0 <= sent_at - self._heard_of < MERGE_S:
            model.heard_at = at
            return
        self._heard_of = max(self._heard_of, sent_at)
        model.reply(sent_at, cost, remaining / self._rate, at, refused=refused, reset_s=reset_s)

    @property
    def _paced_by(self) -> float:
        """The ceiling, the limit, or a guess at it: what even pacing goes by."""
        if self._ceiling is not None:
            return self._ceiling
        limit = self.model.limit
        return self.aimd.per_minute or limit if limit == UNLIMITED else limit

    @property
    def _rate(self) -> float:
        return 1.0 if self._exchange is None else self._exchange.rate
