from __future__ import annotations

import pytest

from processor.core.errors import ConfigError
from processor.tokens.encodings import base_model_name, checked, encoding_of


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
def test_a_model_has_its_encoding_however_it_is_spelt(model: str, encoding: str | None) -> None:
    assert encoding_of(model) == encoding


def test_an_encoding_that_is_not_shipped_is_as_good_as_unknown(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tiktoken.model.MODEL_TO_ENCODING", {"gpt-9": "o900k_base"})
    assert encoding_of("gpt-9") is None


def test_encodings_that_share_their_ranks_are_one() -> None:
    assert checked("o200k_harmony") == checked("o200k_base") == "o200k_base"


def test_an_encoding_that_does_not_exist_is_refused_with_those_that_do() -> None:
    with pytest.raises(ConfigError, match="unknown encoding 'o300k_base': use one of cl100k_base, gpt2, "):
        checked("o300k_base")


def test_the_bare_name_drops_provider_tuning_and_variant() -> None:
    assert base_model_name("openai/ft:GPT-4o:org::id") == "gpt-4o"
