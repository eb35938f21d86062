"""What the APIs have in common that generate no text, and answer with one JSON object: embeddings and moderations."""

from __future__ import annotations

from typing import Any, NoReturn

from processor.core import json_bytes
from processor.core.errors import InvalidJob, ProtocolError
from processor.core.models import JSON, Job
from processor.core.text import json_type
from processor.protocols.base import STREAM_FIELDS, Protocol, RequestOptions
from processor.protocols.inband_errors import raise_error_in
from processor.protocols.reply_json import as_object, parse_value
from processor.tokens.rules import ModelCounter


class UnstreamedProtocol(Protocol):
    """A subclass names the field of a request that holds the inputs, and the list in a reply that has an entry for each
    of them."""

    input_field = "input"
    prompt_fields = ("input",)
    end_marker = b""
    generates_text = False
    entries_field: str

    def from_short(self, fields: JSON) -> JSON:
        if "system" in fields:
            raise InvalidJob(f"system has no place in a request to {self.path}: put it into the prompt")
        return {self.input_field: fields.pop("prompt"), **fields}

    def is_streamed(self, job: Job, options: RequestOptions) -> bool:
        return False

    def encode(self, job: Job, options: RequestOptions) -> bytes:
        return json_bytes.dumps({name: value for name, value in job.body.items() if name not in STREAM_FIELDS})

    def accumulator(self, job: Job) -> NoReturn:
        raise ProtocolError(f"a reply of {self.path} came as an event stream")

    def parse_json(self, data: bytes) -> JSON:
        value = parse_value(data, "the reply")
        raise_error_in(value)
        body = as_object(value, data, "the reply")
        entries = body.get(self.entries_field)
        if not isinstance(entries, list) or not all(isinstance(entry, dict) for entry in entries):
            raise ProtocolError(f"the reply has no {self.entries_field}")
        return body

    def check_answers_all(self, body: JSON, request: JSON) -> None:
        answered, asked = len(body[self.entries_field]), self.count_inputs(request)
        if answered != asked:
            raise ProtocolError(f"the reply has {answered} entries under {self.entries_field} for {asked} inputs")

    def count_inputs(self, body: JSON) -> int:
        """How many entries the reply to this request must have."""
        inputs = body.get(self.input_field)
        return len(inputs) if isinstance(inputs, list) else 1

    def finish_reasons(self, body: JSON) -> list[str]:
        return []

    def is_cut_short(self, body: JSON, request: JSON) -> bool:
        return False

    def max_output_tokens(self, body: JSON) -> int | None:
        return 0

    def _count_reply(self, reply: JSON, request: JSON, counter: ModelCounter, reasons: set[str]) -> int:
        return 0


def check_inputs(value: Any) -> None:
    """Raises InvalidJob where there is no input, or none that any server could take."""
    if not isinstance(value, str | list):
        raise InvalidJob(f"input must be text or a list, not {json_type(value)}")
    if not value:
        raise InvalidJob("has an empty input")
