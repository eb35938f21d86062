"""Together's batch API: like OpenAI's, with answers of another shape, and without metadata.

https://docs.together.ai/docs/inference/batch/overview
"""

from __future__ import annotations

from collections.abc import AsyncIterator

from processor.batch.answers import id_in, ids_of, text_of
from processor.batch.batch_pages import batches_in
from processor.batch.file_batches import FileBatches
from processor.batch.job_lines import job_line
from processor.batch.open_batch import OpenBatch
from processor.batch.openai_batches import ENDINGS
from processor.batch.provider_batches import BatchError, RemoteBatch
from processor.core.api_calls import ApiCall
from processor.core.json_reading import fields_of, unix_time_of
from processor.core.models import JSON, Job


class TogetherBatches(FileBatches):
    """A ``ProviderBatches``."""

    path = "/v1/batches"
    upload_path = "/v1/files/upload"
    upload_purpose = "batch-api"
    sends_file_name = True
    newest_files = ()

    def line(self, own_id: str, job: Job) -> bytes:
        """See ``ProviderBatches``."""
        return job_line(own_id, job, self._options)

    async def list_since(self, unix_s: float) -> AsyncIterator[RemoteBatch]:
        """See ``ProviderBatches``. Together lists all of them at once."""
        for remote in batches_in(await self._client.call(ApiCall(method="GET", path=self.path)), self._remote):
            yield remote

    def _request(self, batch: OpenBatch) -> JSON:
        return {"input_file_id": batch.file_id, "endpoint": batch.path, "completion_window": "24h"}

    def _remote(self, answer: JSON) -> RemoteBatch:
        """Where a batch is created, the answer has it in a field. Of the jobs that are done it has a share only."""
        found = fields_of(answer.get("job")) or answer
        status, error = text_of(found.get("status")), text_of(found.get("error"))
        return RemoteBatch(
            id=id_in(found),
            status=status,
            ended_as=ENDINGS.get(status.lower()),
            result_files=ids_of(found.get("output_file_id"), found.get("error_file_id")),
            input_file=text_of(found.get("input_file_id")) or None,
            errors=(BatchError(code="failed", message=error),) if error else (),
            created_at=unix_time_of(found.get("created_at")),
        )
