"""The simulated batch API in the shape of Anthropic's. No I/O, no clock.

https://docs.anthropic.com/en/api/creating-message-batches
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import UTC, datetime
from urllib.parse import parse_qs

import orjson

from processor.core.models import JSON
from processor.simulator import error_responses
from processor.simulator.batch_lines import BatchExecution, BatchLine
from processor.simulator.batch_pages import page_of
from processor.simulator.batch_settings import CANCEL_S, LINE_FAULTS
from processor.simulator.response_script import ResponseStep, ScriptedResponse, json_response

_PATH = re.compile(r"/messages/batches(?:/([^/]+)(?:/(results|cancel))?)?$")


@dataclass(slots=True, kw_only=True)
class MessageBatch:
    """One batch. Times are seconds on the provider's clock."""

    id: str
    created_at: float
    lines: list[BatchLine]
    is_expiring: bool
    cancelled_at: float | None = None
    results: list[JSON] | None = None
    """Once it has ended."""

    def count(self, kind: str) -> int:
        return sum(line["result"]["type"] == kind for line in self.results or ())


class MessageBatches:
    """The batches of one provider."""

    def __init__(self, execution: BatchExecution) -> None:
        self._execution = execution
        self._settings = execution.settings
        self._seed = execution.seed
        self._created = 0
        self.batches: dict[str, MessageBatch] = {}
        """By id, the oldest first."""

    def serves(self, path: str) -> bool:
        return _PATH.search(path) is not None

    def handle(self, method: str, path: str, query: str, body: bytes, at: float) -> ScriptedResponse:
        found = _PATH.search(path)
        assert found is not None, "the path is served"
        name, action = found.groups()
        for one in self.batches.values():
            self._advance(one, at)
        if name is None:
            return self._create(body, at) if method == "POST" else self._list(query)
        batch = self.batches.get(name)
        if batch is None:
            return error_responses.not_found(f"No such batch: {name}")
        if action == "results":
            return self._results(batch)
        if action == "cancel":
            batch.cancelled_at = at if batch.cancelled_at is None else batch.cancelled_at
        elif method == "DELETE":
            del self.batches[name]
        return json_response(self._shown(batch))

    def _create(self, body: bytes, at: float) -> ScriptedResponse:
        try:
            requests = orjson.loads(body)["requests"]
            lines = [BatchLine(custom_id=one["custom_id"], path="/v1/messages", body=one["params"]) for one in requests]
        except (orjson.JSONDecodeError, KeyError, TypeError):
            return error_responses.invalid_request("requests: Field required", "requests")
        ids = [line.custom_id for line in lines]
        if len(set(ids)) < len(ids) or any(re.fullmatch(r"[A-Za-z0-9_-]{1,64}", one) is None for one in ids):
            return error_responses.invalid_request(
                "requests: custom_id must be unique, [A-Za-z0-9_-]{1,64}", "requests"
            )
        number, self._created = self._created, self._created + 1
        batch = MessageBatch(
            id=f"msgbatch_{number:04d}",
            created_at=at,
            lines=lines,
            is_expiring=self._settings.draw(("batch_expired",), f"{self._seed}:batch:{number}") is not None,
        )
        self.batches[batch.id] = batch
        if self._settings.draw(("batch_lost_reply",), f"{self._seed}:post:{number}"):
            return error_responses.NO_RESPONSE
        return json_response(self._shown(batch))

    def _list(self, query: str) -> ScriptedResponse:
        names, has_more = page_of(self.batches, parse_qs(query), "after_id", max_limit=1000)
        shown = [self._shown(self.batches[name]) for name in names]
        return json_response({"data": shown, "has_more": has_more, "last_id": names[-1] if names else None})

    def _results(self, batch: MessageBatch) -> ScriptedResponse:
        if batch.results is None:
            return error_responses.not_found(f"{batch.id} has no results yet")
        data = b"".join(orjson.dumps(line, option=orjson.OPT_APPEND_NEWLINE) for line in batch.results)
        return ScriptedResponse(headers={"content-type": "application/x-jsonl"}, steps=(ResponseStep(0.0, data),))

    def _advance(self, batch: MessageBatch, at: float) -> None:
        """End the batch if its time has come."""
        duration_s = self._settings.duration_s
        if batch.results is not None:
            return
        if batch.cancelled_at is not None:
            if at >= batch.cancelled_at + min(CANCEL_S, duration_s):
                answered = self._settings.answered_by(batch.cancelled_at - batch.created_at, len(batch.lines))
                self._end(batch, answered, "canceled")
        elif at >= batch.created_at + duration_s:
            answered = (len(batch.lines) + 1) // 2 if batch.is_expiring else len(batch.lines)
            self._end(batch, answered, "expired")

    def _end(self, batch: MessageBatch, answered: int, left: str) -> None:
        batch.results = []
        for number, line in enumerate(batch.lines):
            result: JSON | None = {"type": left}
            if number < answered:
                self._execution.on_answered(line)
                result = self._result(line, self._settings.draw(LINE_FAULTS, f"{self._seed}:{batch.id}:{number}"))
            if result is not None:
                batch.results.append({"custom_id": line.custom_id, "result": result})

    def _result(self, line: BatchLine, fault: str | None) -> JSON | None:
        if fault == "batch_missing":
            return None
        if fault in ("batch_refused", "batch_server_error", "batch_odd"):
            kind = "invalid_request_error" if fault == "batch_refused" else "api_error"
            error = {"type": "error", "error": {"type": kind, "message": "The request could not be answered."}}
            return {"type": "errored", "error": error}
        try:
            return {"type": "succeeded", "message": self._execution.answer(line.path, line.body)}
        except ValueError as error:
            return {
                "type": "errored",
                "error": {"type": "error", "error": {"type": "invalid_request_error", "message": str(error)}},
            }

    def _shown(self, batch: MessageBatch) -> JSON:
        counts = {kind: batch.count(kind) for kind in ("succeeded", "errored", "canceled", "expired")}
        is_canceling = batch.results is None and batch.cancelled_at is not None
        return {
            "id": batch.id,
            "type": "message_batch",
            "processing_status": "canceling" if is_canceling else "in_progress" if batch.results is None else "ended",
            "request_counts": {"processing": 0 if batch.results is not None else len(batch.lines), **counts},
            "created_at": datetime.fromtimestamp(self._execution.epoch_s + batch.created_at, UTC).isoformat(),
            "expires_at": datetime.fromtimestamp(self._execution.epoch_s + batch.created_at + 86400, UTC).isoformat(),
            "results_url": f"/v1/messages/batches/{batch.id}/results" if batch.results is not None else None,
        }
