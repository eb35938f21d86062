"""Resolves settings and environment to an endpoint: its address, its key, its provider's preset."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from urllib.parse import SplitResult, urlsplit

from processor.config import GENERIC, OPENAI, PROVIDERS, ProviderPreset, provider_for
from processor.config.settings import Settings
from processor.core.errors import ConfigError
from processor.core.models import Target
from processor.core.secrets import Secret
from processor.core.urls import is_loopback


@dataclass(frozen=True, slots=True, kw_only=True)
class EndpointAccess:
    target: Target
    provider: ProviderPreset
    key_from: str | None
    """The environment variable that holds the key; None without a key."""


def resolve_endpoint(settings: Settings, environ: Mapping[str, str], *, needs_key: bool = True) -> EndpointAccess:
    """Finds the address, the key and the preset of the endpoint. Raises ConfigError.

    A server on this machine needs no key, unless ``api_key_env`` names one.
    """
    preset = _provider_by_name(settings.provider)
    base_url = _base_url(settings, preset)
    parts = _split_url(base_url)
    provider = preset or provider_for(base_url)
    is_local = is_loopback(parts.hostname or "")
    variable = settings.api_key_env or provider.key_variable
    key = environ.get(variable, "").strip()
    if not key and needs_key and (settings.api_key_env or not is_local):
        raise ConfigError(f"no key: set {variable}, or name another variable with --api-key-env")
    if not key.isascii() or not key.isprintable():
        raise ConfigError(f"the key in {variable} contains characters that are not valid in a key; copy it again")
    if key and parts.scheme == "http" and not is_local and not settings.allow_http:
        raise ConfigError(
            f"the key would be sent unencrypted to {parts.hostname}: use https, or allow it with --allow-http"
        )
    target = Target(
        base_url=base_url,
        key=Secret(key) if key else None,
        auth_header=provider.auth_header,
        auth_scheme=provider.auth_scheme,
        query=(("api-version", settings.api_version),) if settings.api_version else (),
    )
    return EndpointAccess(target=target, provider=provider, key_from=variable if key else None)


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
    if not is_address:
        raise ConfigError(f"the base URL must look like https://host/v1, not {url!r}")
    if parts.username or parts.password:
        raise ConfigError("the base URL must not contain a user name or password: set the key in the environment")
    return parts
