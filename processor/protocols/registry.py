"""The protocols by API path. A new one needs its file and its line here."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, MutableMapping
from importlib import import_module

from processor.core.errors import BadRequest
from processor.protocols.base import Protocol
from processor.protocols.chat import ChatCompletions

DEFAULT_PATH = ChatCompletions.path

_CLASSES = {
    "/v1/chat/completions": "chat.ChatCompletions",
    "/v1/completions": "completions.Completions",
    "/v1/embeddings": "embeddings.Embeddings",
    "/v1/moderations": "moderations.Moderations",
    "/v1/responses": "responses.Responses",
    "/v1/messages": "messages.Messages",
}


class ProtocolRegistry(MutableMapping[str, Protocol]):
    """The protocols by API path. Imports the file of a protocol when it is first asked for: most runs need one."""

    def __init__(self, classes: Mapping[str, str]) -> None:
        """``classes``: for each path the module in this package, and the class in it."""
        self._classes = classes
        self._protocols: dict[str, Protocol | None] = dict.fromkeys(classes)

    def __getitem__(self, path: str) -> Protocol:
        """Raises KeyError."""
        protocol = self._protocols[path]
        if protocol is None:
            module, _, name = self._classes[path].partition(".")
            protocol = self._protocols[path] = getattr(import_module(f"{__package__}.{module}"), name)()
            assert protocol is not None
        return protocol

    def __setitem__(self, path: str, protocol: Protocol) -> None:
        self._protocols[path] = protocol

    def __delitem__(self, path: str) -> None:
        del self._protocols[path]

    def __iter__(self) -> Iterator[str]:
        return iter(self._protocols)

    def __len__(self) -> int:
        return len(self._protocols)


PROTOCOLS = ProtocolRegistry(_CLASSES)


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
