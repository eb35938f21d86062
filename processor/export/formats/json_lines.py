"""The formats that have one JSON value a line."""

from __future__ import annotations

from typing import Any

from processor.core import json_bytes
from processor.export.exported_row import ExportedRow, MissingValue
from processor.export.formats.base import Format


class JsonLines(Format):
    """The rows as they stand in the results file; or only the texts of replies, or fields of replies that are JSON."""

    def write(self, exported: ExportedRow) -> None:
        if self.contents.text:
            self.file.write(json_bytes.dumps(exported.text) + b"\n")
        elif self.contents.json_fields:
            self.file.write(json_bytes.dumps(self._fields(exported)) + b"\n")
        elif self.contents.with_input:
            row = exported.raw.rstrip().removesuffix(b"}")
            self.file.write(row + b',"input":' + (exported.input_json or b"null") + b"}\n")
        else:
            self.file.write(exported.raw)

    def _fields(self, exported: ExportedRow) -> dict[str, Any]:
        fields: dict[str, Any] = {"custom_id": exported.row.get("custom_id")}
        for path in self.contents.json_fields:
            try:
                fields[path] = None if exported.body is None else exported.reply_field(path)
            except MissingValue:
                fields[path] = None
                self.missing += 1
        return fields


class OpenAIBatch(Format):
    """The output file of OpenAI's Batch API: https://platform.openai.com/docs/guides/batch"""

    def write(self, exported: ExportedRow) -> None:
        row = exported.row
        shown = {
            "id": f"batch_req_{row.get('id')}",
            **{name: row.get(name) for name in ("custom_id", "response", "error")},
        }
        self.file.write(json_bytes.dumps(shown) + b"\n")


class Cookbook(Format):
    """The output of OpenAI's cookbook script: ``[request, response]`` or ``[request, response, metadata]``.

    https://github.com/openai/openai-cookbook/blob/main/examples/api_request_parallel_processor.py
    """

    needs_jobs = True

    def write(self, exported: ExportedRow) -> None:
        response: Any = exported.body
        if response is None:
            error = exported.row.get("error")
            response = [error.get("message") if isinstance(error, dict) else str(error)]
        line = [exported.request, response]
        if exported.job is not None and exported.job.metadata is not None:
            line.append(exported.job.metadata)
        self.file.write(json_bytes.dumps(line) + b"\n")
