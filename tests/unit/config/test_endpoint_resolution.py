"""Address and key of the endpoint, from settings and environment."""

from __future__ import annotations

from dataclasses import replace

import pytest

from processor.config.endpoint_resolution import EndpointAccess, default_path, resolve_endpoint
from processor.config.environment import Environment
from processor.config.settings import Settings
from processor.core.errors import ConfigError
from processor.core.secrets import Secret

KEY = "not-a-key-of-anyone"
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
    assert config_error(provider="azure") == "provider azure needs an address: set --base-url or AZURE_OPENAI_ENDPOINT"
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
    remedy = "set it in the environment or in .env, or name another variable with --api-key-env"
    assert config_error({}) == f"no key: OPENAI_API_KEY is not set: {remedy}"
    assert config_error({"OPENAI_API_KEY": "  "}) == f"no key: OPENAI_API_KEY is empty: {remedy}"


def test_key_is_read_from_the_variable_named_by_api_key_env() -> None:
    found = resolved({"MINE": KEY}, api_key_env="MINE")
    assert (found.target.key, found.key_from) == (Secret(KEY), "MINE")
    assert config_error({}, api_key_env="MINE").startswith("no key: MINE is not set")


@pytest.mark.parametrize("url", ["http://127.0.0.1:8080/v1", "http://localhost/v1", "http://[::1]:1/v1"])
def test_loopback_server_needs_no_key_and_may_have_one(url: str) -> None:
    assert resolved({}, base_url=url).target.key is None
    assert resolved(base_url=url).target.key == Secret(KEY)


def test_variable_named_by_api_key_env_must_hold_a_key_even_for_a_loopback_server() -> None:
    assert config_error({}, base_url="http://127.0.0.1/v1", api_key_env="MINE").startswith("no key: MINE is not set")


def test_key_is_not_sent_over_http_to_another_machine_unless_allowed() -> None:
    url = "http://llm.example.org/v1"
    said = config_error(base_url=url, api_key_env="OPENAI_API_KEY")
    assert said.startswith("the key in OPENAI_API_KEY would be sent unencrypted to llm.example.org: use https")
    assert resolved(base_url=url, api_key_env="OPENAI_API_KEY", allow_http=True).target.key == Secret(KEY)
    assert resolved(base_url=url, allow_http=True).target.key == Secret(KEY)


@pytest.mark.parametrize(
    "host", ["llm.example.org", "192.168.1.5:8000", "0.0.0.0:8000", "[fd00::1]:80", "llm.localhost"]
)
def test_http_address_needs_no_key_and_is_not_sent_one_that_is_set_by_default(host: str) -> None:
    url = f"http://{host}/v1"
    assert resolved({}, base_url=url).target.key is None
    found = resolved(base_url=url)
    assert (found.target.key, found.key_from, found.unused_key) == (None, None, "OPENAI_API_KEY")


@pytest.mark.parametrize("key", ["none", "EMPTY", "ollama", "lm-studio", "sk-no-key-required"])
def test_placeholder_is_sent_over_http_and_named_in_the_first_line(key: str) -> None:
    found = resolved({"OPENAI_API_KEY": key}, base_url="http://192.168.1.5:8000/v1")
    assert found.target.key == Secret(key)
    assert found.key_from == f"OPENAI_API_KEY ({key}, a placeholder: sent as it is, not masked)"


def test_short_key_is_said_not_to_be_masked() -> None:
    assert resolved({"OPENAI_API_KEY": "short"}).key_from == "OPENAI_API_KEY (shorter than 16 characters: not masked)"


# ---------------------------------------------------------------- files of the working folder


BY_FILE = {"base_url": "config.toml", "api_key_env": "config.toml"}


def test_address_that_a_file_chose_and_key_of_the_environment_are_both_named() -> None:
    settings = Settings(base_url="https://llm.example.org/v1", chosen_by={"base_url": ".env"})
    found = resolve_endpoint(settings, ENVIRON)
    assert (found.address_from, found.key_from) == (".env", "OPENAI_API_KEY in the environment")


def test_file_that_chose_the_address_may_not_name_a_variable_that_is_no_key_of_an_llm() -> None:
    environ = {"AWS_SECRET_ACCESS_KEY": KEY, "GROQ_API_KEY": KEY}
    settings = Settings(base_url="https://llm.example.org/v1", api_key_env="AWS_SECRET_ACCESS_KEY", chosen_by=BY_FILE)
    with pytest.raises(ConfigError, match=r"if that is right, give --api-key-env AWS_SECRET_ACCESS_KEY$"):
        resolve_endpoint(settings, environ)
    named_by_flag = replace(settings, chosen_by={"base_url": "config.toml"})
    assert resolve_endpoint(named_by_flag, environ).target.key == Secret(KEY)
    known = replace(settings, api_key_env="GROQ_API_KEY")
    assert resolve_endpoint(known, environ).target.key == Secret(KEY)
    in_dotenv = Environment(environ)
    in_dotenv.from_dotenv = frozenset(environ)
    assert resolve_endpoint(settings, in_dotenv).target.key == Secret(KEY)


@pytest.mark.parametrize("name", ["sk-proj-abcdefghijkl", "sk abcdef", "9abc"])
def test_key_given_as_the_name_of_its_variable_is_not_shown(name: str) -> None:
    said = config_error(api_key_env=name)
    assert "takes the name of a variable" in said
    assert name not in said


def test_unset_variable_whose_name_looks_like_a_key_is_not_shown() -> None:
    assert "abcDEF" not in config_error(api_key_env="abcDEF0123456789")


def test_white_space_around_a_key_is_removed() -> None:
    assert resolved({"OPENAI_API_KEY": f" {KEY}\n"}).target.key == Secret(KEY)


@pytest.mark.parametrize("key", ["not-a-kéy", "not-a\tkey", "not\x00akey"])
def test_key_with_invalid_characters_is_refused_without_being_shown(key: str) -> None:
    said = config_error({"OPENAI_API_KEY": key})
    assert said == "the key in OPENAI_API_KEY contains characters that are not valid in a key; copy it again"


def test_repr_of_the_endpoint_does_not_contain_the_key() -> None:
    assert KEY not in repr(resolved())
    assert KEY not in str(resolved().target.key)


@pytest.mark.parametrize(
    ("settings", "path"),
    [
        (Settings(), "/v1/chat/completions"),
        (Settings(provider="anthropic"), "/v1/messages"),
        (Settings(base_url="https://api.anthropic.com/v1"), "/v1/messages"),
        (Settings(provider="anthropic", endpoint="/v1/chat/completions"), "/v1/chat/completions"),
        (Settings(endpoint="/v1/embeddings"), "/v1/embeddings"),
        (Settings(base_url="http://localhost:8080/v1"), "/v1/chat/completions"),
    ],
)
def test_endpoint_setting_decides_the_default_path_and_else_the_provider(settings: Settings, path: str) -> None:
    environ = {"OPENAI_API_KEY": "a" * 20, "ANTHROPIC_API_KEY": "b" * 20}
    assert default_path(settings, [resolve_endpoint(settings, environ)]) == path
    if settings.base_url is None:
        assert default_path(settings, ()) == path, "as for the simulator"


def test_key_of_anthropic_is_sent_in_a_header_of_its_own() -> None:
    access = resolve_endpoint(Settings(provider="anthropic"), {"ANTHROPIC_API_KEY": "b" * 20})
    assert (access.target.auth_header, access.target.auth_scheme) == ("x-api-key", "")
