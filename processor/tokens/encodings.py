"""Which encoding a model uses."""

from __future__ import annotations

from functools import lru_cache

from processor.core.errors import ConfigError
from processor.tokens.encoding_files import ENCODING_FILES

FALLBACK = "o200k_base"
"""For models tiktoken does not know: the encoding of today's OpenAI models."""

# They differ in special tokens only, and special tokens are never encoded here: one table in memory serves both.
_SAME_RANKS = {"gpt2": "r50k_base", "p50k_edit": "p50k_base", "o200k_harmony": "o200k_base"}


def checked(encoding: str) -> str:
    """The encoding of this name. Raises ConfigError where there is none."""
    encoding = _SAME_RANKS.get(encoding, encoding)
    if encoding not in ENCODING_FILES:
        known = ", ".join(sorted({*ENCODING_FILES, *_SAME_RANKS}))
        raise ConfigError(f"unknown encoding {encoding!r}: use one of {known}")
    return encoding


@lru_cache(maxsize=1024)
def base_model_name(model: str) -> str:
    """The model's own name: without provider, fine-tuning and variant.

    ``openai/gpt-4o``, ``ft:gpt-4o:org::id``, ``davinci:ft-org-...`` and ``gpt-4o:free`` are spelt so by OpenRouter,
    OpenAI (new and old) and OpenRouter.
    """
    return model.rsplit("/", 1)[-1].removeprefix("ft:").split(":", 1)[0].lower()


@lru_cache(maxsize=1024)
def encoding_of(model: str) -> str | None:
    """None for a model that tiktoken does not know. Imports tiktoken."""
    from tiktoken.model import encoding_name_for_model

    try:
        encoding = encoding_name_for_model(base_model_name(model))
    except KeyError:
        return None
    encoding = _SAME_RANKS.get(encoding, encoding)
    # A newer tiktoken may name encodings whose ranks are not shipped here, and would download them.
    return encoding if encoding in ENCODING_FILES else None
