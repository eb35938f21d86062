"""Address and key of the endpoint, from settings and environment."""

from __future__ import annotations

import pytest

from processor.config.endpoint_resolution import EndpointAccess, resolve_endpoint
from processor.config.settings import Settings
from processor.core.errors import ConfigError
from processor.core.secrets import Secret

KEY = "not-a-key"
ENVIRON = {"OPENAI_API_KEY": KEY}


def resolved(environ: dict[str, str] = ENVIRON, **settings: str | bool) -> EndpointAccess:
    return resolve_endpoint(Settings(**settings), environ)  # type: ignore[arg-type]


def config_error(environ: dict[str, str] = ENVIRON, **settings: str | bool) -> str:
    with pytest.raises(ConfigError) as caught:
        resolved(environ, **settings)
    assert KEY not in str(caught.value)
    return str(caught.value)


# ---------------------------------------------------------------- the address


def test_default_endpoint_is_openai() -> None:
    found = resolved()
    assert found.target.base_url == "https://api.openai.com/v1"
    assert (found.provider.name, found.key_from) == ("openai", "OPENAI_API_KEY")
    assert (found.target.auth_header, found.target.auth_scheme) == ("Authorization", "Bearer ")


def test_provider_name_sets_address_and_key_variable() -> None:
    found = resolved({"GROQ_API_KEY": KEY}, provider="groq")
    assert found.target.base_url == "https://api.groq.com/openai/v1"
    assert (found.provider.name, found.key_from) == ("groq", "GROQ_API_KEY")


def test_known_address_selects_its_provider() -> None:
    assert resolved({"GROQ_API_KEY": KEY}, base_url="https://api.groq.com/openai/v1").provider.name == "groq"


def test_unknown_address_selects_the_generic_provider() -> None:
    found = resolved(base_url="https://llm.example.org/v1")
    assert (found.provider.name, found.key_from) == ("any", "OPENAI_API_KEY")


def test_base_url_overrides_the_address_of_a_named_provider() -> None:
    found = resolved(provider="openai", base_url="https://proxy.example.org/v1")
    assert (found.provider.name, found.target.base_url) == ("openai", "https://proxy.example.org/v1")


def test_azure_needs_an_address_and_has_its_own_header_and_api_version() -> None:
    assert config_error(provider="azure") == "provider azure needs an address: set --base-url"
    found = resolved(
        {"AZURE_OPENAI_API_KEY": KEY},
        base_url="https://x.openai.azure.com/openai/deployments/d",
        api_version="2024-10-21",
    )
    assert found.target.query == (("api-version", "2024-10-21"),)
    assert (found.target.auth_header, found.target.auth_scheme) == ("api-key", "")


def test_error_for_an_unknown_provider_lists_the_known_ones() -> None:
    assert config_error(provider="opneai").startswith("unknown provider 'opneai'; known are openai, azure, ")


@pytest.mark.parametrize(
    "url", ["llm.example.org/v1", "ftp://host/v1", "https://", "http://[", "http://host:x/v1", "x"]
)
def test_error_for_an_invalid_base_url_shows_the_form(url: str) -> None:
    assert config_error(base_url=url) == f"the base URL must look like https://host/v1, not {url!r}"


def test_base_url_with_a_password_is_refused() -> None:
    said = config_error(base_url="https://me:hush@host/v1")
    assert said == "the base URL must not contain a user name or password: set the key in the environment"


# ---------------------------------------------------------------- the key


def test_error_for_a_missing_key_names_the_variable() -> None:
    said = "no key: set OPENAI_API_KEY, or name another variable with --api-key-env"
    assert config_error({}) == config_error({"OPENAI_API_KEY": "  "}) == said


def test_key_is_read_from_the_variable_named_by_api_key_env() -> None:
    found = resolved({"MINE": KEY}, api_key_env="MINE")
    assert (found.target.key, found.key_from) == (Secret(KEY), "MINE")
    assert config_error({}, api_key_env="MINE").startswith("no key: set MINE")


@pytest.mark.parametrize("url", ["http://127.0.0.1:8080/v1", "http://localhost/v1", "http://[::1]:1/v1"])
def test_loopback_server_needs_no_key_and_may_have_one(url: str) -> None:
    assert resolved({}, base_url=url).target.key is None
    assert resolved(base_url=url).target.key == Secret(KEY)


def test_variable_named_by_api_key_env_must_hold_a_key_even_for_a_loopback_server() -> None:
    assert config_error({}, base_url="http://127.0.0.1/v1", api_key_env="MINE").startswith("no key: set MINE")


def test_key_is_not_sent_over_http_to_another_machine_unless_allowed() -> None:
    url = "http://llm.example.org/v1"
    assert config_error(base_url=url).startswith("the key would be sent unencrypted to llm.example.org: use https")
    assert resolved(base_url=url, allow_http=True).target.base_url == url


def test_name_below_localhost_counts_as_another_machine() -> None:
    url = "http://llm.localhost/v1"
    assert config_error({}, base_url=url).startswith("no key: set OPENAI_API_KEY")
    assert config_error(base_url=url).startswith("the key would be sent unencrypted to llm.localhost: use https")


def test_white_space_around_a_key_is_removed() -> None:
    assert resolved({"OPENAI_API_KEY": f" {KEY}\n"}).target.key == Secret(KEY)


@pytest.mark.parametrize("key", ["not-a-kéy", "not-a\tkey", "not\x00akey"])
def test_key_with_invalid_characters_is_refused_without_being_shown(key: str) -> None:
    said = config_error({"OPENAI_API_KEY": key})
    assert said == "the key in OPENAI_API_KEY contains characters that are not valid in a key; copy it again"


def test_repr_of_the_endpoint_does_not_contain_the_key() -> None:
    assert KEY not in repr(resolved())
    assert KEY not in str(resolved().target.key)
