"""How OpenAI, Mistral and Together write a batch: what creates one, and what describes one. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, Protocol

from processor.core.fast_dataclass import dataclass
from processor.core.models import JSON
from processor.simulator.batch_pages import numbered_page_of, page_of
from processor.simulator.simulated_batches import BatchState, SimulatedBatch

_WINDOW_S = 24 * 3600


@dataclass(frozen=True, slots=True, kw_only=True)
class WantedBatch:
    """What a request asks for that creates a batch."""

    file_id: str
    endpoint: str
    model: str | None = None
    """Of all its jobs, where it is named once."""
    metadata: Any = None


class ProviderShape(Protocol):
    """What differs between the providers."""

    lines_have_urls: bool
    """Whether each line has a method and a url."""

    def wanted(self, body: JSON) -> WantedBatch:
        """Raises KeyError, TypeError and IndexError where something is missing."""
        ...

    def shown(self, batch: SimulatedBatch, state: BatchState, created_at: int) -> JSON:
        """Describe a batch. ``created_at``: Unix seconds."""
        ...

    def created(self, shown: JSON) -> JSON:
        """The answer to the creation of a batch."""
        ...

    def listed(self, batches: Sequence[JSON], query: Mapping[str, Sequence[str]]) -> Any:
        """The list, or a page of it. ``batches``: the oldest first."""
        ...


class OpenAiShape:
    """https://platform.openai.com/docs/api-reference/batch/object"""

    lines_have_urls = True

    def wanted(self, body: JSON) -> WantedBatch:
        return WantedBatch(file_id=body["input_file_id"], endpoint=body["endpoint"], metadata=body.get("metadata"))

    def shown(self, batch: SimulatedBatch, state: BatchState, created_at: int) -> JSON:
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
            "created_at": created_at,
            "expires_at": created_at + _WINDOW_S,
            "request_counts": {"total": len(batch.lines), "completed": batch.completed, "failed": batch.failed},
            "metadata": batch.metadata,
        }

    def created(self, shown: JSON) -> JSON:
        return shown

    def listed(self, batches: Sequence[JSON], query: Mapping[str, Sequence[str]]) -> Any:
        by_id = {batch["id"]: batch for batch in batches}
        names, has_more = page_of(by_id, query, "after", max_limit=100)
        last = names[-1] if names else None
        return {"object": "list", "data": [by_id[name] for name in names], "last_id": last, "has_more": has_more}


class MistralShape:
    """https://docs.mistral.ai/api/#tag/batch"""

    lines_have_urls = False

    _STATES: Mapping[BatchState, str] = {
        "validating": "QUEUED",
        "in_progress": "RUNNING",
        "finalizing": "RUNNING",
        "cancelling": "CANCELLATION_REQUESTED",
        "completed": "SUCCESS",
        "failed": "FAILED",
        "expired": "TIMEOUT_EXCEEDED",
        "cancelled": "CANCELLED",
    }

    def wanted(self, body: JSON) -> WantedBatch:
        (file_id,) = body["input_files"]
        return WantedBatch(
            file_id=file_id, endpoint=body["endpoint"], model=body["model"], metadata=body.get("metadata")
        )

    def shown(self, batch: SimulatedBatch, state: BatchState, created_at: int) -> JSON:
        errors = [{"message": error["message"], "count": 1} for error in batch.errors]
        return {
            "id": batch.id,
            "object": "batch",
            "input_files": [batch.input_file_id],
            "endpoint": batch.endpoint,
            "model": batch.model,
            "metadata": batch.metadata,
            "status": self._STATES[state],
            "errors": errors if state == "failed" else [],
            "output_file": batch.output_file_id,
            "error_file": batch.error_file_id,
            "created_at": created_at,
            "total_requests": len(batch.lines),
            "completed_requests": batch.completed + batch.failed,
            "succeeded_requests": batch.completed,
            "failed_requests": batch.failed,
        }

    def created(self, shown: JSON) -> JSON:
        return shown

    def listed(self, batches: Sequence[JSON], query: Mapping[str, Sequence[str]]) -> Any:
        return {"object": "list", "data": numbered_page_of(batches, query), "total": len(batches)}


class TogetherShape:
    """https://docs.together.ai/reference/batch-create"""

    lines_have_urls = False

    def wanted(self, body: JSON) -> WantedBatch:
        return WantedBatch(file_id=body["input_file_id"], endpoint=body["endpoint"])

    def shown(self, batch: SimulatedBatch, state: BatchState, created_at: int) -> JSON:
        is_failed = state == "failed"
        shown_state = {"finalizing": "in_progress", "cancelling": "in_progress"}.get(state, state)
        done = batch.completed + batch.failed
        return {
            "id": batch.id,
            "input_file_id": batch.input_file_id,
            "endpoint": batch.endpoint,
            "status": shown_state.upper(),
            "progress": 100 * done / (len(batch.lines) or 1),
            "model_id": batch.model,
            "created_at": datetime.fromtimestamp(created_at, UTC).isoformat(),
            **({"output_file_id": batch.output_file_id} if batch.output_file_id else {}),
            **({"error_file_id": batch.error_file_id} if batch.error_file_id else {}),
            **({"error": "; ".join(error["message"] for error in batch.errors)} if is_failed else {}),
        }

    def created(self, shown: JSON) -> JSON:
        return {"job": shown}

    def listed(self, batches: Sequence[JSON], query: Mapping[str, Sequence[str]]) -> Any:
        return list(batches)[::-1]
