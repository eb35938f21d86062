"""Where requests go and what opens the door."""

from __future__ import annotations

import pytest

from processor.config.endpoint_resolution import EndpointAccess, resolve_endpoint
from processor.config.settings import Settings
from processor.core.errors import ConfigError
from processor.core.models import Secret

KEY = "not-a-key"
ENVIRON = {"OPENAI_API_KEY": KEY}


def opened(environ: dict[str, str] = ENVIRON, **settings: str | bool) -> EndpointAccess:
    return resolve_endpoint(Settings(**settings), environ)  # type: ignore[arg-type]


def complaint(environ: dict[str, str] = ENVIRON, **settings: str | bool) -> str:
    with pytest.raises(ConfigError) as caught:
        opened(environ, **settings)
    assert KEY not in str(caught.value)
    return str(caught.value)


# ---------------------------------------------------------------- the address


def test_openai_is_where_requests_go_if_nobody_says_otherwise() -> None:
    found = opened()
    assert found.target.base_url == "https://api.openai.com/v1"
    assert (found.provider.name, found.key_from) == ("openai", "OPENAI_API_KEY")
    assert (found.target.auth_header, found.target.auth_scheme) == ("Authorization", "Bearer ")


def test_a_providers_name_sets_its_address_its_key_and_how_it_charges() -> None:
    found = opened({"GROQ_API_KEY": KEY}, provider="groq")
    assert found.target.base_url == "https://api.groq.com/openai/v1"
    assert (found.provider.name, found.key_from) == ("groq", "GROQ_API_KEY")


def test_an_address_tells_its_provider() -> None:
    assert opened({"GROQ_API_KEY": KEY}, base_url="https://api.groq.com/openai/v1").provider.name == "groq"


def test_an_unknown_address_is_one_of_openais_protocol() -> None:
    found = opened(base_url="https://llm.example.org/v1")
    assert (found.provider.name, found.key_from) == ("any", "OPENAI_API_KEY")


def test_a_named_provider_may_be_reached_elsewhere() -> None:
    found = opened(provider="openai", base_url="https://proxy.example.org/v1")
    assert (found.provider.name, found.target.base_url) == ("openai", "https://proxy.example.org/v1")


def test_azure_needs_an_address_and_sends_its_version_and_header() -> None:
    assert complaint(provider="azure") == "provider azure has no address of its own: set --base-url"
    found = opened(
        {"AZURE_OPENAI_API_KEY": KEY},
        base_url="https://x.openai.azure.com/openai/deployments/d",
        api_version="2024-10-21",
    )
    assert found.target.query == (("api-version", "2024-10-21"),)
    assert (found.target.auth_header, found.target.auth_scheme) == ("api-key", "")


def test_an_unknown_provider_is_told_the_known_ones() -> None:
    assert complaint(provider="opneai").startswith("there is no provider 'opneai'; there are openai, azure, ")


@pytest.mark.parametrize(
    "url", ["llm.example.org/v1", "ftp://host/v1", "https://", "http://[", "http://host:x/v1", "x"]
)
def test_what_is_no_address_says_how_one_looks(url: str) -> None:
    assert complaint(base_url=url) == f"the base URL must look like https://host/v1, not {url!r}"


def test_an_address_holds_no_password() -> None:
    said = complaint(base_url="https://me:hush@host/v1")
    assert said == "the base URL must not hold a name or password; keys come from the environment"


# ---------------------------------------------------------------- the key


def test_without_a_key_nothing_is_sent_and_the_variable_is_named() -> None:
    said = "no key: set OPENAI_API_KEY, or name another variable with --api-key-env"
    assert complaint({}) == complaint({"OPENAI_API_KEY": "  "}) == said


def test_another_variable_may_hold_the_key() -> None:
    found = opened({"MINE": KEY}, api_key_env="MINE")
    assert (found.target.key, found.key_from) == (Secret(KEY), "MINE")
    assert complaint({}, api_key_env="MINE").startswith("no key: set MINE")


@pytest.mark.parametrize("url", ["http://127.0.0.1:8080/v1", "http://localhost/v1", "http://[::1]:1/v1"])
def test_a_server_on_this_machine_needs_none_and_may_have_one(url: str) -> None:
    assert opened({}, base_url=url).target.key is None
    assert opened(base_url=url).target.key == Secret(KEY)


def test_a_variable_that_is_named_must_hold_one_even_for_this_machine() -> None:
    assert complaint({}, base_url="http://127.0.0.1/v1", api_key_env="MINE").startswith("no key: set MINE")


def test_a_key_goes_unencrypted_to_no_other_machine_unless_allowed() -> None:
    url = "http://llm.example.org/v1"
    assert complaint(base_url=url).startswith("a key would be sent unencrypted to llm.example.org: use https")
    assert opened(base_url=url, allow_http=True).target.base_url == url


def test_blanks_around_a_key_do_not_matter() -> None:
    assert opened({"OPENAI_API_KEY": f" {KEY}\n"}).target.key == Secret(KEY)


@pytest.mark.parametrize("key", ["not-a-kéy", "not-a\tkey", "not\x00akey"])
def test_what_cannot_be_a_key_is_refused_without_being_shown(key: str) -> None:
    said = complaint({"OPENAI_API_KEY": key})
    assert said == "the key in OPENAI_API_KEY has characters that no key has; was it copied whole?"


def test_what_holds_the_key_does_not_print_it() -> None:
    assert KEY not in repr(opened())
    assert KEY not in str(opened().target.key)
