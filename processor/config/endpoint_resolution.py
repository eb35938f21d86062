"""Resolves settings and environment to an endpoint: its address, its key, its provider's preset."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from urllib.parse import SplitResult, parse_qsl, urlsplit

from processor.config import GENERIC, OPENAI, PROVIDERS, ProviderPreset, provider_for
from processor.config.environment import DOTENV, Environment
from processor.config.providers import KEY_VARIABLES
from processor.config.settings import Settings
from processor.core.errors import ConfigError
from processor.core.models import Target
from processor.core.secrets import MIN_SECRET_CHARS, Secret
from processor.core.urls import is_loopback


@dataclass(frozen=True, slots=True, kw_only=True)
class EndpointAccess:
    target: Target
    provider: ProviderPreset
    key_from: str | None
    """Where the key comes from, for a person; None without a key."""
    address_from: str | None = None
    """The file of the working folder that chose the address; None where the user or the program did."""
    unused_key: str | None = None
    """The variable whose key is not sent, because the address is an http address."""


def resolve_endpoint(settings: Settings, environ: Mapping[str, str], *, needs_key: bool = True) -> EndpointAccess:
    """Finds the address, the key and the preset of the endpoint. Raises ConfigError.

    A server on this machine or at an http address needs no key, unless ``api_key_env`` names one.
    """
    preset = _provider_by_name(settings.provider)
    base_url = _base_url(settings, preset)
    parts = _split_url(base_url)
    _register_secrets(parts)
    provider = preset or provider_for(base_url)
    variable = _key_variable(settings, provider)
    key = _key(variable, environ)
    is_local, is_encrypted = is_loopback(parts.hostname or ""), parts.scheme == "https"
    unused_key = None
    if key is None and needs_key and (settings.api_key_env or (is_encrypted and not is_local)):
        raise ConfigError(_no_key(settings, provider, environ))
    if key is not None and not (is_encrypted or is_local or settings.allow_http or key.is_placeholder):
        if settings.api_key_env:
            raise ConfigError(
                f"the key in {variable} would be sent unencrypted to {parts.hostname}: use https, or allow it with "
                "--allow-http"
            )
        key, unused_key = None, variable
    target = Target(
        base_url=base_url,
        key=key,
        auth_header=provider.auth_header,
        auth_scheme=provider.auth_scheme,
        query=(("api-version", settings.api_version),) if settings.api_version else (),
    )
    address_from = settings.chosen_by.get("base_url" if settings.base_url else "provider")
    if key is not None and address_from and not _is_from_dotenv(variable, environ):
        _refuse_foreign_variable(variable, settings, address_from)
    return EndpointAccess(
        target=target,
        provider=provider,
        key_from=None if key is None else _key_from(key, variable, environ, is_address_foreign=bool(address_from)),
        address_from=address_from,
        unused_key=unused_key,
    )


def default_path(settings: Settings, access: EndpointAccess | None) -> str:
    """The API path of jobs without a url. Without an access, as for the simulator, the provider may still be named."""
    provider = access.provider if access else _provider_by_name(settings.provider) or GENERIC
    return settings.endpoint or provider.endpoint


def _key_variable(settings: Settings, provider: ProviderPreset) -> str:
    """The name of the variable that holds the key. A text that cannot be one may be the key itself: it is not shown."""
    variable = settings.api_key_env or provider.key_variable
    if not re.fullmatch(r"[A-Za-z_][A-Za-z0-9_]*", variable):
        raise ConfigError(
            "--api-key-env (or api_key_env) takes the name of a variable, such as OPENAI_API_KEY, not the key itself: "
            "put the key into a variable or into .env"
        )
    return variable


def _key(variable: str, environ: Mapping[str, str]) -> Secret | None:
    value = environ.get(variable, "").strip()
    if not value.isascii() or not value.isprintable():
        raise ConfigError(f"the key in {variable} contains characters that are not valid in a key; copy it again")
    return Secret(value) if value else None


def _no_key(settings: Settings, provider: ProviderPreset, environ: Mapping[str, str]) -> str:
    name = settings.api_key_env or provider.key_variable
    if name not in environ and not re.fullmatch(r"[A-Z_][A-Z0-9_]*", name):
        return "no key: the variable that --api-key-env (or api_key_env) names is not set; it takes a name, not a key"
    state = "is empty" if name in environ else "is not set"
    return f"no key: {name} {state}; set it, also in .env, or name another variable with --api-key-env"


def _is_from_dotenv(variable: str, environ: Mapping[str, str]) -> bool:
    return isinstance(environ, Environment) and variable in environ.from_dotenv


def _key_from(key: Secret, variable: str, environ: Mapping[str, str], *, is_address_foreign: bool) -> str:
    """The variable of the key, and what a person should know about it."""
    if key.is_placeholder:
        return f"{variable} ({key.value}, a placeholder: sent as it is, not masked)"
    if not key.is_masked:
        return f"{variable} (shorter than {MIN_SECRET_CHARS} characters: not masked)"
    if is_address_foreign:
        return f"{variable} in {DOTENV if _is_from_dotenv(variable, environ) else 'the environment'}"
    return variable


def _refuse_foreign_variable(variable: str, settings: Settings, file: str) -> None:
    """A file that came with the folder must not send any secret of the environment to an address of its choice."""
    if "api_key_env" in settings.chosen_by and variable not in KEY_VARIABLES:
        raise ConfigError(
            f"{file} chooses the address and {settings.chosen_by['api_key_env']} sends it the variable {variable}, "
            f"which is not known as the key of an LLM server: if that is right, give --api-key-env {variable}"
        )


def _provider_by_name(name: str | None) -> ProviderPreset | None:
    if name is None:
        return None
    known = {**PROVIDERS, GENERIC.name: GENERIC}
    if name not in known:
        raise ConfigError(f"unknown provider {name!r}; known are {', '.join(known)}")
    return known[name]


def _base_url(settings: Settings, preset: ProviderPreset | None) -> str:
    url = settings.base_url or (preset or OPENAI).base_url
    if url is None:
        raise ConfigError(f"provider {settings.provider} needs an address: set --base-url")
    return url


def _split_url(url: str) -> SplitResult:
    try:
        parts = urlsplit(url)
        is_address = parts.scheme in ("http", "https") and parts.hostname and parts.port != 0
    except ValueError:
        is_address = False
    if "@" in url.partition("?")[0]:
        raise ConfigError("the base URL must not contain a user name or password: set the key in the environment")
    if not is_address:
        raise ConfigError(f"the base URL must look like https://host/v1, not {url.partition('?')[0]!r}")
    return parts


def _register_secrets(parts: SplitResult) -> None:
    """A query such as ``?key=...`` may hold a key: it is known as a secret from now on."""
    for name, value in parse_qsl(parts.query):
        if re.search(r"(?i)key|token|secret|sig|pass|auth", name):
            Secret(value)
