"""Which encoding a model uses."""

from __future__ import annotations

import pytest

from processor.core.errors import ConfigError
from processor.tokens.encodings import base_model_name, encoding_of, resolve_encoding


@pytest.mark.parametrize(
    ("model", "encoding"),
    [
        ("gpt-4o", "o200k_base"),
        ("openai/gpt-4o", "o200k_base"),
        ("openrouter/openai/gpt-4o:free", "o200k_base"),
        ("GPT-4o-2024-08-06", "o200k_base"),
        ("ft:gpt-4o-mini-2024-07-18:org:name:id", "o200k_base"),
        ("ft:gpt-4.1-mini-2025-04-14:org::id", "o200k_base"),
        ("openai/ft:gpt-3.5-turbo-0125:org::id", "cl100k_base"),
        ("gpt-4-0613", "cl100k_base"),
        ("gpt-35-turbo-16k", "cl100k_base"),
        ("text-embedding-3-large", "cl100k_base"),
        ("text-davinci-003", "p50k_base"),
        ("davinci:ft-org-2023-01-01-00-00-00", "r50k_base"),
        ("gpt2", "r50k_base"),
        ("text-davinci-edit-001", "p50k_base"),
        ("openai/gpt-oss-120b", "o200k_base"),
        ("llama-3.1-8b-instruct", None),
        ("/models/gpt-4o/q4.gguf", None),
        ("", None),
    ],
)
def test_a_model_is_found_under_the_names_that_providers_give_it(model: str, encoding: str | None) -> None:
    assert encoding_of(model) == encoding


def test_a_model_whose_encoding_is_not_shipped_is_unknown(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tiktoken.model.MODEL_TO_ENCODING", {"gpt-9": "o900k_base"})
    assert encoding_of("gpt-9") is None


def test_encodings_with_the_same_ranks_resolve_to_one() -> None:
    assert resolve_encoding("o200k_harmony") == resolve_encoding("o200k_base") == "o200k_base"


def test_an_unknown_encoding_raises_a_config_error_that_lists_the_known_ones() -> None:
    with pytest.raises(ConfigError, match="unknown encoding 'o300k_base': use one of cl100k_base, gpt2, "):
        resolve_encoding("o300k_base")


def test_the_base_model_name_has_no_provider_fine_tuning_or_variant() -> None:
    assert base_model_name("openai/ft:GPT-4o:org::id") == "gpt-4o"
