"""Secrets: values that do not print themselves, and their removal from all that is written or shown.

Servers repeat keys: in errors, in request ids, in replies. Every ``Secret`` that is made is known here from then on, so
that each place which takes in text (a reply, an error) or gives it out (a message, a log line) can mask all of them.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import field
from typing import Any

from processor.core.fast_dataclass import dataclass

MASK = "•••"

MIN_SECRET_CHARS = 16
"""Shorter keys are not masked: they would be found in ordinary words, and no provider issues them."""

PLACEHOLDERS = frozenset(
    {
        *("empty", "none", "null", "ollama", "lm-studio", "llama.cpp", "vllm", "dummy", "token-abc123", "no-key"),
        *("sk-no-key-required", "no-key-required", "sk-no-key-needed", "no-api-key-required", "not-needed"),
        *("your-api-key-here", "your_api_key_here", "sk-placeholder", "placeholder", "unused", "test", "fake"),
    }
)
"""Keys, in small letters, that people give to servers which ask for none."""

_RARE_FIRST = "ZQXJKVYWUGOFHBNPDLRMECASTI9876543210zqxjkvbpygfwmucldrhsnioate"
"""Letters and digits by how rare they are in replies."""

_known: dict[str, tuple[bytes, bytes]] = {}
"""The secrets of this process, in each form in which they may be repeated: the text as bytes, and its rarest letter.
To look for one letter takes a fiftieth of the time that a search for the text takes, and most replies lack it."""


@dataclass(frozen=True, slots=True)
class Secret:
    """A key or password that prints as dots, so that it does not get into logs, rows or tracebacks."""

    value: str = field(repr=False)

    def __post_init__(self) -> None:
        if self.is_masked:
            _known.update((form, (form.encode(), _rarest_letter(form))) for form in _forms(self.value))

    def __str__(self) -> str:
        return MASK

    @property
    def is_placeholder(self) -> bool:
        return self.value.lower() in PLACEHOLDERS

    @property
    def is_masked(self) -> bool:
        """Whether it counts as a secret: it is long enough to be one, and no known placeholder."""
        return len(self.value) >= MIN_SECRET_CHARS and not self.is_placeholder


def _forms(value: str) -> set[str]:
    """The value as it is, inside JSON, and inside a URL."""
    import json
    from urllib.parse import quote

    return {value, json.dumps(value)[1:-1], quote(value), quote(value, safe="")}


def _rarest_letter(text: str) -> bytes:
    return next((letter for letter in _RARE_FIRST if letter in text), text[0]).encode()


def is_printable_ascii(text: str) -> bool:
    """Whether a text can stand in a header."""
    return text.isascii() and text.isprintable()


def mask_text(text: str) -> str:
    """The text with all known secrets masked."""
    for secret in _known:
        if secret in text:
            text = text.replace(secret, MASK)
    return text


def holds_secret(data: bytes) -> bool:
    """Whether serialised JSON may hold a known secret in one of its strings."""
    return any(letter in data and secret in data for secret, letter in _known.values())


def has_secrets() -> bool:
    """Whether any secret is known. Without one there is nothing to search for."""
    return bool(_known)


def mask_values(root: dict[str, Any] | list[Any]) -> bool:
    """Masks the strings of a JSON value in place, names of fields too. Returns whether there was any to mask.

    Iterative, because what a server sends may be nested deeper than Python can recurse.
    """
    is_changed = False
    pending: list[Any] = [root]
    while pending:
        container = pending.pop()
        if isinstance(container, dict):
            is_changed |= _mask_names(container)
        items: Iterable[tuple[Any, Any]] = container.items() if isinstance(container, dict) else enumerate(container)
        for key, value in list(items):
            if isinstance(value, str):
                if (masked := mask_text(value)) != value:
                    container[key] = masked
                    is_changed = True
            elif isinstance(value, dict | list):
                pending.append(value)
    return is_changed


def _mask_names(container: dict[str, Any]) -> bool:
    if not any(mask_text(name) != name for name in container):
        return False
    masked = {mask_text(name): value for name, value in container.items()}
    container.clear()
    container.update(masked)
    return True


class StreamMask:
    """Masks secrets in a text that comes in pieces. An end that may be the beginning of a secret is held back."""

    def __init__(self) -> None:
        self._held = ""

    def feed(self, piece: str) -> str:
        """The text that can be shown by now."""
        text = mask_text(self._held + piece)
        held = max((_overlap(text, secret) for secret in _known), default=0)
        self._held = text[len(text) - held :]
        return text[: len(text) - held]

    def flush(self) -> str:
        """The text that was held back, at the end."""
        held, self._held = self._held, ""
        return held


def _overlap(text: str, secret: str) -> int:
    """The length of the longest end of the text that is the beginning of the secret."""
    longest = min(len(text), len(secret) - 1)
    return next((size for size in range(longest, 0, -1) if text.endswith(secret[:size])), 0)
