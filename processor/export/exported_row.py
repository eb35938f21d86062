"""One row of an export, with what its formats need of it."""

from __future__ import annotations

from functools import cached_property
from typing import Any

from processor.core import json_bytes
from processor.core.json_reading import exact_fields, fields_of, parsed
from processor.core.models import JSON
from processor.input.job_formats import ParsedJob
from processor.input.line_json import decode_exactly, decode_line
from processor.protocols.reply_text import text_of_reply

_BYTE_ORDER_MARK = b"\xef\xbb\xbf"


class MissingValue(Exception):
    """A reply does not have what is asked for."""


class ExportedRow:
    """A row as it stands in its file, and the job that it belongs to, if job files were given."""

    def __init__(self, raw: bytes, job: ParsedJob | None = None) -> None:
        """``raw`` has its line feed."""
        self.raw = raw
        self.job = job

    @cached_property
    def row(self) -> JSON:
        return exact_fields(self.raw)

    @cached_property
    def body(self) -> JSON | None:
        """The body of the reply; None for a failed job."""
        if self.row.get("error") is not None:
            return None
        return fields_of(fields_of(self.row.get("response")).get("body"))

    @cached_property
    def text(self) -> str | None:
        """What the first choice says; None for a failed job."""
        return None if self.body is None else text_of_reply(self.body)

    @property
    def input_json(self) -> bytes | None:
        """The line of the job file as JSON; None where there is none."""
        if self.job is None:
            return None
        raw = self.job.raw.removeprefix(_BYTE_ORDER_MARK)
        if not self.job.altered:
            return raw
        return json_bytes.dumps(decode_line(raw)[0])

    @property
    def request(self) -> JSON | None:
        """The body of the request, with integers of any size; None where there is no job."""
        if self.job is None:
            return None
        if not json_bytes.may_have_long_integer(self.job.raw):
            return self.job.body
        entry = decode_exactly(self.job.raw)[0]
        return fields_of(entry["body"]) if "body" in entry else self.job.body

    @cached_property
    def _reply_json(self) -> Any:
        return parsed((self.text or "").encode("utf-8", "replace"))

    def reply_field(self, path: str) -> Any:
        """Return a field of a reply that is JSON, ``a.b`` or ``items.0.name``. Raises MissingValue."""
        value = self._reply_json
        for name in path.split("."):
            if isinstance(value, dict) and name in value:
                value = value[name]
            elif isinstance(value, list) and name.isdecimal() and int(name) < len(value):
                value = value[int(name)]
            else:
                raise MissingValue(path)
        return value
