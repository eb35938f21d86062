"""Counts tokens for any model: finds the model's encoding, loads it in the background, hands out a counter."""

from __future__ import annotations

import asyncio
from functools import lru_cache, partial

from processor.core.models import RunInThread
from processor.tokens import encoding_files, encodings
from processor.tokens.rules import ModelCounter, tokens_in
from processor.tokens.text_cache import TextCounter

_CACHED_MODELS = 1024


class TokenCounter:
    """Loads only the encodings of models that are used. Until then a model's tokens are estimated by the characters.

    Raises ConfigError where ``fallback_encoding`` (for models that tiktoken does not know) does not exist.
    """

    def __init__(self, fallback_encoding: str | None, run_in_thread: RunInThread) -> None:
        self._fallback = encodings.resolve_encoding(fallback_encoding or encodings.FALLBACK)
        self.run_in_thread = run_in_thread
        """For counting a large text, too."""
        self._text_counters: dict[str, TextCounter] = {}
        """By encoding."""
        self._loading = asyncio.Lock()
        self._cached = lru_cache(maxsize=_CACHED_MODELS)(self._for_model)

    async def load(self, model: str) -> None:
        """Load the model's encoding. Concurrent callers share one load."""
        if self.is_loaded(model):
            return
        async with self._loading:
            if not self.is_loaded(model):
                await self.run_in_thread(partial(self._load, model))
                self._cached.cache_clear()

    def load_now(self, model: str) -> None:
        """Load the model's encoding in this thread. Takes up to a second."""
        if not self.is_loaded(model):
            self._load(model)
            self._cached.cache_clear()

    def is_loaded(self, model: str) -> bool:
        return self._cached(model).is_loaded

    def for_model(self, model: str) -> ModelCounter:
        """The model's counter as of now: another one after its encoding has been loaded."""
        return self._cached(model)

    def _for_model(self, model: str) -> ModelCounter:
        # Asking for a model's encoding imports tiktoken: not before the first load, which does so in a thread.
        encoding = encodings.encoding_of(model) if self._text_counters else None
        text_counter = self._text_counters.get(encoding or self._fallback)
        return ModelCounter(
            count_text=_estimate if text_counter is None else text_counter.count,
            base_model=encodings.base_model_name(model),
            is_loaded=text_counter is not None,
            is_known=encoding is not None,
        )

    def _load(self, model: str) -> None:
        encoding = encodings.encoding_of(model) or self._fallback
        if encoding not in self._text_counters:
            self._text_counters[encoding] = TextCounter(encoding_files.load(encoding).encode_ordinary)


def _estimate(text: str) -> int:
    return tokens_in(len(text))
