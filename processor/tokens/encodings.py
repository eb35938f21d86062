"""Finds the encoding that a model uses."""

from __future__ import annotations

from functools import lru_cache

from processor.core.errors import ConfigError
from processor.tokens.encoding_files import ENCODING_FILES

FALLBACK = "o200k_base"
"""For models that tiktoken does not know: the encoding of OpenAI's current models."""

# These differ in special tokens only, which are never encoded here: both share one table in memory.
_SAME_RANKS = {"gpt2": "r50k_base", "p50k_edit": "p50k_base", "o200k_harmony": "o200k_base"}


def resolve_encoding(encoding: str) -> str:
    """The encoding whose ranks are shipped under this name. Raises ConfigError where there is none."""
    encoding = _SAME_RANKS.get(encoding, encoding)
    if encoding not in ENCODING_FILES:
        known = ", ".join(sorted({*ENCODING_FILES, *_SAME_RANKS}))
        raise ConfigError(f"unknown encoding {encoding!r}: use one of {known}")
    return encoding


@lru_cache(maxsize=1024)
def base_model_name(model: str) -> str:
    """The model's name without provider, fine-tuning and variant, in lower case.

    OpenRouter writes ``openai/gpt-4o`` and ``gpt-4o:free``; OpenAI ``ft:gpt-4o:org::id``, formerly
    ``davinci:ft-org-...``.
    """
    return model.rsplit("/", 1)[-1].removeprefix("ft:").split(":", 1)[0].lower()


@lru_cache(maxsize=1024)
def encoding_of(model: str) -> str | None:
    """The encoding of a model; None where tiktoken does not know it. Imports tiktoken."""
    from tiktoken.model import encoding_name_for_model

    try:
        encoding = encoding_name_for_model(base_model_name(model))
    except KeyError:
        return None
    encoding = _SAME_RANKS.get(encoding, encoding)
    # A newer tiktoken may name an encoding whose ranks are not shipped here, which it would download.
    return encoding if encoding in ENCODING_FILES else None
