"""Which protocol an endpoint speaks."""

from __future__ import annotations

from collections.abc import Callable

from processor.core.errors import BadRequest
from processor.core.models import JSON
from processor.protocols.base import Accumulator
from processor.protocols.chat import open_chat
from processor.protocols.completions import open_completions

_FOLDS: dict[str, Callable[[JSON], Accumulator]] = {
    "/chat/completions": open_chat,
    "/completions": open_completions,
}


def accumulator_for(path: str, request: JSON) -> Accumulator:
    """A fold for the reply to this request body. Raises Rejected where no protocol is known for the path."""
    opened = _FOLDS.get(path.removeprefix("/v1"))
    if opened is None:
        raise BadRequest(f"no protocol is known for {path}", status=404, error_code="unknown_endpoint")
    return opened(request)
