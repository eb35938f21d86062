"""The batch API of a provider, as the rest of this folder uses it."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import field
from typing import Literal, Protocol

from processor.batch.open_batch import OpenBatch
from processor.core.api_calls import FileBody
from processor.core.fast_dataclass import dataclass
from processor.core.models import JSON, Job

Ending = Literal["completed", "failed", "expired", "cancelled"]


@dataclass(frozen=True, slots=True, kw_only=True)
class BatchError:
    """Why a batch failed as a whole."""

    code: str
    message: str
    line: int | None = None
    """The line of the uploaded file, from 1 on."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RemoteBatch:
    """A batch as the provider describes it."""

    id: str
    status: str
    """In the provider's words."""
    ended_as: Ending | None
    """None while it works."""
    done: int | None = None
    """How many of its jobs have been answered, or have failed; None where the provider does not say."""
    result_files: tuple[str, ...] = ()
    input_file: str | None = None
    errors: tuple[BatchError, ...] = ()
    created_at: float | None = None
    """Unix seconds."""
    name: str | None = None
    """The name that this program has given to it, where the provider keeps metadata."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ResultLine:
    """What a provider says about one job of a batch.

    ``status`` 200: ``body`` is the reply. Another status: it is the error response. None: there was no response, and
    ``code`` and ``message`` say why, as far as the provider does.
    """

    own_id: object
    status: int | None
    body: JSON = field(default_factory=dict)
    request_id: str | None = None
    code: str | None = None
    message: str = ""


class ProviderBatches(Protocol):
    """The batch API of one provider. Methods raise RequestError."""

    is_found_in_list: bool
    """Whether the list of batches shows which one is ours, by its name or its uploaded file. If not, the ids of its
    jobs show it, once it has ended."""
    uploads_first: bool
    """Whether the jobs are uploaded as a file before the batch is created from it."""
    head: bytes
    """What stands before the lines of jobs in the uploaded file."""
    separator: bytes
    tail: bytes

    def line(self, own_id: str, job: Job) -> bytes:
        """What is uploaded of a job."""
        ...

    async def upload(self, batch: OpenBatch, file: FileBody) -> str | None:
        """Upload the jobs of a batch. Return the file's id; None where they are sent when the batch is created."""
        ...

    async def create(self, batch: OpenBatch, file: FileBody | None) -> RemoteBatch:
        """Create the batch from its uploaded file, else from ``file``."""
        ...

    async def batch(self, batch_id: str) -> RemoteBatch: ...

    def list_since(self, unix_s: float) -> AsyncIterator[RemoteBatch]:
        """Yield the batches that were created since a moment on this machine's clock, and perhaps some more."""
        ...

    def results(self, remote: RemoteBatch) -> AsyncIterator[ResultLine]:
        """Yield the results of a batch that has ended, in any order. Jobs may be missing."""
        ...

    async def cancel(self, batch_id: str) -> None: ...

    async def delete_uploads(self, batch: OpenBatch) -> None:
        """Delete what was uploaded for a batch that was not created, where its id is not known."""
        ...

    async def delete_file(self, file_id: str) -> None: ...
