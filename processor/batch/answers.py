"""Reads what batch APIs answer: ids, texts, and the lines of result files in OpenAI's format. Pure."""

from __future__ import annotations

from typing import Any

from processor.batch.provider_batches import ResultLine
from processor.core.errors import ProtocolError
from processor.core.json_reading import exact_fields, fields_of
from processor.core.models import JSON

NAME_FIELD = "processor_batch"
"""The field of a batch's metadata that holds its name."""


def id_in(answer: JSON) -> str:
    """The id of what was created. Raises ProtocolError."""
    name = answer.get("id")
    if not isinstance(name, str) or not name:
        raise ProtocolError("the answer of the batch API has no id")
    return name


def name_in(answer: JSON) -> str | None:
    """The name that this program has given to a batch, where the provider keeps metadata."""
    return text_of(fields_of(answer.get("metadata")).get(NAME_FIELD)) or None


def text_of(value: Any) -> str:
    """The text itself; an empty one where the value is none."""
    return value if isinstance(value, str) else ""


def ids_of(*values: Any) -> tuple[str, ...]:
    """The ids of files that are there: each is a text, or an object that has one (some servers with Mistral's API)."""
    return tuple(filter(None, (text_of(value) or text_of(fields_of(value).get("id")) for value in values)))


def sum_of(*counts: Any) -> int:
    """The sum of those of the values that are whole numbers."""
    return sum(count for count in counts if type(count) is int)


def result_line(raw: bytes) -> ResultLine:
    """A line of the output file or of the error file.

    Lines of the error file were seen with ``status_code`` 0, an empty text as the body, and no error.
    """
    line = exact_fields(raw)  # a line that is none is of no job, which then counts as missing
    response, error = fields_of(line.get("response")), line.get("error")
    status = response.get("status_code")
    return ResultLine(
        own_id=line.get("custom_id"),
        status=status if type(status) is int and status >= 100 else None,
        body=fields_of(response.get("body")),
        request_id=text_of(response.get("request_id")) or None,
        code=text_of(fields_of(error).get("code")) or None,
        message=text_of(error) or text_of(fields_of(error).get("message")),
    )
