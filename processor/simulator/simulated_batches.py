"""The simulated batches whose jobs come as a file, and how they run through their states. No I/O, no clock.

https://platform.openai.com/docs/api-reference/batch
"""

from __future__ import annotations

from typing import Any, Literal

import orjson

from processor.core.fast_dataclass import dataclass
from processor.core.models import JSON
from processor.core.text import CHARS_PER_TOKEN
from processor.simulator.batch_lines import BatchExecution, BatchLine, answer_lines
from processor.simulator.batch_settings import CANCEL_S, WHOLE_FAULTS
from processor.simulator.file_store import FileStore, hash_of

BatchState = Literal[
    "validating", "in_progress", "finalizing", "cancelling", "completed", "failed", "expired", "cancelled"
]
_VALIDATING_SHARE = 0.1
_FINALIZING_SHARE = 0.9


@dataclass(slots=True, kw_only=True)
class SimulatedBatch:
    """One batch. Times are seconds on the provider's clock."""

    id: str
    input_file_id: str
    endpoint: str
    metadata: Any
    created_at: float
    lines: list[BatchLine]
    errors: list[JSON]
    fault: str | None
    tokens: int
    model: str
    cancelled_at: float | None = None
    ended_as: Literal["completed", "failed", "expired", "cancelled"] | None = None
    """Its final state, once its files have been made."""
    output_file_id: str | None = None
    error_file_id: str | None = None
    completed: int = 0
    failed: int = 0


class SimulatedBatches:
    """The batches of one provider."""

    def __init__(self, execution: BatchExecution) -> None:
        self._execution = execution
        self._settings = execution.settings
        self._seed = execution.seed
        self.files = FileStore(execution.epoch_s)
        self.batches: dict[str, SimulatedBatch] = {}
        """By id, the oldest first."""

    def create(
        self, file_id: str, endpoint: str, metadata: Any, lines: list[BatchLine], errors: list[JSON], at: float
    ) -> SimulatedBatch:
        """Create a batch from the lines of a file. ``errors``: what is wrong with them; it then fails."""
        if len(lines) > self._settings.max_lines:
            message = f"The batch has more than {self._settings.max_lines} requests."
            errors.append({"code": "too_many_tasks", "message": message, "line": None, "param": None})
        number = len(self.batches)
        batch = SimulatedBatch(
            id=f"batch_{number:04d}{hash_of(file_id.encode())}",
            input_file_id=file_id,
            endpoint=endpoint,
            metadata=metadata,
            created_at=at,
            lines=lines,
            errors=errors,
            fault=self._settings.draw(WHOLE_FAULTS, f"{self._seed}:batch:{number}"),
            tokens=sum(map(_tokens, lines)),
            model=str(lines[0].body.get("model")) if lines else "",
        )
        self._check_room(batch)
        self.batches[batch.id] = batch
        return batch

    def loses_reply(self, batch: SimulatedBatch) -> bool:
        """Whether the connection is reset before the response to the creation of this batch."""
        number = list(self.batches).index(batch.id)
        return self._settings.draw(("batch_lost_reply",), f"{self._seed}:post:{number}") is not None

    def _check_room(self, batch: SimulatedBatch) -> None:
        limit = self._settings.enqueued_tokens
        open_ones = (one for one in self.batches.values() if one.ended_as is None and one.model == batch.model)
        enqueued = sum(one.tokens for one in open_ones if not one.errors)
        if limit is not None and enqueued + batch.tokens > limit:
            message = f"Enqueued token limit reached for {batch.model}. Limit: {limit} enqueued tokens."
            batch.errors.append({"code": "token_limit_exceeded", "message": message, "line": None, "param": None})

    def cancel(self, batch: SimulatedBatch, at: float) -> bool:
        """Begin to cancel a batch. False where it has ended, or is being cancelled."""
        if batch.ended_as is not None or batch.cancelled_at is not None:
            return False
        batch.cancelled_at = at
        return True

    def state(self, batch: SimulatedBatch, at: float) -> BatchState:
        if batch.ended_as is not None:
            return batch.ended_as
        if batch.cancelled_at is not None:
            return "cancelling"
        share = (at - batch.created_at) / self._settings.duration_s if self._settings.duration_s else 1.0
        if share < _VALIDATING_SHARE:
            return "validating"
        return "in_progress" if share < _FINALIZING_SHARE else "finalizing"

    def advance(self, at: float) -> None:
        """End the batches whose time has come."""
        for batch in self.batches.values():
            if batch.ended_as is None:
                self._advance(batch, at)

    def _advance(self, batch: SimulatedBatch, at: float) -> None:
        duration_s = self._settings.duration_s
        age_s = at - batch.created_at
        is_failed = bool(batch.errors) or batch.fault == "batch_failed"
        if is_failed and age_s >= _VALIDATING_SHARE * duration_s:
            batch.ended_as = "failed"
            if not batch.errors:
                message = "The batch could not be processed."
                batch.errors.append({"code": "internal_error", "message": message, "line": None, "param": None})
        elif batch.cancelled_at is not None and at >= batch.cancelled_at + min(CANCEL_S, duration_s):
            answered = self._settings.answered_by(batch.cancelled_at - batch.created_at, len(batch.lines))
            self._end(batch, "cancelled", answered, at)
        elif batch.cancelled_at is None and age_s >= duration_s:
            is_expired = batch.fault == "batch_expired"
            answered = (len(batch.lines) + 1) // 2 if is_expired else len(batch.lines)
            self._end(batch, "expired" if is_expired else "completed", answered, at)

    def _end(
        self, batch: SimulatedBatch, state: Literal["completed", "expired", "cancelled"], answered: int, at: float
    ) -> None:
        batch.ended_as = state
        files = answer_lines(
            batch.lines,
            answered,
            "batch_expired" if state == "expired" else "batch_cancelled",
            self._execution.answer,
            self._settings,
            f"{self._seed}:{batch.id}",
            all_fail=batch.fault == "batch_all_failed",
        )
        for line in batch.lines[:answered]:
            self._execution.on_answered(line)
        batch.completed, batch.failed = files.completed, files.failed
        if files.output:
            batch.output_file_id = self.files.add(bytes(files.output), "batch_output", at)["id"]
        if files.errors:
            batch.error_file_id = self.files.add(bytes(files.errors), "batch_output", at)["id"]

    def unix(self, at: float) -> int:
        return int(self._execution.epoch_s + at)


def _tokens(line: BatchLine) -> int:
    return len(orjson.dumps(line.body)) // CHARS_PER_TOKEN
