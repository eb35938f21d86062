"""The simulated batch API in the shape of OpenAI's: files, and batches that run through their states. No I/O, no clock.

https://platform.openai.com/docs/api-reference/batch
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any
from urllib.parse import parse_qs

import orjson

from processor.core.fast_dataclass import dataclass
from processor.core.models import JSON
from processor.core.text import CHARS_PER_TOKEN
from processor.simulator import error_responses
from processor.simulator.batch_lines import AnswerRequest, BatchLine, answer_lines, parse_lines
from processor.simulator.batch_pages import page_of
from processor.simulator.batch_settings import CANCEL_S, WHOLE_FAULTS, BatchSettings
from processor.simulator.file_store import FileStore, hash_of
from processor.simulator.multipart import form_fields
from processor.simulator.response_script import ResponseStep, ScriptedResponse, json_response

_PATH = re.compile(r"/(files|batches)(?:/([^/]+)(?:/(content|cancel))?)?$")
_VALIDATING_SHARE = 0.1
_FINALIZING_SHARE = 0.9
_WINDOW_S = 24 * 3600


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
    ended_as: str | None = None
    """Its final state, once its files have been made."""
    output_file_id: str | None = None
    error_file_id: str | None = None
    completed: int = 0
    failed: int = 0


class BatchApi:
    """Files and batches of one provider. ``on_answered`` is called with each line that has been executed."""

    def __init__(
        self,
        settings: BatchSettings,
        *,
        seed: int,
        epoch_s: float,
        answer: AnswerRequest,
        on_answered: Callable[[BatchLine], None],
    ) -> None:
        self._settings = settings
        self._seed = seed
        self._epoch_s = epoch_s
        self._answer = answer
        self._on_answered = on_answered
        self.files = FileStore(epoch_s)
        self.batches: dict[str, SimulatedBatch] = {}
        """By id, the oldest first."""

    def serves(self, path: str) -> bool:
        return _PATH.search(path) is not None

    def handle(
        self, method: str, path: str, query: str, headers: Mapping[str, str], body: bytes, at: float
    ) -> ScriptedResponse:
        found = _PATH.search(path)
        assert found is not None, "the path is served"
        kind, name, action = found.groups()
        for batch in self.batches.values():
            self._advance(batch, at)
        handler = _HANDLERS.get((method, kind, name is not None, action))
        if handler is None:
            return error_responses.wrong_method(method, path)
        if kind == "files" and name is not None and name not in self.files.about:
            return error_responses.not_found(f"No such File object: {name}")
        if kind == "batches" and name is not None and name not in self.batches:
            return error_responses.not_found(f"No batch found with id '{name}'.")
        return handler(self, _Call(name or "", parse_qs(query), headers, body, at))

    # ------------------------------------------------------------ files

    def upload(self, call: _Call) -> ScriptedResponse:
        fields = form_fields(call.headers.get("content-type", ""), call.body)
        if "file" not in fields or fields.get("purpose") != b"batch":
            return error_responses.invalid_request("a file and the purpose batch are required", "purpose")
        return json_response(self.files.add(fields["file"], "batch", call.at, fields.get("filename", b"").decode()))

    def list_files(self, call: _Call) -> ScriptedResponse:
        return json_response({"object": "list", "data": list(self.files.about.values()), "has_more": False})

    def file(self, call: _Call) -> ScriptedResponse:
        return json_response(self.files.about[call.name])

    def content(self, call: _Call) -> ScriptedResponse:
        return ScriptedResponse(
            headers={"content-type": "application/octet-stream"},
            steps=(ResponseStep(0.0, self.files.contents[call.name]),),
        )

    def delete_file(self, call: _Call) -> ScriptedResponse:
        self.files.delete(call.name)
        return json_response({"id": call.name, "object": "file", "deleted": True})

    # ------------------------------------------------------------ batches

    def create(self, call: _Call) -> ScriptedResponse:
        try:
            wanted = orjson.loads(call.body)
            file_id, endpoint = wanted["input_file_id"], wanted["endpoint"]
        except (orjson.JSONDecodeError, KeyError, TypeError):
            return error_responses.invalid_request("input_file_id and endpoint are required", "input_file_id")
        if file_id not in self.files.contents:
            return error_responses.invalid_request(f"No such File object: {file_id}", "input_file_id")
        lines, errors = parse_lines(self.files.contents[file_id], endpoint)
        if len(lines) > self._settings.max_lines:
            message = f"The batch has more than {self._settings.max_lines} requests."
            errors.append({"code": "too_many_tasks", "message": message, "line": None, "param": None})
        number = len(self.batches)
        tokens = sum(_tokens(line) for line in lines)
        batch = SimulatedBatch(
            id=f"batch_{number:04d}{hash_of(file_id.encode())}",
            input_file_id=file_id,
            endpoint=endpoint,
            metadata=wanted.get("metadata"),
            created_at=call.at,
            lines=lines,
            errors=errors,
            fault=self._settings.draw(WHOLE_FAULTS, f"{self._seed}:batch:{number}"),
            tokens=tokens,
            model=str(lines[0].body.get("model")) if lines else "",
        )
        self._check_room(batch)
        self.batches[batch.id] = batch
        if self._settings.draw(("batch_lost_reply",), f"{self._seed}:post:{number}"):
            return error_responses.NO_RESPONSE
        return json_response(self._shown(batch, call.at))

    def _check_room(self, batch: SimulatedBatch) -> None:
        limit = self._settings.enqueued_tokens
        open_ones = (one for one in self.batches.values() if one.ended_as is None and one.model == batch.model)
        enqueued = sum(one.tokens for one in open_ones if not one.errors)
        if limit is not None and enqueued + batch.tokens > limit:
            message = f"Enqueued token limit reached for {batch.model}. Limit: {limit} enqueued tokens."
            batch.errors.append({"code": "token_limit_exceeded", "message": message, "line": None, "param": None})

    def list_batches(self, call: _Call) -> ScriptedResponse:
        names, has_more = page_of(self.batches, call.query, "after", max_limit=100)
        shown = [self._shown(self.batches[name], call.at) for name in names]
        last = names[-1] if names else None
        return json_response({"object": "list", "data": shown, "last_id": last, "has_more": has_more})

    def batch(self, call: _Call) -> ScriptedResponse:
        return json_response(self._shown(self.batches[call.name], call.at))

    def cancel(self, call: _Call) -> ScriptedResponse:
        batch = self.batches[call.name]
        if batch.ended_as is not None or batch.cancelled_at is not None:
            state = self._state(batch, call.at)
            return error_responses.invalid_request(f"Cannot cancel a batch with status '{state}'.", None)
        batch.cancelled_at = call.at
        return json_response(self._shown(batch, call.at))

    def _state(self, batch: SimulatedBatch, at: float) -> str:
        if batch.ended_as is not None:
            return batch.ended_as
        if batch.cancelled_at is not None:
            return "cancelling"
        share = (at - batch.created_at) / self._settings.duration_s if self._settings.duration_s else 1.0
        if share < _VALIDATING_SHARE:
            return "validating"
        return "in_progress" if share < _FINALIZING_SHARE else "finalizing"

    def _advance(self, batch: SimulatedBatch, at: float) -> None:
        """End the batch if its time has come."""
        if batch.ended_as is not None:
            return
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

    def _end(self, batch: SimulatedBatch, state: str, answered: int, at: float) -> None:
        batch.ended_as = state
        files = answer_lines(
            batch.lines,
            answered,
            "batch_expired" if state == "expired" else "batch_cancelled",
            self._answer,
            self._settings,
            f"{self._seed}:{batch.id}",
            all_fail=batch.fault == "batch_all_failed",
        )
        for line in batch.lines[:answered]:
            self._on_answered(line)
        batch.completed, batch.failed = files.completed, files.failed
        if files.output:
            batch.output_file_id = self.files.add(bytes(files.output), "batch_output", at)["id"]
        if files.errors:
            batch.error_file_id = self.files.add(bytes(files.errors), "batch_output", at)["id"]

    def _shown(self, batch: SimulatedBatch, at: float) -> JSON:
        state = self._state(batch, at)
        return {
            "id": batch.id,
            "object": "batch",
            "endpoint": batch.endpoint,
            "errors": {"object": "list", "data": batch.errors} if state == "failed" else None,
            "input_file_id": batch.input_file_id,
            "completion_window": "24h",
            "status": state,
            "output_file_id": batch.output_file_id,
            "error_file_id": batch.error_file_id,
            "created_at": self._unix(batch.created_at),
            "expires_at": self._unix(batch.created_at) + _WINDOW_S,
            "request_counts": {"total": len(batch.lines), "completed": batch.completed, "failed": batch.failed},
            "metadata": batch.metadata,
        }

    def _unix(self, at: float) -> int:
        return int(self._epoch_s + at)


@dataclass(frozen=True, slots=True)
class _Call:
    name: str
    query: Mapping[str, list[str]]
    headers: Mapping[str, str]
    body: bytes
    at: float


_Handler = Callable[[BatchApi, _Call], ScriptedResponse]
_HANDLERS: Mapping[tuple[str, str, bool, str | None], _Handler] = {
    ("POST", "files", False, None): BatchApi.upload,
    ("GET", "files", False, None): BatchApi.list_files,
    ("GET", "files", True, None): BatchApi.file,
    ("GET", "files", True, "content"): BatchApi.content,
    ("DELETE", "files", True, None): BatchApi.delete_file,
    ("POST", "batches", False, None): BatchApi.create,
    ("GET", "batches", False, None): BatchApi.list_batches,
    ("GET", "batches", True, None): BatchApi.batch,
    ("POST", "batches", True, "cancel"): BatchApi.cancel,
}


def _tokens(line: BatchLine) -> int:
    return len(orjson.dumps(line.body)) // CHARS_PER_TOKEN
