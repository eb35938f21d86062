"""OpenAI's batch API, and those of the providers that have taken it over.

https://platform.openai.com/docs/api-reference/batch
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import replace
from typing import Any
from urllib.parse import quote

import orjson

from processor.batch.batch_pages import pages_since
from processor.batch.file_lines import lines_from
from processor.batch.open_batch import OpenBatch
from processor.batch.provider_batches import BatchError, Ending, RemoteBatch, ResultLine
from processor.core.api_calls import ApiCall, ApiClient, FileBody, FormBody
from processor.core.errors import ProtocolError
from processor.core.json_reading import exact_fields, fields_of, number_of
from processor.core.models import JSON, Job
from processor.protocols import RequestOptions, protocol_for
from processor.protocols.base import STREAM_FIELDS

NAME_FIELD = "processor_batch"
"""The field of a batch's metadata that holds its name."""

_ENDINGS: dict[str, Ending] = {
    "completed": "completed",
    "failed": "failed",
    "expired": "expired",
    "cancelled": "cancelled",
}
_UNSTREAMED = b',"stream":false}'
_PAGE = 100


class OpenAiBatches:
    """A ``ProviderBatches``."""

    has_metadata = True
    uploads_first = True
    head, separator, tail = b"", b"\n", b"\n"

    def __init__(self, client: ApiClient, options: RequestOptions) -> None:
        """``options``: how requests are made for this provider."""
        self._client = client
        self._options = replace(options, streamed=False)

    def line(self, own_id: str, job: Job) -> bytes:
        """See ``ProviderBatches``."""
        head = orjson.dumps({"custom_id": own_id, "method": "POST", "url": job.path})
        return head[:-1] + b',"body":' + unstreamed_body(job, self._options) + b"}"

    async def upload(self, batch: OpenBatch, file: FileBody) -> str | None:
        """See ``ProviderBatches``."""
        form = FormBody(fields=(("purpose", "batch"),), file_name=f"{batch.name}.jsonl", file=file)
        answer = await self._client.call(ApiCall(method="POST", path="/v1/files", form=form))
        return id_in(answer)

    async def create(self, batch: OpenBatch, file: FileBody | None) -> RemoteBatch:
        """See ``ProviderBatches``."""
        wanted = {
            "input_file_id": batch.file_id,
            "endpoint": batch.path,
            "completion_window": "24h",
            "metadata": {NAME_FIELD: batch.name},
        }
        return _remote(await self._client.call(ApiCall(method="POST", path="/v1/batches", json=wanted)))

    async def batch(self, batch_id: str) -> RemoteBatch:
        """See ``ProviderBatches``."""
        path = f"/v1/batches/{quote(batch_id, safe='')}"
        return _remote(await self._client.call(ApiCall(method="GET", path=path)))

    async def list_since(self, unix_s: float) -> AsyncIterator[RemoteBatch]:
        """See ``ProviderBatches``. The newest come first."""
        async for page in pages_since(
            unix_s, self._client, ApiCall(method="GET", path="/v1/batches"), "after", _remote
        ):
            for remote in page:
                yield remote

    async def results(self, remote: RemoteBatch) -> AsyncIterator[ResultLine]:
        """See ``ProviderBatches``."""
        for name in remote.result_files:
            async for raw in lines_from(self._client.download(f"/v1/files/{quote(name, safe='')}/content")):
                if raw.strip():
                    yield result_line(raw)

    async def cancel(self, batch_id: str) -> None:
        """See ``ProviderBatches``."""
        await self._client.call(ApiCall(method="POST", path=f"/v1/batches/{quote(batch_id, safe='')}/cancel"))

    async def delete_uploads(self, batch: OpenBatch) -> None:
        """See ``ProviderBatches``. They are found by their name, among the newest files."""
        query = (("purpose", "batch"), ("limit", str(_PAGE)))
        page = await self._client.call(ApiCall(method="GET", path="/v1/files", query=query))
        for file in page.get("data") or []:
            if isinstance(file, dict) and file.get("filename") == f"{batch.name}.jsonl":
                await self.delete_file(id_in(file))

    async def delete_file(self, file_id: str) -> None:
        """See ``ProviderBatches``."""
        await self._client.call(ApiCall(method="DELETE", path=f"/v1/files/{quote(file_id, safe='')}"))


def unstreamed_body(job: Job, options: RequestOptions) -> bytes:
    """The request body of a job as it is sent unstreamed, whatever the job asks for."""
    body = {name: value for name, value in job.body.items() if name not in STREAM_FIELDS}
    data = protocol_for(job.path).encode(replace(job, body=body), options)
    # Protocols add it at the end. Not all batch APIs know the field.
    return data[: -len(_UNSTREAMED)] + b"}" if data.endswith(_UNSTREAMED) else data


def id_in(answer: JSON) -> str:
    """The id of what was created. Raises ProtocolError."""
    name = answer.get("id")
    if not isinstance(name, str) or not name:
        raise ProtocolError("the answer of the batch API has no id")
    return name


def result_line(raw: bytes) -> ResultLine:
    """A line of the output file or of the error file.

    Lines of the error file were seen with ``status_code`` 0, an empty text as the body, and no error.
    """
    line = exact_fields(raw)  # a line that is none is of no job, which then counts as missing
    response, error = fields_of(line.get("response")), fields_of(line.get("error"))
    status = response.get("status_code")
    request_id = response.get("request_id")
    return ResultLine(
        own_id=line.get("custom_id"),
        status=status if type(status) is int and status >= 100 else None,
        body=fields_of(response.get("body")),
        request_id=request_id if isinstance(request_id, str) and request_id else None,
        code=_text(error.get("code")) or None,
        message=_text(error.get("message")),
    )


def _remote(answer: JSON) -> RemoteBatch:
    counts, status = fields_of(answer.get("request_counts")), _text(answer.get("status"))
    files = (answer.get("output_file_id"), answer.get("error_file_id"))
    errors = fields_of(answer.get("errors")).get("data")
    name = fields_of(answer.get("metadata")).get(NAME_FIELD)
    return RemoteBatch(
        id=id_in(answer),
        status=status,
        ended_as=_ENDINGS.get(status),
        total=count_of(counts.get("total")),
        completed=count_of(counts.get("completed")),
        failed=count_of(counts.get("failed")),
        result_files=tuple(file for file in files if isinstance(file, str) and file),
        input_file=_text(answer.get("input_file_id")) or None,
        errors=tuple(_error(one) for one in errors if isinstance(one, dict)) if isinstance(errors, list) else (),
        created_at=number_of(answer.get("created_at")),
        name=name if isinstance(name, str) else None,
    )


def _error(fields: JSON) -> BatchError:
    line = fields.get("line")
    return BatchError(
        code=_text(fields.get("code")) or "unknown",
        message=_text(fields.get("message")),
        line=line if type(line) is int and line > 0 else None,
    )


def _text(value: Any) -> str:
    return value if isinstance(value, str) else ""


def count_of(value: Any) -> int:
    """A number of jobs; 0 where it is none."""
    return value if type(value) is int else 0
