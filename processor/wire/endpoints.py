"""Which protocol an endpoint speaks."""

from __future__ import annotations

from collections.abc import Callable

from processor.errors import Rejected
from processor.models import JSON
from processor.wire.chat import open_chat
from processor.wire.completions import open_completions
from processor.wire.fold import Fold

_FOLDS: dict[str, Callable[[JSON], Fold]] = {
    "/chat/completions": open_chat,
    "/completions": open_completions,
}


def open_fold(path: str, request: JSON) -> Fold:
    """A fold for the reply to this request body. Raises Rejected where no protocol is known for the path."""
    opened = _FOLDS.get(path.removeprefix("/v1"))
    if opened is None:
        raise Rejected(f"no protocol is known for {path}", status=404, kind="unknown_endpoint")
    return opened(request)
