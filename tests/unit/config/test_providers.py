"""The providers known by name."""

from __future__ import annotations

from urllib.parse import urlsplit

import pytest

from processor.config import GENERIC, OPENAI, PROVIDERS, provider_for


def test_each_is_known_by_its_own_name() -> None:
    assert all(provider.name == name for name, provider in PROVIDERS.items())


def test_each_has_an_encrypted_address_and_no_two_have_the_same() -> None:
    addresses = [provider.base_url for provider in PROVIDERS.values() if provider.base_url]
    assert all(urlsplit(address).scheme == "https" for address in addresses)
    assert len({urlsplit(address).hostname for address in addresses}) == len(addresses)


def test_keys_come_from_variables_of_their_own() -> None:
    variables = [provider.key_variable for provider in PROVIDERS.values()]
    assert len(set(variables)) == len(variables)
    assert all(variable.endswith("_API_KEY") for variable in variables)


@pytest.mark.parametrize("name", PROVIDERS)
def test_each_is_found_by_its_address(name: str) -> None:
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
def test_whatever_else_speaks_the_protocol_is_any(url: str) -> None:
    assert provider_for(url) is GENERIC


def test_a_host_is_the_same_in_capitals() -> None:
    assert provider_for("https://API.OpenAI.com/v1") is OPENAI


def test_azure_has_a_header_of_its_own_and_counts_prompt_and_reply_together() -> None:
    azure = PROVIDERS["azure"]
    assert (azure.auth_header, azure.auth_scheme, azure.charging) == ("api-key", "", "sum")


def test_openai_counts_the_larger_of_both() -> None:
    assert OPENAI.charging == "larger"
