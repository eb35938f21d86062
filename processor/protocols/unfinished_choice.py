"""One choice of a streamed reply while its chunks come."""

from __future__ import annotations

from processor.core.models import JSON
from processor.protocols.delta_merge import merge

_NOT_EXTRA = frozenset({"index", "delta", "text", "message", "finish_reason", "error"})


class Choice:
    """One unfinished choice."""

    __slots__ = ("content", "extra", "finish_reason", "message", "other_fields")

    def __init__(self) -> None:
        self.content: JSON = {}
        """Its merged deltas."""
        self.extra: JSON = {}
        """Fields beside the delta: log probabilities, a vendor's own fields."""
        self.finish_reason: str | None = None
        self.message: JSON | None = None
        """A whole message that came beside the deltas, or in their place."""
        self.other_fields: JSON | None = None
        """What stood beside the last delta, where merging the same once more changes nothing."""

    def merge_fields(self, fields: JSON) -> None:
        """Merge what stands in a chunk beside the delta and the finish reason."""
        _merge_extra(self.extra, fields)
        message = fields.get("message")
        if isinstance(message, dict) and has_content_in(message):
            self.message = message
        is_merged_once = fields.get("logprobs") is None and list not in map(type, fields.values())
        self.other_fields = fields if is_merged_once else None


def has_content_in(message: JSON) -> bool:
    """Whether a message, or a piece of one, holds more than its role."""
    for name, value in message.items():  # noqa: SIM110 (a generator costs more, for each chunk until the first token)
        if value and name != "role":
            return True
    return False


def _merge_extra(into: JSON, choice: JSON) -> None:
    """Concatenates lists, also those inside `logprobs`; any other value replaces the old one."""
    for name, value in choice.items():
        if name in _NOT_EXTRA:
            continue
        known = into.get(name)
        if value is None:
            into.setdefault(name, None)
        elif name == "logprobs" and isinstance(value, dict):
            into[name] = known if isinstance(known, dict) else {}
            merge(into[name], value)
        elif isinstance(value, list) and isinstance(known, list):
            known.extend(value)
        else:
            into[name] = value
