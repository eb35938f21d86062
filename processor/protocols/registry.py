"""The protocols by API path. A new one needs its file and its line here."""

from __future__ import annotations

from processor.core.errors import BadRequest
from processor.protocols.base import Protocol
from processor.protocols.chat import ChatCompletions
from processor.protocols.completions import Completions
from processor.protocols.embeddings import Embeddings
from processor.protocols.messages import Messages
from processor.protocols.moderations import Moderations
from processor.protocols.responses import Responses

DEFAULT_PATH = ChatCompletions.path

PROTOCOLS: dict[str, Protocol] = {
    ChatCompletions.path: ChatCompletions(),
    Completions.path: Completions(),
    Embeddings.path: Embeddings(),
    Moderations.path: Moderations(),
    Responses.path: Responses(),
    Messages.path: Messages(),
}


def protocol_for(path: str) -> Protocol:
    """Raises BadRequest where no protocol is known for the path."""
    try:
        return PROTOCOLS[path]
    except KeyError:
        raise BadRequest(f"no protocol is known for {path}", status=404, error_code="unknown_endpoint") from None


def known_paths() -> str:
    """The API paths, as they read in a message."""
    *first, last = PROTOCOLS
    return f"{', '.join(first)} or {last}"
