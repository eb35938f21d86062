"""The simulated provider: turns a request and its arrival time into a scripted response. No I/O and no clock."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import replace
from random import Random
from typing import Any

from processor.core.models import JSON
from processor.core.text import CHARS_PER_TOKEN
from processor.simulator import error_responses
from processor.simulator.batch_api import BatchApi
from processor.simulator.batch_lines import BatchExecution, BatchLine
from processor.simulator.billing_log import BillingLog
from processor.simulator.completion import CountTokens, count_prompt_tokens
from processor.simulator.faults import NO_FAULTS, DrawnFaults
from processor.simulator.generator import TextGenerator
from processor.simulator.message_batches import MessageBatches
from processor.simulator.rate_limiter import ServerRateLimiter
from processor.simulator.reply_bodies import expected_body
from processor.simulator.request_parser import ParsedRequest
from processor.simulator.request_validation import check_key, validate
from processor.simulator.response_script import ResponseStep, ScriptedResponse
from processor.simulator.settings import Outage, SimulatorSettings

OnRequest = Callable[[dict[str, Any]], None]

_BURST_S = 0.5

MAX_IDENTITIES = 1_000_000
"""Requests whose attempts are counted, so that a server that runs for days does not grow for ever."""


class SimulatedProvider:
    """A provider with the given settings.

    `count_tokens` counts the tokens of a prompt for the reported usage. `on_request` is called with one dict for every
    request. Times (`at`) are seconds on one monotonic clock.
    """

    def __init__(
        self,
        settings: SimulatorSettings | None = None,
        *,
        count_tokens: CountTokens | None = None,
        on_request: OnRequest | None = None,
    ) -> None:
        self.settings = settings or SimulatorSettings()
        self.billing = BillingLog(track_identities=self.settings.track_identities)
        self.rate_limiter = ServerRateLimiter(
            self.settings.rpm,
            self.settings.tpm,
            input_tpm=self.settings.input_tpm,
            output_tpm=self.settings.output_tpm,
            kind=self.settings.kind,
            count_throttled=self.settings.count_throttled,
        )
        self._count_tokens = count_tokens
        self._generator = TextGenerator(self.settings, count_tokens)
        self._on_request = on_request
        self._rng = Random(self.settings.seed)
        self._attempts: Counter[bytes] = Counter()
        """Attempts for which faults were drawn, by identity. Throttled requests do not count, so that draws replay."""
        self._burst_until = 0.0
        self._admitted = 0
        execution = BatchExecution(
            settings=self.settings.batches,
            seed=self.settings.seed,
            epoch_s=self.settings.epoch_s,
            answer=self.expected_body,
            on_answered=self._record_batch_line,
        )
        self.batch_api = BatchApi(execution)
        self.message_batches = MessageBatches(execution)

    def handle(
        self, method: str, path: str, headers: Mapping[str, str], body: bytes, at: float, *, query: str = ""
    ) -> ScriptedResponse:
        """Respond to a request that arrives at `at`. Header names are lower case; `path` has no query."""
        if self.message_batches.serves(path) or self.batch_api.serves(path):
            response, request = self._respond_to_batch_call(method, path, query, headers, body, at), None
        else:
            response, request = self._respond(method, path, headers, body, at)
        self._record(response, request, method, path, at)
        return response

    def is_reachable(self, at: float) -> bool:
        """Whether a connection can be opened."""
        outage = self._outage(at)
        return outage is None or outage.kind != "refuse"

    def record_delivered(self, response: ScriptedResponse) -> None:
        """Called by the server or transport when it has sent a response completely."""
        if response.identity is not None:
            self.billing.complete(response.identity)

    def expected_body(self, path: str, request: JSON) -> JSON:
        """The non-streamed body that answers this request if there is no fault."""
        return expected_body(path, request, self.settings, self._count_tokens)

    def _respond(
        self, method: str, path: str, headers: Mapping[str, str], body: bytes, at: float
    ) -> tuple[ScriptedResponse, ParsedRequest | None]:
        outage = self._outage(at)
        if outage:
            return error_responses.outage(outage.kind), None
        validated = validate(self.settings, method, path, headers, body)
        if isinstance(validated, ScriptedResponse):
            return validated, None
        self.billing.record(validated.identity)
        return self._throttle(validated, at) or self._generate(validated, at), validated

    def _respond_to_batch_call(
        self, method: str, path: str, query: str, headers: Mapping[str, str], body: bytes, at: float
    ) -> ScriptedResponse:
        outage = self._outage(at)
        if outage:
            return error_responses.outage(outage.kind)
        refusal = check_key(self.settings, headers)
        if refusal is None and self.message_batches.serves(path):
            return self.message_batches.handle(method, path, query, body, at)
        return refusal or self.batch_api.handle(method, path, query, headers, body, at)

    def _record_batch_line(self, line: BatchLine) -> None:
        self.billing.record(line.identity)
        self.billing.bill(line.identity, 0, 0)

    def _outage(self, at: float) -> Outage | None:
        return next((outage for outage in self.settings.outages if outage.from_s <= at < outage.to_s), None)

    def _throttle(self, request: ParsedRequest, at: float) -> ScriptedResponse | None:
        if self.settings.quota is not None and self._admitted >= self.settings.quota:
            return error_responses.no_quota()
        if at < self._burst_until:
            return error_responses.throttled_burst(self._burst_until - at)
        decision = self.rate_limiter.admit(
            at,
            self.token_cost(request),
            input_tokens=count_prompt_tokens(request, self._count_tokens) if self.settings.input_tpm else 0,
            output_tokens=_allowed_output(request),
        )
        if decision.is_admitted:
            self._admitted += 1
            return None
        return error_responses.over_limit(request.model, decision, self._rate_headers(at))

    def token_cost(self, request: ParsedRequest) -> int:
        """The tokens that a request counts against the limit when it arrives."""
        estimate, allowed = -(-sum(map(len, request.prompts)) // CHARS_PER_TOKEN), _allowed_output(request)
        choices = request.choices // len(request.prompts)
        if self.settings.charging == "larger":
            return max(estimate * choices, allowed)
        if self._count_tokens is not None:
            estimate = count_prompt_tokens(request, self._count_tokens)
        return estimate * choices + allowed

    def _rate_headers(self, at: float) -> dict[str, str]:
        return self.rate_limiter.headers(at, self.settings.dialect, epoch_s=self.settings.epoch_s)

    def _generate(self, request: ParsedRequest, at: float) -> ScriptedResponse:
        drawn = self._draw(request)
        headers = {**self._rate_headers(at), "x-request-id": f"req_{self._rng.getrandbits(96):024x}"}
        if drawn.failure == "error_500":
            response = error_responses.random_5xx(drawn.rng)
            return replace(response, headers={**response.headers, **headers})
        if drawn.failure == "burst_429":
            self._burst_until = at + _BURST_S
            return error_responses.throttled_burst(_BURST_S)
        prompt_tokens = count_prompt_tokens(request, self._count_tokens)
        if drawn.failure == "reset_before":
            self.billing.bill(request.identity, prompt_tokens, 0)
            return replace(error_responses.NO_RESPONSE, start_delay_s=self._first_token_s())
        generated = self._generator.generate(request, drawn)
        self.billing.bill(request.identity, prompt_tokens, generated.billed_tokens)
        start_delay_s, steps = self._first_token_s() + generated.generation_s, generated.steps
        if self.settings.headers_with_first_token and steps:
            start_delay_s -= generated.generation_s
            steps = (ResponseStep(steps[0].delay_s + generated.generation_s, steps[0].data), *steps[1:])
        if self.settings.charging == "used":
            unused = _allowed_output(request) - generated.billed_tokens
            ends_at = at + start_delay_s + sum(step.delay_s for step in steps)
            self.rate_limiter.correct(ends_at, at, {"tokens": unused, "output_tokens": unused})
        headers["content-type"] = "text/event-stream; charset=utf-8" if request.streamed else "application/json"
        return ScriptedResponse(
            headers=headers,
            start_delay_s=start_delay_s,
            steps=steps,
            ending=generated.ending,
            identity=request.identity if drawn.failure is None else None,
        )

    def _draw(self, request: ParsedRequest) -> DrawnFaults:
        if not self.settings.faults.rates:
            return NO_FAULTS
        drawn = self.settings.faults.draw(self.settings.seed, request.identity, self._attempts[request.identity])
        self._attempts[request.identity] += 1
        if len(self._attempts) > MAX_IDENTITIES:
            del self._attempts[next(iter(self._attempts))]  # the oldest
        self.billing.faults.update(drawn.quirks)
        if drawn.failure:
            self.billing.faults[drawn.failure] += 1
        return drawn

    def _first_token_s(self) -> float:
        jitter = self.settings.first_token_jitter
        return self.settings.first_token_s * (self._rng.uniform(1 - jitter, 1 + jitter) if jitter else 1.0)

    def _record(
        self, response: ScriptedResponse, request: ParsedRequest | None, method: str, path: str, at: float
    ) -> None:
        self.billing.requests += 1
        self.billing.statuses[response.status or 0] += 1
        if self._on_request is None:
            return
        entry: dict[str, Any] = {"at": round(at, 6), "method": method, "path": path}
        entry |= {"status": response.status, "ending": response.ending}
        if request:
            entry |= {"model": request.model, "identity": request.identity.hex()}
            entry["charged_tokens"] = self.token_cost(request)
        self._on_request(entry)


def _allowed_output(request: ParsedRequest) -> int:
    """The most tokens of the reply, over all choices; 0 where nothing bounds them."""
    return (request.max_tokens or 0) * request.choices
