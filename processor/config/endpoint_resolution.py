"""Where requests go and what opens the door: settings and environment → Target. Raises ConfigError."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from urllib.parse import SplitResult, urlsplit

from processor.config import GENERIC, OPENAI, PROVIDERS, ProviderPreset, provider_for
from processor.config.settings import Settings
from processor.core.errors import ConfigError
from processor.core.models import Secret, Target
from processor.core.urls import is_loopback


@dataclass(frozen=True, slots=True, kw_only=True)
class EndpointAccess:
    target: Target
    provider: ProviderPreset
    key_from: str | None
    """The variable that held the key."""


def resolve_endpoint(settings: Settings, environ: Mapping[str, str]) -> EndpointAccess:
    """Finds the address and the key. A server on this machine may do without one."""
    named = _named(settings.provider)
    base_url = _base_url(settings, named)
    parts = _parts(base_url)
    provider = named or provider_for(base_url)
    is_local = is_loopback(parts.hostname or "")
    variable = settings.api_key_env or provider.key_variable
    key = environ.get(variable, "").strip()
    if not key and (settings.api_key_env or not is_local):
        raise ConfigError(f"no key: set {variable}, or name another variable with --api-key-env")
    if not key.isascii() or not key.isprintable():
        raise ConfigError(f"the key in {variable} has characters that no key has; was it copied whole?")
    if key and parts.scheme == "http" and not is_local and not settings.allow_http:
        raise ConfigError(
            f"a key would be sent unencrypted to {parts.hostname}: use https, or allow it by --allow-http"
        )
    target = Target(
        base_url=base_url,
        key=Secret(key) if key else None,
        auth_header=provider.auth_header,
        auth_scheme=provider.auth_scheme,
        query=(("api-version", settings.api_version),) if settings.api_version else (),
    )
    return EndpointAccess(target=target, provider=provider, key_from=variable if key else None)


def _named(name: str | None) -> ProviderPreset | None:
    if name is None:
        return None
    known = {**PROVIDERS, GENERIC.name: GENERIC}
    if name not in known:
        raise ConfigError(f"there is no provider {name!r}; there are {', '.join(known)}")
    return known[name]


def _base_url(settings: Settings, named: ProviderPreset | None) -> str:
    url = settings.base_url or (named or OPENAI).base_url
    if url is None:
        raise ConfigError(f"provider {settings.provider} has no address of its own: set --base-url")
    return url


def _parts(url: str) -> SplitResult:
    try:
        parts = urlsplit(url)
        is_address = parts.scheme in ("http", "https") and parts.hostname and parts.port != 0
    except ValueError:
        is_address = False
    if not is_address:
        raise ConfigError(f"the base URL must look like https://host/v1, not {url!r}")
    if parts.username or parts.password:
        raise ConfigError("the base URL must not hold a name or password; keys come from the environment")
    return parts
