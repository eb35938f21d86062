"""Makes the rows of jobs, writes them, and says so."""

from __future__ import annotations

import asyncio
from functools import partial

from processor.core.events import JobFinished
from processor.core.fast_dataclass import constructor_of
from processor.core.models import Failure, Reply, Result, Timing, Usage
from processor.scheduler.dependencies import Dependencies
from processor.scheduler.job_state import JobState
from processor.scheduler.result_builder import result_of_failure
from processor.tokens.rules import NOT_LOADED, TokenCount

ComputedUsage = tuple[Usage, tuple[str, ...]]
"""The tokens of a prompt and its reply as computed, and why they are an estimate, if they are."""

_new_finished, _new_usage = constructor_of(JobFinished), constructor_of(Usage)


class RowWriter:
    """Writes the rows of one run."""

    def __init__(self, deps: Dependencies, *, simulated: bool) -> None:
        self._deps = deps
        self._simulated = simulated
        self._now = asyncio.get_running_loop().time
        self.failed_jobs = 0
        """Jobs that got a failed row."""

    async def write(self, result: Result, state: JobState | None, *, print_header: bool = False) -> None:
        """Append the row. Raises OutputError if it cannot be written, for example because the disk is full.

        ``state`` is None for an invalid line. ``print_header``: name the job again, because other replies may have been
        printed since it was named.
        """
        if result.failure is not None:
            self.failed_jobs += 1
        await self._deps.sink.append(result)
        if state is not None and state.asked_pico and result.cost_usd is not None:
            # The row has the cost of all replies to the job.
            self._deps.sink.add_spent(-state.asked_pico)
        self._deps.emit(_finished_event(self._now(), result, state))
        if (printer := self._deps.printer) is not None:
            if state is not None and print_header:
                printer.begin(state.job)
            printer.end(result)

    def failed_result(self, state: JobState, failure: Failure, error: Exception, *, timing: Timing | None) -> Result:
        permit = state.permit
        job = permit.job if permit else state.job
        failed = result_of_failure(
            job,
            failure,
            error,
            attempts=state.attempts,
            timing=timing,
            endpoint=permit.endpoint.address_of(job.path, job.model) if permit else None,
            streamed=state.streamed,
            simulated=self._simulated,
            unconfirmed_cost_usd=state.unconfirmed_cost_usd,
        )
        return failed if state.asks is None else state.asks.failed_row(failed)

    def count_now(self, state: JobState, reply: Reply) -> ComputedUsage | None:
        """Return the tokens of the prompt and of the reply; None where ``count_later`` must be asked for them."""
        job, size = state.job, state.size
        if reply.is_large or NOT_LOADED in size.prompt_estimated:
            return None
        counter = self._deps.counter.for_model(job.model)
        completion = state.protocol.count_reply(reply.body, job.body, counter)
        return _computed(size.prompt_tokens, size.prompt_estimated, completion)

    async def count_later(self, state: JobState, reply: Reply) -> ComputedUsage:
        """Do the same after the model's encoding is loaded, and in a thread where the reply is large."""
        counter, job, size, protocol = self._deps.counter, state.job, state.size, state.protocol
        prompt = TokenCount(size.prompt_tokens, size.prompt_estimated)
        if NOT_LOADED in prompt.estimate_reasons:
            await counter.load(job.model)
            prompt = protocol.count_prompt(job.body, counter.for_model(job.model))
        count = partial(protocol.count_reply, reply.body, job.body, counter.for_model(job.model))
        completion = await counter.run_in_thread(count) if reply.is_large else count()
        return _computed(prompt.tokens, prompt.estimate_reasons, completion)


def _computed(prompt_tokens: int, prompt_estimated: tuple[str, ...], completion: TokenCount) -> ComputedUsage:
    usage = _new_usage(prompt_tokens=prompt_tokens, completion_tokens=completion.tokens)
    return usage, prompt_estimated + completion.estimate_reasons


def _finished_event(at: float, result: Result, state: JobState | None) -> JobFinished:
    """``state``: None for a line that is no job."""
    if state is None:
        return JobFinished(at=at, result=result)
    if (permit := state.permit) is None:
        return JobFinished(at=at, result=result, model=state.job.model)
    return _new_finished(
        at=at,
        result=result,
        model=state.job.model,
        endpoint=permit.endpoint.name,
        limit_group=permit.limit_group,
    )
