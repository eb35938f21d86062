"""What the batch APIs have in common that take the jobs as a file of ``/v1/files``, as OpenAI's does."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import AsyncIterator
from typing import ClassVar
from urllib.parse import quote

from processor.batch.answers import id_in, result_line
from processor.batch.file_lines import lines_from
from processor.batch.open_batch import OpenBatch
from processor.batch.provider_batches import RemoteBatch, ResultLine
from processor.core.api_calls import ApiCall, ApiClient, FileBody, FormBody
from processor.core.models import JSON, Job
from processor.protocols import RequestOptions

FILES = "/v1/files"


class FileBatches(ABC):
    """A ``ProviderBatches``, but for what differs between the providers."""

    is_found_in_list = True
    uploads_first = True
    head, separator, tail = b"", b"\n", b"\n"

    path: ClassVar[str]
    """The API path of the list of batches."""
    upload_path: ClassVar[str] = FILES
    upload_purpose: ClassVar[str] = "batch"
    sends_file_name: ClassVar[bool] = False
    """Whether the form of an upload has a field for the file's name."""
    newest_files: ClassVar[tuple[tuple[str, str], ...]]
    """The query that lists the newest of the files that are uploaded for batches."""

    def __init__(self, client: ApiClient, options: RequestOptions) -> None:
        """``options``: how requests are made for this provider."""
        self._client = client
        self._options = options

    # ------------------------------------------------------------ what differs

    @abstractmethod
    def line(self, own_id: str, job: Job) -> bytes:
        """See ``ProviderBatches``."""

    @abstractmethod
    def list_since(self, unix_s: float) -> AsyncIterator[RemoteBatch]:
        """See ``ProviderBatches``."""

    @abstractmethod
    def _request(self, batch: OpenBatch) -> JSON:
        """What creates the batch from its uploaded file."""

    @abstractmethod
    def _remote(self, answer: JSON) -> RemoteBatch:
        """The batch that the provider describes. Raises ProtocolError."""

    # ------------------------------------------------------------ batches

    async def create(self, batch: OpenBatch, file: FileBody | None) -> RemoteBatch:
        """See ``ProviderBatches``."""
        call = ApiCall(method="POST", path=self.path, json=self._request(batch))
        return self._remote(await self._client.call(call))

    async def batch(self, batch_id: str) -> RemoteBatch:
        """See ``ProviderBatches``."""
        return self._remote(await self._client.call(ApiCall(method="GET", path=self._path_of(batch_id))))

    async def cancel(self, batch_id: str) -> None:
        """See ``ProviderBatches``."""
        await self._client.call(ApiCall(method="POST", path=f"{self._path_of(batch_id)}/cancel"))

    def _path_of(self, batch_id: str) -> str:
        return f"{self.path}/{quote(batch_id, safe='')}"

    # ------------------------------------------------------------ files

    async def upload(self, batch: OpenBatch, file: FileBody) -> str:
        """See ``ProviderBatches``."""
        name = _file_name(batch)
        named = (("file_name", name),) if self.sends_file_name else ()
        form = FormBody(fields=(("purpose", self.upload_purpose), *named), file_name=name, file=file)
        return id_in(await self._client.call(ApiCall(method="POST", path=self.upload_path, form=form)))

    async def results(self, remote: RemoteBatch) -> AsyncIterator[ResultLine]:
        """See ``ProviderBatches``."""
        for name in remote.result_files:
            async for raw in lines_from(self._client.download(f"{_file_path(name)}/content")):
                if raw.strip():
                    yield result_line(raw)

    async def delete_uploads(self, batch: OpenBatch) -> None:
        """See ``ProviderBatches``. They are found by their name."""
        page = await self._client.call(ApiCall(method="GET", path=FILES, query=self.newest_files))
        for file in page.get("data") or []:
            if isinstance(file, dict) and file.get("filename") == _file_name(batch):
                await self.delete_file(id_in(file))

    async def delete_file(self, file_id: str) -> None:
        """See ``ProviderBatches``."""
        await self._client.call(ApiCall(method="DELETE", path=_file_path(file_id)))


def _file_name(batch: OpenBatch) -> str:
    return f"{batch.name}.jsonl"


def _file_path(file_id: str) -> str:
    return f"{FILES}/{quote(file_id, safe='')}"
