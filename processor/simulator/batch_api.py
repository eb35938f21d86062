"""The simulated batch APIs that take the jobs as a file: OpenAI's, Mistral's and Together's. No I/O, no clock.

Mistral's has paths of its own. Together's has those of OpenAI, below ``/together``.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any
from urllib.parse import parse_qs

import orjson

from processor.core.fast_dataclass import dataclass
from processor.core.models import JSON
from processor.simulator import error_responses
from processor.simulator.batch_lines import BatchExecution, parse_lines
from processor.simulator.batch_shapes import MistralShape, OpenAiShape, ProviderShape, TogetherShape
from processor.simulator.multipart import form_fields
from processor.simulator.response_script import ResponseStep, ScriptedResponse, json_response
from processor.simulator.simulated_batches import SimulatedBatch, SimulatedBatches

_PATH = re.compile(r"/(files|batches|batch/jobs)(?:/([^/]+)(?:/(content|cancel))?)?$")
_UPLOAD = re.compile(r"/files(/upload)?$")
_PURPOSES = {None: b"batch", "/upload": b"batch-api"}
"""That an uploaded file must have, by the end of the path."""


class BatchApi:
    """The files and batches of one provider."""

    def __init__(self, execution: BatchExecution) -> None:
        self._batches = SimulatedBatches(execution)
        self.files = self._batches.files
        self.batches = self._batches.batches
        """By id, the oldest first."""

    def serves(self, path: str) -> bool:
        return _PATH.search(path) is not None

    def handle(
        self, method: str, path: str, query: str, headers: Mapping[str, str], body: bytes, at: float
    ) -> ScriptedResponse:
        self._batches.advance(at)
        if method == "POST" and (upload := _UPLOAD.search(path)):
            return self._upload(headers, body, at, _PURPOSES[upload.group(1)])
        found = _PATH.search(path)
        assert found is not None, "the path is served"
        kind, name, action = found.groups()
        shape: ProviderShape = _TOGETHER if "/together/" in path else _OPENAI
        if kind == "batch/jobs":
            kind, shape = "batches", _MISTRAL
        handler = _HANDLERS.get((method, kind, name is not None, action))
        if handler is None:
            return error_responses.wrong_method(method, path)
        if kind == "files" and name is not None and name not in self.files.about:
            return error_responses.not_found(f"No such File object: {name}")
        if kind == "batches" and name is not None and name not in self.batches:
            return error_responses.not_found(f"No batch found with id '{name}'.")
        return handler(self, _Call(name or "", parse_qs(query), body, at, shape))

    # ------------------------------------------------------------ files

    def _upload(self, headers: Mapping[str, str], body: bytes, at: float, purpose: bytes) -> ScriptedResponse:
        fields = form_fields(headers.get("content-type", ""), body)
        if "file" not in fields or fields.get("purpose") != purpose:
            message = f"a file and the purpose {purpose.decode()} are required"
            return error_responses.invalid_request(message, "purpose")
        return json_response(self.files.add(fields["file"], "batch", at, fields.get("filename", b"").decode()))

    def list_files(self, call: _Call) -> ScriptedResponse:
        newest_first = list(self.files.about.values())[::-1]
        return json_response({"object": "list", "data": newest_first, "has_more": False, "total": len(newest_first)})

    def file(self, call: _Call) -> ScriptedResponse:
        return json_response(self.files.about[call.name])

    def content(self, call: _Call) -> ScriptedResponse:
        return ScriptedResponse(
            headers={"content-type": "application/octet-stream"},
            steps=(ResponseStep(0.0, self.files.contents[call.name]),),
        )

    def delete_file(self, call: _Call) -> ScriptedResponse:
        self.files.delete(call.name)
        return json_response({"id": call.name, "object": "file", "deleted": True})

    # ------------------------------------------------------------ batches

    def create(self, call: _Call) -> ScriptedResponse:
        try:
            wanted = call.shape.wanted(orjson.loads(call.body))
        except (orjson.JSONDecodeError, KeyError, TypeError, ValueError):
            return error_responses.invalid_request("the file of the batch and its endpoint are required", None)
        if wanted.file_id not in self.files.contents:
            return error_responses.invalid_request(f"No such File object: {wanted.file_id}", "input_file_id")
        data = self.files.contents[wanted.file_id]
        lines, errors = parse_lines(
            data, wanted.endpoint, model=wanted.model, lines_have_urls=call.shape.lines_have_urls
        )
        batch = self._batches.create(wanted.file_id, wanted.endpoint, wanted.metadata, lines, errors, call.at)
        if self._batches.loses_reply(batch):
            return error_responses.NO_RESPONSE
        return json_response(call.shape.created(self._shown(batch, call)))

    def list_batches(self, call: _Call) -> ScriptedResponse:
        shown = [self._shown(batch, call) for batch in self.batches.values()]
        return json_response(call.shape.listed(shown, call.query))

    def batch(self, call: _Call) -> ScriptedResponse:
        return json_response(self._shown(self.batches[call.name], call))

    def cancel(self, call: _Call) -> ScriptedResponse:
        batch = self.batches[call.name]
        if not self._batches.cancel(batch, call.at):
            state = self._batches.state(batch, call.at)
            return error_responses.invalid_request(f"Cannot cancel a batch with status '{state}'.", None)
        return json_response(self._shown(batch, call))

    def _shown(self, batch: SimulatedBatch, call: _Call) -> JSON:
        return call.shape.shown(batch, self._batches.state(batch, call.at), self._batches.unix(batch.created_at))


@dataclass(frozen=True, slots=True)
class _Call:
    name: str
    query: Mapping[str, list[str]]
    body: bytes
    at: float
    shape: ProviderShape


_OPENAI, _MISTRAL, _TOGETHER = OpenAiShape(), MistralShape(), TogetherShape()
_Handler = Callable[[BatchApi, _Call], ScriptedResponse]
_HANDLERS: Mapping[tuple[str, str, bool, Any], _Handler] = {
    ("GET", "files", False, None): BatchApi.list_files,
    ("GET", "files", True, None): BatchApi.file,
    ("GET", "files", True, "content"): BatchApi.content,
    ("DELETE", "files", True, None): BatchApi.delete_file,
    ("POST", "batches", False, None): BatchApi.create,
    ("GET", "batches", False, None): BatchApi.list_batches,
    ("GET", "batches", True, None): BatchApi.batch,
    ("POST", "batches", True, "cancel"): BatchApi.cancel,
}
