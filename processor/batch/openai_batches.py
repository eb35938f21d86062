"""OpenAI's batch API, and those of the providers that have taken it over.

https://platform.openai.com/docs/api-reference/batch
"""

from __future__ import annotations

from collections.abc import AsyncIterator

from processor.batch.answers import NAME_FIELD, id_in, ids_of, name_in, sum_of, text_of
from processor.batch.batch_pages import PAGE, batches_by_cursor
from processor.batch.file_batches import FileBatches
from processor.batch.job_lines import job_line
from processor.batch.open_batch import OpenBatch
from processor.batch.provider_batches import BatchError, Ending, RemoteBatch
from processor.core.api_calls import ApiCall
from processor.core.json_reading import fields_of, number_of
from processor.core.models import JSON, Job

ENDINGS: dict[str, Ending] = {
    "completed": "completed",
    "failed": "failed",
    "expired": "expired",
    "cancelled": "cancelled",
}


class OpenAiBatches(FileBatches):
    """A ``ProviderBatches``."""

    path = "/v1/batches"
    newest_files = (("purpose", "batch"), ("limit", str(PAGE)))

    def line(self, own_id: str, job: Job) -> bytes:
        """See ``ProviderBatches``."""
        return job_line(own_id, job, self._options, method="POST", url=self._url(job.path))

    def list_since(self, unix_s: float) -> AsyncIterator[RemoteBatch]:
        """See ``ProviderBatches``. The newest come first."""
        call = ApiCall(method="GET", path=self.path)
        return batches_by_cursor(unix_s, self._client, call, "after", self._remote)

    def _request(self, batch: OpenBatch) -> JSON:
        return {
            "input_file_id": batch.file_id,
            "endpoint": self._url(batch.path),
            "completion_window": "24h",
            "metadata": {NAME_FIELD: batch.name},
        }

    def _url(self, path: str) -> str:
        """The API path of jobs as the provider writes it."""
        return path

    def _remote(self, answer: JSON) -> RemoteBatch:
        counts, status = fields_of(answer.get("request_counts")), text_of(answer.get("status"))
        errors = fields_of(answer.get("errors")).get("data")
        return RemoteBatch(
            id=id_in(answer),
            status=status,
            ended_as=ENDINGS.get(status),
            done=sum_of(counts.get("completed"), counts.get("failed")) if counts else None,
            result_files=ids_of(answer.get("output_file_id"), answer.get("error_file_id")),
            input_file=text_of(answer.get("input_file_id")) or None,
            errors=tuple(_error(one) for one in errors if isinstance(one, dict)) if isinstance(errors, list) else (),
            created_at=number_of(answer.get("created_at")),
            name=name_in(answer),
        )


class AzureDeploymentBatches(OpenAiBatches):
    """Azure's batches at addresses with an ``api-version``, where API paths have no ``/v1``."""

    def _url(self, path: str) -> str:
        return path.removeprefix("/v1")


def _error(fields: JSON) -> BatchError:
    line = fields.get("line")
    return BatchError(
        code=text_of(fields.get("code")) or "unknown",
        message=text_of(fields.get("message")),
        line=line if type(line) is int and line > 0 else None,
    )
