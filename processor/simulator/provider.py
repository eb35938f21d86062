"""The simulated provider: a request and the time of its arrival → an Answer. No I/O, no clock of its own."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import replace
from random import Random
from typing import Any

from processor.core.models import JSON
from processor.core.text import CHARS_PER_TOKEN
from processor.simulator import error_responses
from processor.simulator.billing_log import BillingLog
from processor.simulator.completion import CountTokens, expected_body
from processor.simulator.faults import NO_FAULTS, DrawnFaults
from processor.simulator.generator import TextGenerator
from processor.simulator.rate_limiter import ServerRateLimiter
from processor.simulator.request_parser import ParsedRequest
from processor.simulator.request_validation import receive
from processor.simulator.response_script import ScriptedResponse
from processor.simulator.settings import Outage, SimulatorSettings

Log = Callable[[dict[str, Any]], None]

_BURST_S = 0.5


class SimulatedProvider:
    """`count` counts a prompt's tokens for the reported usage; `log` gets one dict for every request.

    Times (`at`) are seconds on one clock that does not go back.
    """

    def __init__(
        self,
        settings: SimulatorSettings | None = None,
        *,
        count: CountTokens | None = None,
        log: Log | None = None,
    ) -> None:
        self.settings = settings or SimulatorSettings()
        self.books = BillingLog(keeps_identities=self.settings.books)
        self.referee = ServerRateLimiter(
            self.settings.rpm,
            self.settings.tpm,
            kind=self.settings.kind,
            count_refused=self.settings.count_refused,
        )
        self._count = count
        self._model = TextGenerator(self.settings, count)
        self._log = log
        self._rng = Random(self.settings.seed)
        self._tries: Counter[bytes] = Counter()
        """How often a request met the faults. What limits and outages refuse does not: so the draws replay."""
        self._burst_until = 0.0
        self._admitted = 0

    def answer(self, method: str, path: str, headers: Mapping[str, str], body: bytes, at: float) -> ScriptedResponse:
        """Judge a request that arrives now. Header names are lower case; `path` has no query."""
        answer, ask = self._judge(method, path, headers, body, at)
        self._note(answer, ask, method, path, at)
        return answer

    def reachable(self, at: float) -> bool:
        """Whether a connection can be made."""
        outage = self._outage(at)
        return outage is None or outage.how != "refuse"

    def delivered(self, answer: ScriptedResponse) -> None:
        """To be told by the face that has sent an answer to its end."""
        if answer.identity is not None:
            self.books.complete(answer.identity)

    def expected_body(self, path: str, request: JSON) -> JSON:
        """What the request is answered with, unstreamed, when nothing goes wrong."""
        return expected_body(path, request, self.settings, self._count)

    def _judge(
        self, method: str, path: str, headers: Mapping[str, str], body: bytes, at: float
    ) -> tuple[ScriptedResponse, ParsedRequest | None]:
        outage = self._outage(at)
        if outage:
            return error_responses.outage(outage.how), None
        received = receive(self.settings, method, path, headers, body)
        if isinstance(received, ScriptedResponse):
            return received, None
        self.books.see(received.identity)
        return self._refuse(received, at) or self._serve(received, at), received

    def _outage(self, at: float) -> Outage | None:
        return next((outage for outage in self.settings.outages if outage.from_s <= at < outage.to_s), None)

    def _refuse(self, ask: ParsedRequest, at: float) -> ScriptedResponse | None:
        if self.settings.quota is not None and self._admitted >= self.settings.quota:
            return error_responses.no_quota()
        if at < self._burst_until:
            return error_responses.burst(self._burst_until - at)
        verdict = self.referee.admit(at, self.charge(ask))
        if verdict.ok:
            self._admitted += 1
            return None
        return error_responses.over_limit(ask.model, verdict, self._rate_headers(at))

    def charge(self, ask: ParsedRequest) -> int:
        """The tokens a request counts for at arrival."""
        estimate = -(-sum(map(len, ask.prompts)) // CHARS_PER_TOKEN) * (ask.choices // len(ask.prompts))
        allowed = (ask.max_tokens or 0) * ask.choices
        return max(estimate, allowed) if self.settings.charging == "larger" else estimate + allowed

    def _rate_headers(self, at: float) -> dict[str, str]:
        return self.referee.headers(at, self.settings.dialect, epoch_s=self.settings.epoch_s)

    def _serve(self, ask: ParsedRequest, at: float) -> ScriptedResponse:
        drawn = self._draw(ask)
        headers = {**self._rate_headers(at), "x-request-id": f"req_{self._rng.getrandbits(96):024x}"}
        if drawn.failure == "error_500":
            answer = error_responses.some_5xx(drawn.rng)
            return replace(answer, headers={**answer.headers, **headers})
        if drawn.failure == "burst_429":
            self._burst_until = at + _BURST_S
            return error_responses.burst(_BURST_S)
        if drawn.failure == "reset_before":
            self.books.bill(ask.identity, 0)
            return replace(error_responses.NO_RESPONSE, start_s=self._first_token_s())
        made = self._model.generate(ask, drawn)
        self.books.bill(ask.identity, made.tokens)
        headers["content-type"] = "text/event-stream; charset=utf-8" if ask.streamed else "application/json"
        return ScriptedResponse(
            headers=headers,
            start_s=self._first_token_s() + made.before_s,
            steps=made.steps,
            ending=made.ending,
            identity=ask.identity if drawn.failure is None else None,
        )

    def _draw(self, ask: ParsedRequest) -> DrawnFaults:
        if not self.settings.faults.rates:
            return NO_FAULTS
        drawn = self.settings.faults.draw(self.settings.seed, ask.identity, self._tries[ask.identity])
        self._tries[ask.identity] += 1
        self.books.faults.update(drawn.manners)
        if drawn.failure:
            self.books.faults[drawn.failure] += 1
        return drawn

    def _first_token_s(self) -> float:
        share = self.settings.first_token_jitter
        return self.settings.first_token_s * (self._rng.uniform(1 - share, 1 + share) if share else 1.0)

    def _note(self, answer: ScriptedResponse, ask: ParsedRequest | None, method: str, path: str, at: float) -> None:
        self.books.requests += 1
        self.books.statuses[answer.status or 0] += 1
        if self._log is None:
            return
        entry = {"at": round(at, 6), "method": method, "path": path, "status": answer.status, "ending": answer.ending}
        if ask:
            entry |= {"model": ask.model, "identity": ask.identity.hex(), "charged_tokens": self.charge(ask)}
        self._log(entry)
