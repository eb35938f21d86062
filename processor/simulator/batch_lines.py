"""Answers the lines of a batch: what stands in its output file and in its error file. Pure."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import orjson

from processor.core.fast_dataclass import dataclass
from processor.core.models import JSON
from processor.simulator.batch_settings import LINE_FAULTS, BatchSettings
from processor.simulator.request_parser import InvalidRequest, identity

AnswerRequest = Callable[[str, JSON], JSON]
"""Makes the body of the reply to a request. Raises InvalidRequest, and ValueError for a path that is not served."""


@dataclass(frozen=True, slots=True, kw_only=True)
class BatchLine:
    """One request of a batch."""

    custom_id: str
    path: str
    body: JSON

    @property
    def identity(self) -> bytes:
        return identity(self.path, self.body)


@dataclass(frozen=True, slots=True, kw_only=True)
class BatchExecution:
    """How the batches of one provider are executed."""

    settings: BatchSettings
    seed: int
    """Of the faults."""
    epoch_s: float
    """Unix time at the start of the provider's clock."""
    answer: AnswerRequest
    on_answered: Callable[[BatchLine], None]
    """Called with each line that has been executed."""


def parse_lines(
    data: bytes, endpoint: str, *, model: str | None = None, lines_have_urls: bool = True
) -> tuple[list[BatchLine], list[JSON]]:
    """Return the lines of an input file, and what is wrong with them: ``code``, ``message``, ``line``.

    ``model``: of all lines, where it is named for the whole batch. ``lines_have_urls``: they must have a url and a
    method, as with OpenAI.
    """
    lines: list[BatchLine] = []
    errors: list[JSON] = []
    seen: set[str] = set()
    models: set[Any] = set()
    for number, raw in enumerate(data.splitlines(), 1):
        try:
            line = _parse_line(raw, endpoint, model, has_url=lines_have_urls)
        except ValueError as error:
            errors.append({"code": "invalid_json_line", "message": str(error), "line": number, "param": None})
            continue
        if line.custom_id in seen:
            message = f"The custom_id {line.custom_id} is taken by an earlier line."
            errors.append({"code": "duplicate_custom_id", "message": message, "line": number, "param": None})
        seen.add(line.custom_id)
        models.add(line.body.get("model"))
        lines.append(line)
    if len(models) > 1:
        message = "The batch has more than one model."
        errors.append({"code": "mismatched_model", "message": message, "line": 1, "param": "model"})
    return lines, errors


def _parse_line(raw: bytes, endpoint: str, model: str | None, *, has_url: bool) -> BatchLine:
    """Raises ValueError."""
    line = orjson.loads(raw)
    if not isinstance(line, dict) or not isinstance(line.get("custom_id"), str):
        raise ValueError("This line has no custom_id.")
    body = line.get("body")
    if not isinstance(body, dict):
        raise ValueError("This line must have a body.")
    if has_url and (line.get("method") != "POST" or line.get("url") != endpoint):
        raise ValueError(f"This line must have method POST and url {endpoint}.")
    if body.get("stream"):
        raise ValueError("Streaming is not supported in a batch.")
    path = endpoint if endpoint.startswith("/v1/") else f"/v1{endpoint}"  # Azure's have no version
    return BatchLine(custom_id=line["custom_id"], path=path, body=body if model is None else {**body, "model": model})


@dataclass(slots=True, kw_only=True)
class BatchFiles:
    """The two files of results; None where there are no lines for one."""

    output: bytearray
    errors: bytearray
    completed: int = 0
    failed: int = 0


def answer_lines(
    lines: list[BatchLine],
    answered: int,
    left_code: str,
    answer: AnswerRequest,
    settings: BatchSettings,
    seed: str,
    *,
    all_fail: bool,
) -> BatchFiles:
    """Answer the first ``answered`` lines; ``left_code`` is the error of those behind them."""
    files = BatchFiles(output=bytearray(), errors=bytearray())
    for number, line in enumerate(lines):
        if number >= answered:
            message = "This request could not be executed before the completion window expired."
            _add(files, line, None, {"code": left_code, "message": message})
            continue
        fault = "batch_server_error" if all_fail else settings.draw(LINE_FAULTS, f"{seed}:{number}")
        _answer_line(files, line, fault, answer)
    return files


def _answer_line(files: BatchFiles, line: BatchLine, fault: str | None, answer: AnswerRequest) -> None:
    if fault == "batch_missing":
        files.completed += 1  # as it was seen at a provider: it counts, and is nowhere
    elif fault == "batch_odd":
        files.completed += 1
        files.errors += _line(line, {"status_code": 0, "request_id": "", "body": ""}, None)
    elif fault == "batch_server_error":
        _add(files, line, {"status_code": 500, "body": _error("The server had an error.", "server_error")}, None)
    elif fault == "batch_refused":
        message = "Invalid value for 'temperature'."
        _add(files, line, {"status_code": 400, "body": _error(message, "invalid_request_error")}, None)
    else:
        try:
            body = answer(line.path, line.body)
        except (InvalidRequest, ValueError) as error:
            _add(files, line, {"status_code": 400, "body": _error(str(error), "invalid_request_error")}, None)
            return
        _add(files, line, {"status_code": 200, "body": body}, None)


def _error(message: str, kind: str) -> JSON:
    return {"error": {"message": message, "type": kind, "param": None, "code": None}}


def _add(files: BatchFiles, line: BatchLine, response: JSON | None, error: JSON | None) -> None:
    is_success = response is not None and response["status_code"] == 200
    files.completed += is_success
    files.failed += not is_success
    if response is not None:
        response = {"status_code": response["status_code"], "request_id": f"req_{line.custom_id}", **response}
    (files.output if is_success else files.errors).extend(_line(line, response, error))


def _line(line: BatchLine, response: JSON | None, error: JSON | None) -> bytes:
    return orjson.dumps(
        {"id": f"batch_req_{line.custom_id}", "custom_id": line.custom_id, "response": response, "error": error},
        option=orjson.OPT_APPEND_NEWLINE,
    )
