"""Reads the body of a reply as the transport does, without a network."""

from __future__ import annotations

from collections.abc import Mapping, Set
from typing import Any

from processor.core.models import JSON
from processor.http.compressed_body import CompressedParser
from processor.http.parser_choice import reply_parser
from processor.http.response_body import ResponseParser
from processor.http.settings import TransportSettings
from processor.protocols import protocol_for
from tests.support.protocol_jobs import CHAT, job_for

STREAM_HEADERS = {"content-type": "text/event-stream"}


class ReplyReader:
    """``broke_off``: the connection was lost at the end of the body, so that only a complete reply is kept."""

    def __init__(
        self, headers: Mapping[str, str] = STREAM_HEADERS, request: dict[str, Any] | None = None, path: str = CHAT
    ) -> None:
        self.parser: ResponseParser = reply_parser(
            protocol_for(path), job_for(path, **(request or {})), TransportSettings(), 4096, headers, self._set_parser
        )

    def read(self, body: bytes, size: int | None = None, *, broke_off: bool = False) -> JSON | None:
        """Raises RequestError; None where the body broke off before the reply was complete."""
        size = size or len(body) or 1
        for start in range(0, len(body), size):
            self.parser.feed(body[start : start + size])
            while self.parser.has_backlog and not self.parser.is_done:
                self.parser.work_off()
            if self.parser.is_done:
                return self.parser.result()
        if broke_off:
            return self.parser.result() if self.parser.is_complete else None
        self.parser.close()
        return self.parser.result()

    @property
    def altered(self) -> Set[str]:
        return self.parser.altered

    def _set_parser(self, parser: ResponseParser) -> None:
        if isinstance(self.parser, CompressedParser):
            self.parser.inner = parser
        else:
            self.parser = parser
