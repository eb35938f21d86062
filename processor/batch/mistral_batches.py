"""Mistral's batch API: files as with OpenAI, and batches of one model each, which is named once.

https://docs.mistral.ai/capabilities/batch
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import replace
from typing import Any

from processor.batch.answers import NAME_FIELD, id_in, ids_of, name_in, sum_of, text_of
from processor.batch.batch_pages import PAGE, batches_by_page_number
from processor.batch.file_batches import FileBatches
from processor.batch.job_lines import job_line
from processor.batch.open_batch import OpenBatch
from processor.batch.provider_batches import BatchError, Ending, RemoteBatch
from processor.core.api_calls import ApiCall
from processor.core.json_reading import number_of
from processor.core.models import JSON, Job

TIMEOUT_HOURS = 24
_ENDINGS: dict[str, Ending] = {
    "SUCCESS": "completed",
    "FAILED": "failed",
    "TIMEOUT_EXCEEDED": "expired",
    "CANCELLED": "cancelled",
}


class MistralBatches(FileBatches):
    """A ``ProviderBatches``."""

    path = "/v1/batch/jobs"
    newest_files = (("purpose", "batch"), ("page", "0"), ("page_size", str(PAGE)))

    def line(self, own_id: str, job: Job) -> bytes:
        """See ``ProviderBatches``. The model stands in the batch."""
        body = {name: value for name, value in job.body.items() if name != "model"}
        return job_line(own_id, replace(job, body=body), self._options)

    def list_since(self, unix_s: float) -> AsyncIterator[RemoteBatch]:
        """See ``ProviderBatches``. The newest come first."""
        call = ApiCall(method="GET", path=self.path, query=(("order_by", "-created"),))
        return batches_by_page_number(unix_s, self._client, call, self._remote)

    def _request(self, batch: OpenBatch) -> JSON:
        return {
            "input_files": [batch.file_id],
            "endpoint": batch.path,
            "model": batch.model,
            "timeout_hours": TIMEOUT_HOURS,
            "metadata": {NAME_FIELD: batch.name},
        }

    def _remote(self, answer: JSON) -> RemoteBatch:
        status, inputs, errors = text_of(answer.get("status")), answer.get("input_files"), answer.get("errors")
        return RemoteBatch(
            id=id_in(answer),
            status=status,
            ended_as=_ENDINGS.get(status),
            done=sum_of(answer.get("succeeded_requests"), answer.get("failed_requests")),
            result_files=ids_of(answer.get("output_file"), answer.get("error_file")),
            input_file=next(iter(ids_of(*inputs)), None) if isinstance(inputs, list) else None,
            errors=tuple(map(_error, errors)) if isinstance(errors, list) else (),
            created_at=number_of(answer.get("created_at")),
            name=name_in(answer),
        )


def _error(error: Any) -> BatchError:
    """Mistral's errors have a message and a count of jobs, but neither a code nor a line."""
    return BatchError(code="failed", message=text_of(error.get("message")) if isinstance(error, dict) else "")
