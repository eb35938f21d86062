"""Sections [providers.NAME], addresses with variables, and the settings that a provider brings."""

from __future__ import annotations

from dataclasses import replace

import pytest

from processor.config.endpoint_resolution import EndpointAccess, default_path, resolve_endpoint
from processor.config.environment import Environment
from processor.config.settings import ProviderSettings, Settings
from processor.core.errors import ConfigError
from processor.core.secrets import mask_text

KEY = "not-a-key-of-anyone"
AZURE = "https://name.openai.azure.com"


def resolved(environ: dict[str, str], **settings: object) -> EndpointAccess:
    return resolve_endpoint(Settings(**settings), environ)  # type: ignore[arg-type]


def test_section_changes_only_the_fields_of_the_preset_that_it_sets() -> None:
    section = ProviderSettings(base_url="https://proxy.example.org/v1", refuses=("stream_options",))
    found = resolved({"GROQ_API_KEY": KEY}, provider="groq", providers={"groq": section})
    assert found.target.base_url == "https://proxy.example.org/v1"
    assert found.target.refuses == {"stream_options"}
    assert (found.key_from, found.provider.rate_limit_headers) == ("GROQ_API_KEY", "requests-per-day")


def test_section_adds_a_provider_which_is_found_by_its_name_and_its_address() -> None:
    section = ProviderSettings(
        base_url="https://llm.example.org/v1",
        api_key_env="MINE",
        auth="x-api-key",
        headers={"x-team": "blue"},
        endpoint="/v1/completions",
        api_version="7",
        charging="used",
    )
    for chosen in ({"provider": "mine"}, {"base_url": "https://llm.example.org/v1"}):
        found = resolved({"MINE": KEY}, providers={"mine": section}, **chosen)
        assert (found.provider.name, found.key_from) == ("mine", "MINE")
        assert default_path(Settings(), [found]) == "/v1/completions"
        assert (found.target.auth_header, found.target.auth_scheme) == ("x-api-key", "")
        assert found.target.headers == (("x-team", "blue"),)
        assert found.target.query == (("api-version", "7"),)
        assert found.provider.charging == "used"


def test_flag_wins_over_the_section() -> None:
    section = ProviderSettings(endpoint="/v1/completions", api_version="7")
    found = resolved({"OPENAI_API_KEY": KEY}, providers={"openai": section}, api_version="8")
    assert found.target.query == (("api-version", "8"),)
    assert default_path(Settings(endpoint="/v1/embeddings"), [found]) == "/v1/embeddings"


@pytest.mark.parametrize(
    ("section", "message"),
    [
        (ProviderSettings(), "providers.mine must have a base_url: there is no preset of that name"),
        (
            ProviderSettings(base_url="https://{HOME}/v1"),
            "providers.mine.base_url must be an address: only {model} may stand in braces",
        ),
        (
            ProviderSettings(base_url="https://h/v1", api_key_env="A", api_key_command=("b",)),
            "providers.mine must not have both api_key_env and api_key_command: remove one of them",
        ),
        (
            ProviderSettings(base_url="https://h/v1", headers={"x y": "z"}),
            "providers.mine.headers must be names and values of printable ASCII; correct 'x y'",
        ),
        (
            ProviderSettings(base_url="https://h/v1", headers={"x": "a\r\nHost: b"}),
            "providers.mine.headers must be names and values of printable ASCII; correct 'x'",
        ),
    ],
)
def test_section_that_cannot_be_used_is_refused(section: ProviderSettings, message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        resolved({"OPENAI_API_KEY": KEY}, providers={"mine": section})
    assert str(caught.value) == message


def test_secret_in_a_configured_header_is_masked() -> None:
    section = ProviderSettings(headers={"x-gateway-token": "gateway-token-of-no-one"})
    resolved({"OPENAI_API_KEY": KEY}, providers={"openai": section})
    assert "gateway-token" not in mask_text("refused: gateway-token-of-no-one")


@pytest.mark.parametrize("name", ["ollama", "lmstudio", "vllm", "sglang", "llamacpp", "litellm"])
def test_server_of_the_user_needs_no_key_wherever_it_is(name: str) -> None:
    assert resolved({}, provider=name).target.key is None
    found = resolved({"OPENAI_API_KEY": KEY}, provider=name, base_url="https://gpu.example.org/v1")
    assert found.target.key is None


def test_second_variable_of_a_provider_is_read_where_the_first_is_not_set() -> None:
    assert resolved({"GOOGLE_API_KEY": KEY, "GEMINI_API_KEY": ""}, provider="gemini").key_from == "GOOGLE_API_KEY"


def test_section_decides_the_api_of_jobs_that_name_none_for_the_simulator_too() -> None:
    section = ProviderSettings(base_url="https://llm.example.org/v1", endpoint="/v1/embeddings")
    assert default_path(Settings(provider="mine", providers={"mine": section}), ()) == "/v1/embeddings"


# ---------------------------------------------------------------- addresses with variables


def test_region_is_part_of_the_address() -> None:
    key = {"AWS_BEARER_TOKEN_BEDROCK": KEY}
    found = resolved({**key, "AWS_DEFAULT_REGION": "us-east-1"}, provider="bedrock")
    assert found.target.base_url == "https://bedrock-mantle.us-east-1.api.aws/openai/v1"
    other = resolved({**key, "AWS_REGION": "eu-west-1"}, provider="bedrock-anthropic")
    assert other.target.base_url == "https://bedrock-mantle.eu-west-1.api.aws/anthropic/v1"
    assert other.provider.endpoint == "/v1/messages"
    with pytest.raises(ConfigError, match="provider bedrock needs an address: set --base-url or AWS_REGION"):
        resolved(key, provider="bedrock")


@pytest.mark.parametrize("region", ["evil.example.org/", "a.b", "x@y", "a/b", "é"])
def test_variable_cannot_lead_to_another_server(region: str) -> None:
    with pytest.raises(ConfigError, match="AWS_REGION must be a name of letters, digits and hyphens"):
        resolved({"AWS_REGION": region, "AWS_BEARER_TOKEN_BEDROCK": KEY}, provider="bedrock")


@pytest.mark.parametrize(
    ("settings", "base_url"),
    [
        ({"provider": "azure"}, f"{AZURE}/openai/v1"),
        ({"base_url": AZURE}, f"{AZURE}/openai/v1"),
        ({"provider": "azure", "api_version": "2024-10-21"}, AZURE + "/openai/deployments/{model}"),
        ({"base_url": f"{AZURE}/openai/v1", "api_version": "preview"}, f"{AZURE}/openai/v1"),
        ({"base_url": f"{AZURE}/openai/deployments/d"}, f"{AZURE}/openai/deployments/d"),
    ],
)
def test_azure_is_addressed_by_its_resource_or_by_deployment(settings: dict[str, str], base_url: str) -> None:
    environ = {"AZURE_OPENAI_ENDPOINT": f"{AZURE}/", "AZURE_OPENAI_API_KEY": KEY}
    assert resolved(environ, **settings).target.base_url == base_url


def test_address_in_a_variable_of_dotenv_is_chosen_by_it() -> None:
    environ = Environment({"AZURE_OPENAI_ENDPOINT": AZURE, "AZURE_OPENAI_API_KEY": KEY})
    environ.from_dotenv = frozenset({"AZURE_OPENAI_ENDPOINT"})
    assert resolved(environ, provider="azure").address_from == ".env"


def test_address_in_a_section_of_a_found_file_is_chosen_by_it_and_may_get_no_other_secret() -> None:
    section = ProviderSettings(base_url="https://llm.example.org/v1", api_key_env="CLOUD_SECRET")
    names = ("providers.groq.base_url", "providers.groq.api_key_env")
    chosen_by = dict.fromkeys(names, "config.toml")
    with pytest.raises(ConfigError, match="if that is right, give --api-key-env CLOUD_SECRET"):
        resolved({"CLOUD_SECRET": KEY}, provider="groq", providers={"groq": section}, chosen_by=chosen_by)
    known = ProviderSettings(base_url="https://llm.example.org/v1")
    found = resolved({"GROQ_API_KEY": KEY}, provider="groq", providers={"groq": known}, chosen_by=chosen_by)
    assert (found.address_from, found.key_from) == ("config.toml", "GROQ_API_KEY in the environment")


@pytest.mark.parametrize("provider", ["bedrock", "vertex"])
@pytest.mark.parametrize("setting", ["base_url", "section"])
def test_key_of_a_cloud_is_not_sent_to_an_address_that_a_found_file_chose(provider: str, setting: str) -> None:
    url = "https://llm.example.org/v1"
    environ = {"AWS_BEARER_TOKEN_BEDROCK": KEY, "VERTEX_ACCESS_TOKEN": KEY}
    settings = Settings(
        provider=provider,
        base_url=url if setting == "base_url" else None,
        providers={} if setting == "base_url" else {provider: ProviderSettings(base_url=url)},
        chosen_by={setting if setting == "base_url" else f"providers.{provider}.base_url": "config.toml"},
    )
    with pytest.raises(ConfigError, match="which is not known as the key of an LLM server"):
        resolve_endpoint(settings, environ)
    variable = "AWS_BEARER_TOKEN_BEDROCK" if provider == "bedrock" else "VERTEX_ACCESS_TOKEN"
    assert resolve_endpoint(replace(settings, api_key_env=variable), environ).key_from
    assert resolve_endpoint(replace(settings, chosen_by={}), environ).key_from == variable


def test_provider_that_a_found_file_chose_gets_its_own_key_at_its_own_address() -> None:
    environ = {"AWS_BEARER_TOKEN_BEDROCK": KEY, "AWS_REGION": "us-east-1"}
    found = resolve_endpoint(Settings(provider="bedrock", chosen_by={"provider": "config.toml"}), environ)
    assert (found.address_from, found.key_from) == ("config.toml", "AWS_BEARER_TOKEN_BEDROCK in the environment")
