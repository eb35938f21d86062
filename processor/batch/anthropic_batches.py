"""Anthropic's batch API: the jobs are sent when a batch is created, and a batch has no metadata.

https://docs.anthropic.com/en/api/creating-message-batches
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from urllib.parse import quote

from processor.batch.answers import id_in, sum_of, text_of
from processor.batch.batch_pages import batches_by_cursor, is_older
from processor.batch.file_lines import lines_from
from processor.batch.job_lines import job_line
from processor.batch.open_batch import OpenBatch
from processor.batch.provider_batches import RemoteBatch, ResultLine
from processor.core.api_calls import ApiCall, ApiClient, FileBody
from processor.core.json_reading import exact_fields, fields_of, unix_time_of
from processor.core.models import JSON, Job
from processor.protocols import RequestOptions, protocol_for
from processor.protocols.error_mapping import error_from_event

PATH = "/v1/messages/batches"
_HEADERS = protocol_for("/v1/messages").headers
_DONE = ("succeeded", "errored", "canceled", "expired")
"""The counts of jobs that are not awaited any more."""
_CODES = {"expired": "batch_expired", "canceled": "batch_cancelled"}


class AnthropicBatches:
    """A ``ProviderBatches``."""

    is_found_in_list = False
    uploads_first = False
    head, separator, tail = b'{"requests":[', b",", b"]}"

    def __init__(self, client: ApiClient, options: RequestOptions) -> None:
        self._client = client
        self._options = options

    def line(self, own_id: str, job: Job) -> bytes:
        """See ``ProviderBatches``."""
        return job_line(own_id, job, self._options, field="params")

    async def upload(self, batch: OpenBatch, file: FileBody) -> None:
        """See ``ProviderBatches``. Nothing is uploaded before the batch is created."""

    async def create(self, batch: OpenBatch, file: FileBody | None) -> RemoteBatch:
        """See ``ProviderBatches``."""
        return _remote(await self._client.call(ApiCall(method="POST", path=PATH, file=file, headers=_HEADERS)))

    async def batch(self, batch_id: str) -> RemoteBatch:
        """See ``ProviderBatches``."""
        return _remote(await self._client.call(ApiCall(method="GET", path=_path(batch_id), headers=_HEADERS)))

    async def list_since(self, unix_s: float) -> AsyncIterator[RemoteBatch]:
        """See ``ProviderBatches``. The newest come first, and older ones are left out."""
        call = ApiCall(method="GET", path=PATH, headers=_HEADERS)
        async for remote in batches_by_cursor(unix_s, self._client, call, "after_id", _remote):
            if is_older(remote, unix_s, self._client):
                return
            yield remote

    async def results(self, remote: RemoteBatch) -> AsyncIterator[ResultLine]:
        """See ``ProviderBatches``. The address that the provider names for them is not used."""
        if not remote.id:
            return
        async for raw in lines_from(self._client.download(f"{_path(remote.id)}/results", _HEADERS)):
            if raw.strip():
                yield result_line(raw)

    async def cancel(self, batch_id: str) -> None:
        """See ``ProviderBatches``."""
        await self._client.call(ApiCall(method="POST", path=f"{_path(batch_id)}/cancel", headers=_HEADERS))

    async def delete_uploads(self, batch: OpenBatch) -> None:
        """See ``ProviderBatches``. There are none."""

    async def delete_file(self, file_id: str) -> None:
        """See ``ProviderBatches``. What is deleted is the batch, with its requests and results."""
        await self._client.call(ApiCall(method="DELETE", path=_path(file_id), headers=_HEADERS))


def result_line(raw: bytes) -> ResultLine:
    """A line of the results."""
    line = exact_fields(raw)
    result = fields_of(line.get("result"))
    kind, own_id = result.get("type"), line.get("custom_id")
    if kind == "succeeded":
        return ResultLine(own_id=own_id, status=200, body=fields_of(result.get("message")))
    if kind == "errored":
        error = fields_of(result.get("error"))
        status, request_id = error_from_event(error).status, text_of(error.get("request_id"))
        return ResultLine(own_id=own_id, status=status, body=error, request_id=request_id or None)
    return ResultLine(own_id=own_id, status=None, code=_CODES.get(str(kind)))


def _path(batch_id: str) -> str:
    return f"{PATH}/{quote(batch_id, safe='')}"


def _remote(answer: JSON) -> RemoteBatch:
    """The counts of what is done are 0 until the whole batch has ended."""
    name, status = id_in(answer), text_of(answer.get("processing_status"))
    counts = fields_of(answer.get("request_counts"))
    return RemoteBatch(
        id=name,
        status=status,
        ended_as="completed" if status == "ended" else None,
        done=sum_of(*(counts.get(kind) for kind in _DONE)) if status == "ended" else None,
        result_files=(name,),
        created_at=unix_time_of(answer.get("created_at")),
    )
