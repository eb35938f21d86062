"""The presets of known providers."""

from __future__ import annotations

import re
from urllib.parse import urlsplit

import pytest

from processor.config import GENERIC, OPENAI, PROVIDERS, provider_for
from processor.config.presets import KEY_VARIABLES
from processor.core.urls import endpoint_address

NAMES = {
    *("openai", "azure", "anthropic", "gemini", "bedrock", "vertex", "openrouter", "groq", "together", "deepseek"),
    *("mistral", "xai", "fireworks", "cerebras", "perplexity"),
    *("ollama", "lmstudio", "vllm", "sglang", "llamacpp", "litellm"),
}

ADDRESSES = {
    "azure": "https://mine.openai.azure.com/openai/deployments/x",
    "bedrock": "https://bedrock-mantle.us-east-1.api.aws/openai/v1",
    "bedrock-anthropic": "https://bedrock-mantle.us-east-1.api.aws/anthropic/v1",
    "vertex": "https://europe-west1-aiplatform.googleapis.com/v1/projects/p/locations/l/endpoints/openapi",
}
"""Of presets whose address has parts that the user must give."""

HOSTED = [name for name, provider in PROVIDERS.items() if provider.needs_key]
OWN = [name for name, provider in PROVIDERS.items() if not provider.needs_key]


def test_all_providers_have_a_preset_under_their_own_name() -> None:
    assert set(PROVIDERS) >= NAMES
    assert all(provider.name == name for name, provider in PROVIDERS.items())


@pytest.mark.parametrize("name", HOSTED)
def test_hosted_provider_has_an_https_address_and_is_found_by_it(name: str) -> None:
    address = ADDRESSES.get(name) or PROVIDERS[name].base_url
    assert address
    assert urlsplit(address).scheme == "https"
    assert provider_for(address) is PROVIDERS[name]


@pytest.mark.parametrize("name", OWN)
def test_server_of_the_user_is_on_this_machine_and_not_guessed_from_its_port(name: str) -> None:
    address = PROVIDERS[name].base_url
    assert address
    assert urlsplit(address).hostname == "localhost"
    assert provider_for(address) is GENERIC


def test_addresses_differ() -> None:
    addresses = [provider.base_url for provider in PROVIDERS.values()]
    assert len(set(addresses)) == len(addresses)


def test_key_variables_are_known_to_be_keys_of_llm_servers_except_those_of_a_whole_cloud() -> None:
    variables = {provider.key_variable for provider in PROVIDERS.values()}
    assert variables - KEY_VARIABLES == {"AWS_BEARER_TOKEN_BEDROCK", "VERTEX_ACCESS_TOKEN"}
    assert all(re.fullmatch(r"[A-Z_]+", variable) for variable in variables)


@pytest.mark.parametrize(
    "url",
    [
        "http://127.0.0.1:8080/v1",
        "https://api.openai.com.example.org/v1",
        "https://openai.azure.com.example.org/v1",
        "https://x.openai.azure.com.example.org/v1",
        "https://example.org/x.openai.azure.com/v1",
        "https://notopenai.azure.com/v1",
        "https://bedrock-mantle.us-east-1.api.aws.example.org/openai/v1",
        "nonsense",
    ],
)
def test_other_addresses_get_the_generic_preset(url: str) -> None:
    assert provider_for(url) is GENERIC


def test_host_names_are_compared_without_case() -> None:
    assert provider_for("https://API.OpenAI.com/v1") is OPENAI


def test_azure_has_its_own_header_and_counts_prompt_plus_max_tokens() -> None:
    azure = PROVIDERS["azure"]
    assert (azure.auth, azure.charging) == ("api-key", "sum")


def test_openai_counts_the_larger_of_prompt_and_max_tokens() -> None:
    assert OPENAI.charging == "larger"


@pytest.mark.parametrize(
    ("base_url", "address"),
    [
        ("https://host/v1", "https://host/v1/chat/completions"),
        ("https://host/v1/", "https://host/v1/chat/completions"),
        ("https://host/v1beta/openai", "https://host/v1beta/openai/chat/completions"),
        ("https://host/openai/deployments/d", "https://host/openai/deployments/d/chat/completions"),
        ("https://host/x/chat/completions?api-version=1", "https://host/x/chat/completions"),
        ("https://host", "https://host/v1/chat/completions"),
        ("https://host/.", "https://host/chat/completions"),
    ],
)
def test_path_of_a_base_url_is_not_changed(base_url: str, address: str) -> None:
    assert endpoint_address(base_url, "/v1/chat/completions") == address
