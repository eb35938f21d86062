"""Counts for any model: finds its encoding, loads it beside the run, applies the rules."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Any

from processor.core.models import JSON
from processor.core.text import CHARS_PER_TOKEN
from processor.tokens import encoding_files, encodings, rules
from processor.tokens.rules import TokenCount
from processor.tokens.text_cache import TextCounter

Offload = Callable[[Callable[[], Any]], Awaitable[Any]]
"""Runs blocking work elsewhere, e.g. ``asyncio.to_thread``."""

MODEL_0301 = "gpt-3.5-turbo-0301"


class TokenCounter:
    """``prompt`` and ``reply`` are exact, or say why not, once ``load`` has returned for the model.

    Before that they go by the characters, marked ``not_loaded``. Only the encodings that are met are loaded.
    Raises ConfigError where ``fallback_encoding`` (for models tiktoken does not know) does not exist.
    """

    def __init__(self, fallback_encoding: str | None, offload: Offload) -> None:
        self._fallback = encodings.checked(fallback_encoding or encodings.FALLBACK)
        self._offload = offload
        self._texts: dict[str, TextCounter] = {}
        self._loading = asyncio.Lock()

    async def load(self, model: str) -> None:
        """Have the model's encoding ready. Callers at the same time share one load."""
        if self.ready(model):
            return
        async with self._loading:
            if not self.ready(model):
                await self._offload(partial(self._load, model))

    def ready(self, model: str) -> bool:
        return self._text(model) is not None

    def prompt(self, path: str, body: JSON) -> TokenCount:
        """Counts a request's body; its ``model`` says how."""
        model = body.get("model")
        model = model if isinstance(model, str) else ""
        text = self._text(model)
        if text is None:
            return TokenCount(rules.guess(body), ("not_loaded",))
        overhead = rules.OVERHEAD_0301 if encodings.base_model_name(model) == MODEL_0301 else rules.OVERHEAD
        return _marked(model, rules.prompt(path, body, text, overhead))

    def reply(self, path: str, model: str, body: JSON) -> TokenCount:
        """Counts an assembled reply of a request for ``model``."""
        text = self._text(model)
        if text is not None:
            return _marked(model, rules.reply(path, body, text))
        by_characters = rules.reply(path, body, lambda generated: -(-len(generated) // CHARS_PER_TOKEN))
        return TokenCount(by_characters.tokens, ("not_loaded", *by_characters.estimated))

    def guess(self, body: JSON) -> int:
        """The prompt's tokens by its characters, for as long as its encoding is not loaded."""
        return rules.guess(body)

    def characters(self, body: JSON) -> int:
        return rules.characters(body)

    def _text(self, model: str) -> TextCounter | None:
        # Asking for a model's encoding imports tiktoken: not before the first load, which does so in a thread.
        return self._texts.get(encodings.encoding_of(model) or self._fallback) if self._texts else None

    def _load(self, model: str) -> None:
        encoding = encodings.encoding_of(model) or self._fallback
        if encoding not in self._texts:
            self._texts[encoding] = TextCounter(encoding_files.load(encoding).encode_ordinary)


def _marked(model: str, count: TokenCount) -> TokenCount:
    if encodings.encoding_of(model) is not None:
        return count
    return TokenCount(count.tokens, (*count.estimated, "unknown_model"))
