"""Why a server refused a job, where another one may answer it."""

from __future__ import annotations

import pytest

from processor.core.errors import BadRequest, RequestError, ServerError
from processor.protocols.refusal_reasons import refusal_reason


def refused(message: str, code: str | None = None) -> BadRequest:
    return BadRequest(message, status=400, error_code=code)


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (refused("400", "content_filter"), "content_filter"),
        (refused("The response was filtered due to the prompt triggering content management policy"), "content_filter"),
        (refused("400", "context_length_exceeded"), "context_length"),
        (refused("This model's maximum context length is 4096 tokens"), "context_length"),
        (refused("prompt is too long: 210000 tokens > 200000 maximum"), "context_length"),
        (refused("temperature must be at most 2", "invalid_request_error"), None),
        (ServerError("content filter is down", status=500), None),
    ],
)
def test_reason_is_found_by_code_and_else_by_the_message(error: RequestError, reason: str | None) -> None:
    assert refusal_reason(error) == reason
