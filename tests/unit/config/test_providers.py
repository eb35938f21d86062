"""The presets of known providers."""

from __future__ import annotations

from urllib.parse import urlsplit

import pytest

from processor.config import GENERIC, OPENAI, PROVIDERS, provider_for


def test_presets_are_stored_under_their_own_name() -> None:
    assert all(provider.name == name for name, provider in PROVIDERS.items())


def test_addresses_of_presets_use_https_and_differ() -> None:
    addresses = [provider.base_url for provider in PROVIDERS.values() if provider.base_url]
    assert all(urlsplit(address).scheme == "https" for address in addresses)
    assert len({urlsplit(address).hostname for address in addresses}) == len(addresses)


def test_each_preset_has_its_own_key_variable() -> None:
    variables = [provider.key_variable for provider in PROVIDERS.values()]
    assert len(set(variables)) == len(variables)
    assert all(variable.endswith("_API_KEY") for variable in variables)


@pytest.mark.parametrize("name", PROVIDERS)
def test_preset_is_found_by_its_address(name: str) -> None:
    provider = PROVIDERS[name]
    assert provider_for(provider.base_url or "https://mine.openai.azure.com/openai/deployments/x") is provider


@pytest.mark.parametrize(
    "url",
    [
        "http://127.0.0.1:8080/v1",
        "https://api.openai.com.example.org/v1",
        "https://openai.azure.com.example.org/v1",
        "https://notopenai.azure.com/v1",
        "nonsense",
    ],
)
def test_other_addresses_get_the_generic_preset(url: str) -> None:
    assert provider_for(url) is GENERIC


def test_host_names_are_compared_without_case() -> None:
    assert provider_for("https://API.OpenAI.com/v1") is OPENAI


def test_azure_has_its_own_header_and_counts_prompt_plus_max_tokens() -> None:
    azure = PROVIDERS["azure"]
    assert (azure.auth_header, azure.auth_scheme, azure.charging) == ("api-key", "", "sum")


def test_openai_counts_the_larger_of_prompt_and_max_tokens() -> None:
    assert OPENAI.charging == "larger"
