"""Calls of a provider's API beside the requests of jobs: with JSON, with a file to upload, or with one to download.

``ApiClient`` is implemented over HTTP and in memory.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable
from typing import Literal, Protocol

from processor.core.errors import ProtocolError
from processor.core.fast_dataclass import dataclass
from processor.core.json_reading import parsed
from processor.core.models import JSON

READ_BYTES = 1 << 20
"""Of a file that is uploaded, at a time."""

_BOUNDARY = "processor-form-boundary-7c1f"
"""Never within a file of JSON lines: it would have to follow a carriage return and a line feed."""


@dataclass(frozen=True, slots=True, kw_only=True)
class FileBody:
    """A file that is sent. ``read`` returns up to so many bytes from a position on."""

    size: int
    read: Callable[[int, int], bytes]


@dataclass(frozen=True, slots=True, kw_only=True)
class ApiCall:
    """One call. At most one of ``json``, ``file`` and ``form`` is its body."""

    method: Literal["GET", "POST", "DELETE"]
    path: str
    """An API path, e.g. ``/v1/batches``."""
    query: tuple[tuple[str, str], ...] = ()
    headers: tuple[tuple[str, str], ...] = ()
    """Beside those of the target."""
    json: JSON | None = None
    file: FileBody | None = None
    """A file with JSON that is the whole body."""
    form: FormBody | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class FormBody:
    """A form with a file. https://www.rfc-editor.org/rfc/rfc7578"""

    fields: tuple[tuple[str, str], ...]
    file_name: str
    file: FileBody

    content_type = f"multipart/form-data; boundary={_BOUNDARY}"

    @property
    def head(self) -> bytes:
        """What stands before the content of the file."""
        parts = [
            f'--{_BOUNDARY}\r\nContent-Disposition: form-data; name="{name}"\r\n\r\n{value}\r\n'
            for name, value in self.fields
        ]
        parts.append(
            f'--{_BOUNDARY}\r\nContent-Disposition: form-data; name="file"; filename="{self.file_name}"\r\n'
            "Content-Type: application/jsonl\r\n\r\n"
        )
        return "".join(parts).encode()

    @property
    def tail(self) -> bytes:
        """What stands behind it."""
        return f"\r\n--{_BOUNDARY}--\r\n".encode()


def answer_in(data: bytes, path: str) -> JSON:
    """What ``ApiClient.call`` returns of a response's body. Raises ProtocolError where that is neither."""
    answer = parsed(data)
    if isinstance(answer, list):
        return {"data": answer}
    if not isinstance(answer, dict):
        raise ProtocolError(f"{path} answered with no JSON object")
    return answer


class ApiClient(Protocol):
    """Calls the API of one provider. The key goes to the origin of its base URL only."""

    @property
    def clock_difference_s(self) -> float | None:
        """The provider's clock less this machine's, by its last response; None where it has not told the time."""
        ...

    async def call(self, call: ApiCall) -> JSON:
        """Return the JSON object of the response; a list is that of an object's field ``data``.

        Raises RequestError: a ConnectError where nothing was sent.
        """
        ...

    def download(self, path: str, headers: tuple[tuple[str, str], ...] = ()) -> AsyncGenerator[bytes, None]:
        """Yield the content of a response in pieces. Raises RequestError."""
        ...
