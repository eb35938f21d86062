"""What each request costs, and where that is kept: in its row, in the budget, and in the record of what was spent.

| what becomes of a request       | its row                | the budget     | the record         |
|---------------------------------|------------------------|----------------|--------------------|
| a reply                         | ``cost_usd``           | its cost       |                    |
| a reply of uncertain cost       | both                   | its worst case | what the row lacks |
| a reply after which the job is asked again | later     | its cost       | its cost, until the row |
| it broke off                    | ``unconfirmed_cost_usd`` | its worst case | its worst case     |
| not sent, or refused            |                        | nothing        |                    |
| in flight when the run ends     |                        | its worst case | by the next run    |
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import NamedTuple

from processor.core.errors import RequestError, StatusError
from processor.core.models import Job, Reply, RequestSize, Usage
from processor.core.money import pico_usd
from processor.cost.worst_case import worst_case_pico
from processor.endpoints.endpoint import EndpointPermit
from processor.protocols import Protocol
from processor.protocols.billed_usage import billed_usage, reported_cost_usd
from processor.protocols.token_bounds import TokenRatios, token_bounds, with_bounds
from processor.scheduler.attempt import Attempt
from processor.scheduler.dependencies import Dependencies
from processor.scheduler.job_state import JobState

_MAYBE_BILLED = frozenset({408, 499, 504, 524})
"""Statuses by which a proxy gives up waiting for a server that may have generated the reply."""


def may_be_billed(status: int | None) -> bool:
    """Whether a request without a reply may have been billed. ``status``: of the response; None where none came."""
    return status is None or 200 <= status < 300 or status in _MAYBE_BILLED


class ReplyCost(NamedTuple):
    """What a reply has cost."""

    usd: float | None
    """None: not known."""
    counted_pico: int
    """What a budget counts for it, in 1e-12 USD."""


class RequestCosts:
    """Accounts for the requests of one run."""

    def __init__(self, deps: Dependencies) -> None:
        self._deps = deps
        self._prices = deps.prices
        self._counts_characters = deps.endpoints.counts_characters
        self.has_budget = deps.endpoints.budget is not None
        self._ratios = TokenRatios()

    def size_of(self, job: Job, protocol: Protocol) -> RequestSize:
        """Return the size of the job's request. Its prompt is estimated by its characters until its encoding is loaded:
        the first requests are sent before that, and by then many jobs wait, which are counted then."""
        counter = self._deps.counter.for_model(job.model)
        size = protocol.request_size(job, counter, counts_characters=self._counts_characters)
        return size if counter.is_loaded else replace(size, recount=self._recount(job, protocol))

    def _recount(self, job: Job, protocol: Protocol) -> Callable[[], RequestSize | None]:
        counted: RequestSize | None = None

        def recount() -> RequestSize | None:
            nonlocal counted
            if counted is None and self._deps.counter.is_loaded(job.model):
                counted = self.size_of(job, protocol)
            return counted

        return recount

    async def bound(self, state: JobState) -> None:
        """Find out what the job can be billed for at most, and its prices, before the first request is sent."""
        job, counter = state.job, self._deps.counter
        await counter.load(job.model)
        model_counter = counter.for_model(job.model)
        size = state.protocol.request_size(job, model_counter)
        size = with_bounds(size, job, state.protocol, model_counter, self._ratios)
        state.size = replace(size, goes_first=state.size.goes_first)
        await self._deps.endpoints.load_prices(job)

    async def of_reply(
        self,
        state: JobState,
        permit: EndpointPermit,
        reply: Reply,
        usage: Usage,
        sent_at_unix_s: float,
        *,
        is_exact: bool,
    ) -> ReplyCost:
        """Return the cost by the server's word, else by the tariff. ``usage``: the tokens that are billed.

        ``is_exact``: they are reported, or counted exactly. Where not, a budget counts the worst case.
        """
        cost_usd, is_certain = reported_cost_usd(reply.body), True
        if cost_usd is None:
            tariff = await self._prices.tariff(permit.endpoint.target.base_url, permit.job.model)
            by_tariff = None if tariff is None else tariff.cost_usd(billed_usage(reply.body, usage), sent_at_unix_s)
            cost_usd, is_certain = (None, False) if by_tariff is None else (float(by_tariff), is_exact)
        known_pico = 0 if cost_usd is None else pico_usd(cost_usd)
        if permit.reserved is None or is_certain:
            return ReplyCost(cost_usd, known_pico)
        counted_pico = max(known_pico, permit.reserved.worst_pico)
        self._add_unconfirmed(state, counted_pico - known_pico)
        return ReplyCost(cost_usd, counted_pico)

    def on_written(
        self, job: Job, permit: EndpointPermit, cost: ReplyCost, reported: Usage | None, computed_prompt: int
    ) -> None:
        """Settle a reply in the budget, once its row is written: a kill before that counts its worst case."""
        if permit.reserved is None:
            return
        self._ratios.learn(job.model, reported, computed_prompt)
        permit.reserved.settle(cost.counted_pico)

    def on_asked_again(self, state: JobState, permit: EndpointPermit, cost: ReplyCost) -> None:
        """Settle a reply after which the job is asked again: its row, which will have the cost, is written later."""
        if cost.usd is not None:
            state.asked_pico += pico_usd(cost.usd)
            self._deps.sink.add_spent(pico_usd(cost.usd))
        if permit.reserved is not None:
            permit.reserved.settle(cost.counted_pico)

    async def on_failure(
        self, state: JobState, permit: EndpointPermit, attempt: Attempt, error: RequestError
    ) -> int | None:
        """Record what a request that failed may have cost. Return it, in 1e-12 USD; None for nothing, or unknown."""
        status = error.status if isinstance(error, StatusError) and attempt.status is None else attempt.status
        if attempt.sent_at is None or not may_be_billed(status):
            if permit.reserved is not None:
                permit.reserved.release()
            return None
        await self._prices.tariff(permit.endpoint.target.base_url, permit.job.model)
        worst_pico = self._worst_pico(state, permit)
        if worst_pico is not None:
            self._add_unconfirmed(state, worst_pico)
        if permit.reserved is not None:
            permit.reserved.keep()
        return worst_pico

    def of_interrupted(self, state: JobState, permit: EndpointPermit, attempt: Attempt) -> int | None:
        """Return what a request may have cost that ends with the run. The next run adds it to what was spent."""
        return None if attempt.sent_at is None else self._worst_pico(state, permit)

    def _worst_pico(self, state: JobState, permit: EndpointPermit) -> int | None:
        if permit.reserved is not None:
            return permit.reserved.worst_pico
        tariff = self._prices.known(permit.endpoint.target.base_url, permit.job.model)
        if tariff is None:
            return None
        counter = self._deps.counter.for_model(permit.job.model)
        return worst_case_pico(tariff, token_bounds(state.size, permit.job, state.protocol, counter, self._ratios))

    def _add_unconfirmed(self, state: JobState, pico: int) -> None:
        state.unconfirmed_pico += pico
        self._deps.sink.add_spent(pico)
