"""Checks the output of replies against JSON Schemas, and decides which jobs are asked again.

A job is asked again with its last reply and what is wrong with it, so that it sends several requests. Together they are
one request in flight: the job overtakes others, and is in the in-flight log until it has its row.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, replace

from processor.core.events import Listener, ReplyInvalid
from processor.core.models import Failure, Job, Result, Usage, Validation
from processor.protocols import Protocol
from processor.protocols.structured_output import correction
from processor.scheduler.attempt import AskAgain
from processor.scheduler.dependencies import Dependencies
from processor.scheduler.job_state import JobState
from processor.validation.checker import PreparedSchema, SchemaChecker
from processor.validation.problem import InvalidSchema, Problem

INVALID_OUTPUT = "invalid_output"
INVALID_SCHEMA = "invalid_schema"


@dataclass(slots=True)
class Asks:
    """What a job whose output is checked has had so far."""

    schema: PreparedSchema
    replies: int = 0
    billed: Usage | None = None
    cost_usd: float | None = 0.0
    """None where the cost of a reply is not known."""
    last: Result | None = None
    """The last reply, where it is not valid: a failed row, in case that no other follows."""

    def add(self, billed: Usage, cost_usd: float | None) -> Validation:
        """Count a reply. Returns what the row says of all of them."""
        self.replies += 1
        if self.billed is not None:
            billed = Usage(
                prompt_tokens=self.billed.prompt_tokens + billed.prompt_tokens,
                completion_tokens=self.billed.completion_tokens + billed.completion_tokens,
            )
        self.billed = billed
        self.cost_usd = None if self.cost_usd is None or cost_usd is None else self.cost_usd + cost_usd
        return Validation(asks=self.replies, schema=self.schema.digest, billed_usage=billed)

    def failed_row(self, failed: Result) -> Result:
        """Return the failed row of a job whose last request failed: the reply before it is kept."""
        if self.last is None or self.last.failure is None or failed.failure is None:
            return failed
        message = f"{self.last.failure.message}; asking again failed: {failed.failure.code}: {failed.failure.message}"
        failure = Failure(code=INVALID_OUTPUT, message=message, permanent=failed.failure.permanent)
        return replace(
            self.last,
            failure=failure,
            attempts=failed.attempts,
            unconfirmed_cost_usd=failed.unconfirmed_cost_usd,
        )


class ReplyValidation:
    """Checks the replies of a run."""

    def __init__(self, checker: SchemaChecker, schema: PreparedSchema | None, *, max_invalid: int) -> None:
        """``schema``: that of all jobs; None: each job has its own, in its request, or is not checked."""
        self._checker = checker
        self._schema = schema
        self._max_invalid = max_invalid

    async def begin(self, state: JobState) -> Failure | None:
        """Make the job's schema ready before anything is sent. Returns why it cannot be used, if so."""
        if not state.protocol.generates_text:
            return None
        schema = self._schema
        if schema is None:
            asked = state.protocol.output_schema(state.job.body)
            if asked is None:
                return None
            try:
                schema = await self._checker.prepare(asked)
            except InvalidSchema as error:
                message = f"the schema in the request cannot be used: {error}"
                return Failure(code=INVALID_SCHEMA, message=message, permanent=True)
        state.asks = Asks(schema)
        return None

    async def judge(self, deps: Dependencies, state: JobState, result: Result, billed: Usage) -> Result | AskAgain:
        """Return the row of a reply, which fails where its output is not valid, or that the job is asked again."""
        asks = state.asks
        assert result.reply is not None, "only replies are judged"
        if asks is None:
            return result
        outputs = state.protocol.outputs(result.reply.body, state.job.body)
        validation = asks.add(billed, result.cost_usd)
        result = replace(result, cost_usd=asks.cost_usd, validation=validation)
        found = await self._first_invalid(asks.schema, outputs or [""])
        if found is None:
            return result
        output, problems = found
        again = None
        reason = _why_final(state.protocol, result, problems)
        if reason is None and asks.replies > self._max_invalid:
            reason = ""
        if reason is None:
            again = state.protocol.ask_again(state.job.body, output, correction(problems))
            if again is None:
                reason = "and this request has no place to say so"
        deps.emit(_event(state.job, asks.replies, problems, is_asked_again=again is not None))
        failed = replace(result, failure=_failure(asks.replies, problems, reason))
        if again is None:
            return failed
        asks.last = failed
        job = replace(state.job, body=again)
        state.ask_again(job, state.protocol.request_size(job, deps.counter.for_model(job.model)))
        if deps.printer is not None:
            deps.printer.on_invalid(str(problems[0]))
        return AskAgain()

    async def judge_once(self, protocol: Protocol, job: Job, result: Result, billed: Usage, emit: Listener) -> Result:
        """Return the row of a reply whose job is not asked again. All replies must have one schema."""
        assert self._schema is not None and result.reply is not None, "only replies with a schema are judged"
        if not protocol.generates_text:
            return result
        outputs = protocol.outputs(result.reply.body, job.body)
        result = replace(result, validation=Asks(self._schema).add(billed, result.cost_usd))
        found = await self._first_invalid(self._schema, outputs or [""])
        if found is None:
            return result
        _, problems = found
        emit(_event(job, 1, problems, is_asked_again=False))
        return replace(result, failure=_failure(1, problems, _why_final(protocol, result, problems)))

    async def _first_invalid(
        self, schema: PreparedSchema, outputs: Sequence[str]
    ) -> tuple[str, tuple[Problem, ...]] | None:
        for output in outputs:
            if problems := await self._checker.check(schema, output):
                return output, problems
        return None


def _why_final(protocol: Protocol, result: Result, problems: Sequence[Problem]) -> str | None:
    """Return why another reply would be no better; None where it might. The rest of a sentence about the reply."""
    assert result.reply is not None, "only replies are judged"
    if result.is_cut_short:
        return "since it ended at the limit of output tokens"
    if protocol.is_refused(result.reply.body):
        return "since the model, or a filter, refused to write it"
    if any(problem.is_undecided for problem in problems):
        return "so that it counts as not valid"
    return None


def _event(job: Job, asks: int, problems: Sequence[Problem], *, is_asked_again: bool) -> ReplyInvalid:
    return ReplyInvalid(
        at=asyncio.get_running_loop().time(),
        custom_id=job.custom_id,
        line=job.line,
        asks=asks,
        problems=tuple(map(str, problems)),
        is_asked_again=is_asked_again,
    )


def _failure(asks: int, problems: Sequence[Problem], reason: str | None) -> Failure:
    more = f" (and {len(problems) - 1} more)" if len(problems) > 1 else ""
    what = "the reply is not valid" if asks == 1 else f"the last of {asks} replies is not valid"
    message = f"{what}: {problems[0]}{more}{f', {reason}' if reason else ''}"
    return Failure(code=INVALID_OUTPUT, message=message, permanent=True)
