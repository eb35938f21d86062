"""Resolves settings and environment to an endpoint: its address, its key, its provider's preset."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from processor.config.api_keys import KeyCommand, key_source
from processor.config.base_urls import base_url, with_root_path
from processor.config.config_files import CONFIG_FILE
from processor.config.endpoint_settings import EndpointSettings
from processor.config.local_models import checked_local_model
from processor.config.presets import GENERIC, PROVIDERS, provider_for
from processor.config.providers import AUTH_HEADERS, ProviderPreset
from processor.config.settings import ProviderSettings, Settings
from processor.core.errors import ConfigError
from processor.core.fast_dataclass import dataclass
from processor.core.models import Target
from processor.core.secrets import Secret, is_printable_ascii
from processor.core.text import setting_name

LOCAL_URL = "http://127.0.0.1/v1"
"""In place of the address of a local model, until that is loaded."""


@dataclass(frozen=True, slots=True, kw_only=True)
class EndpointAccess:
    """How one endpoint of a run is reached."""

    target: Target
    provider: ProviderPreset
    key_from: str | None
    """Where the key comes from, for a person; None without a key."""
    key_variable: str | None = None
    """The environment variable that holds the key; None where it comes from elsewhere."""
    key_command: KeyCommand | None = None
    """Prints the key, which the target does not have yet."""
    address_from: str | None = None
    """The file of the working folder that chose the address; None where the user or the program did."""
    unused_key: str | None = None
    """The variable whose key is not sent, because the address is an http address."""
    local_model: Path | None = None
    """The weights of a model that the run serves itself, at an address that is known once it is loaded."""
    settings: EndpointSettings | None = None
    """The table of the endpoint; None where the run has only one."""

    @property
    def name(self) -> str:
        """Names the endpoint for a person: its address, where the run has only one."""
        return self.settings.name if self.settings else self.target.address


def resolve_endpoints(
    settings: Settings, environ: Mapping[str, str], *, needs_key: bool = True
) -> tuple[EndpointAccess, ...]:
    """Finds all endpoints of a run: those of ``[[endpoints]]``, else the one. Raises ConfigError."""
    if settings.local is not None:
        path = checked_local_model(settings, settings.local)
        return (EndpointAccess(target=Target(base_url=LOCAL_URL), provider=GENERIC, key_from=None, local_model=path),)
    if not settings.endpoints:
        return (resolve_endpoint(settings, environ, needs_key=needs_key),)
    return tuple(_resolve_table(settings, table, environ, needs_key=needs_key) for table in settings.endpoints)


def _resolve_table(
    settings: Settings, table: EndpointSettings, environ: Mapping[str, str], *, needs_key: bool
) -> EndpointAccess:
    own = ("base_url", "provider", "api_key_env", "api_key_command", "api_version")
    chosen = {name: value for name in own if (value := getattr(table, name)) is not None}
    chosen_by = dict(settings.chosen_by)
    if "endpoints" in chosen_by:
        chosen_by |= dict.fromkeys(chosen, CONFIG_FILE)
    ttl_s = table.api_key_ttl_s or settings.api_key_ttl_s
    alone = replace(
        settings, endpoints=(), **{**dict.fromkeys(own), **chosen}, api_key_ttl_s=ttl_s, chosen_by=chosen_by
    )
    try:
        access = resolve_endpoint(alone, environ, needs_key=needs_key)
    except ConfigError as error:
        raise ConfigError(f"the endpoint {table.name!r}: {error}") from None
    return replace(access, settings=table)


def resolve_endpoint(settings: Settings, environ: Mapping[str, str], *, needs_key: bool = True) -> EndpointAccess:
    """Finds the address, the key and the preset of the endpoint. Raises ConfigError.

    The command of a key is not run yet: that is left to whoever sends requests.
    """
    providers = configured_providers(settings)
    named = _provider_by_name(settings.provider, providers)
    url = base_url(settings, named, environ)
    provider = named or provider_for(url.url, providers)
    address_from = url.chosen_by or (None if settings.base_url else settings.chosen_by.get("provider"))
    source = key_source(settings, provider, url, address_from, environ, needs_key=needs_key)
    api_version = settings.api_version or _section(settings, provider).api_version
    header, scheme = AUTH_HEADERS[provider.auth]
    target = Target(
        base_url=with_root_path(url, provider, has_api_version=api_version is not None),
        key=source.key,
        auth_header=header,
        auth_scheme=scheme,
        headers=provider.headers,
        query=(("api-version", api_version),) if api_version else (),
        refuses=provider.refuses,
    )
    return EndpointAccess(
        target=target,
        provider=provider,
        key_from=source.described_as,
        key_variable=source.variable,
        key_command=source.command,
        address_from=address_from,
        unused_key=source.unused_variable,
    )


def default_path(settings: Settings, accesses: Sequence[EndpointAccess]) -> str:
    """The API path of jobs without a url. Without an access, as for the simulator, the provider may still be named.

    Raises ConfigError where several endpoints have different ones.
    """
    if settings.endpoint is not None:
        return settings.endpoint
    if not accesses:
        return named_provider(settings).endpoint
    paths = {access.provider.endpoint: access.name for access in accesses}
    if len(paths) > 1:
        (path, name), (other_path, other_name) = list(paths.items())[:2]
        raise ConfigError(
            f"jobs without a url go to {path} at {name} and to {other_path} at {other_name}: choose one with "
            f"{setting_name('endpoint')}"
        )
    return next(iter(paths))


# ---------------------------------------------------------------- presets and [providers.NAME]


def named_provider(settings: Settings) -> ProviderPreset:
    """The provider that the settings name, else ``GENERIC``. Raises ConfigError where there is none of that name."""
    return _provider_by_name(settings.provider, configured_providers(settings)) or GENERIC


def configured_providers(settings: Settings) -> dict[str, ProviderPreset]:
    """The presets, changed and joined by those of ``[providers.NAME]``. Raises ConfigError."""
    known = {**PROVIDERS, GENERIC.name: GENERIC}
    for name, section in settings.providers.items():
        new = ProviderPreset(name=name, base_url=None, key_variable=GENERIC.key_variable)
        known[name] = _changed(known.get(name, new), section, is_new=name not in known)
    return known


def _changed(preset: ProviderPreset, section: ProviderSettings, *, is_new: bool) -> ProviderPreset:
    where = f"providers.{preset.name}"
    if is_new and section.base_url is None:
        raise ConfigError(f"{where} must have a base_url: there is no preset of that name")
    if section.base_url is not None and re.search(r"\{(?!model\})", section.base_url):
        raise ConfigError(f"{where}.base_url must be an address: only {{model}} may stand in braces")
    if section.api_key_env is not None and section.api_key_command is not None:
        raise ConfigError(f"{where} must not have both api_key_env and api_key_command: remove one of them")
    if section.api_key_env is not None:
        preset = replace(preset, key_variable=section.api_key_env, other_key_variables=(), key_command=())
    changes: dict[str, Any] = {
        "base_url": section.base_url,
        "key_command": section.api_key_command,
        "auth": section.auth,
        "headers": _headers(preset, section.headers, where),
        "endpoint": section.endpoint,
        "charging": section.charging,
        "rate_limit_headers": section.rate_limit_headers,
        "refuses": None if section.refuses is None else frozenset(section.refuses),
    }
    return replace(preset, **{name: value for name, value in changes.items() if value is not None})


def _headers(
    preset: ProviderPreset, headers: Mapping[str, str] | None, where: str
) -> tuple[tuple[str, str], ...] | None:
    """The preset's headers with these changes; names are compared without case. An empty value removes a header."""
    if headers is None:
        return None
    for name, value in headers.items():
        if not re.fullmatch(r"[A-Za-z0-9!#$%&'*+.^_`|~-]+", name) or not is_printable_ascii(value):
            raise ConfigError(f"{where}.headers must be names and values of printable ASCII; correct {name!r}")
        if re.search(r"(?i)key|token|secret|auth|cookie", name):
            Secret(value)
    given = {name.lower() for name in headers}
    kept = (header for header in preset.headers if header[0].lower() not in given)
    return (*kept, *((name, value) for name, value in headers.items() if value))


def _section(settings: Settings, provider: ProviderPreset) -> ProviderSettings:
    return settings.providers.get(provider.name, ProviderSettings())


def _provider_by_name(name: str | None, providers: Mapping[str, ProviderPreset]) -> ProviderPreset | None:
    if name is None:
        return None
    if name not in providers:
        raise ConfigError(f"unknown provider {name!r}; known are {', '.join(providers)}")
    return providers[name]
