"""Loads the settings of a run: from flags, else the environment, else ``config.toml``, else defaults.

Every value is checked against the type of its field. A ConfigError names the flag, or the file and the setting.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, get_type_hints

from processor.config.config_files import CONFIG_FILE, ConfigTables, read_tables
from processor.config.endpoint_settings import check_endpoints
from processor.config.environment import DOTENV, Environment
from processor.config.price_settings import check_prices
from processor.config.ray_address import check_ray
from processor.config.setting_values import parse_table, parse_value
from processor.config.settings import Settings
from processor.core.errors import ConfigError
from processor.core.text import setting_name, surface
from processor.protocols.registry import PROTOCOLS, known_paths
from processor.ratelimit.settings import RateLimits

_IN_SECTIONS = {"rpm": "limits.rpm", "tpm": "limits.tpm", "ray_address": "ray.address", "workers": "ray.workers"}
"""The settings of these flags."""


def load(path: Path | None, flags: Mapping[str, Any], environ: Mapping[str, str]) -> Settings:
    """Loads the settings. Raises ConfigError.

    ``path`` is the settings file, which must exist; None: ``config.toml`` in the working folder over the one in the
    user's configuration folder, where they exist. Flags that are None are ignored; the flags ``rpm`` and ``tpm`` set
    the limits of all jobs together, ``ray_address`` and ``workers`` those of the section ``[ray]``.
    """
    tables = read_tables(path, environ)
    settings = _parse_files(tables)
    types = {
        **get_type_hints(Settings, include_extras=True),
        **get_type_hints(RateLimits),
        **{"ray_address": str, "workers": int},
    }
    given = {
        name: parse_value(types[name], value, setting_name(_IN_SECTIONS.get(name, name)))
        for name, value in flags.items()
        if value is not None
    }
    chosen_by = {name: CONFIG_FILE for name in tables.found_names if name not in given}
    if "provider" in given:  # it brings its own address
        settings = replace(settings, base_url=None)
    if "api_key_env" in given:
        settings = replace(settings, api_key_command=None)
    uses_openai_variables = not settings.endpoints and (
        given.get("provider", settings.provider) in (None, "openai", "any")
    )
    if "base_url" not in given and uses_openai_variables and environ.get("OPENAI_BASE_URL"):
        settings = replace(settings, base_url=environ["OPENAI_BASE_URL"])
        chosen_by.pop("base_url", None)
        if isinstance(environ, Environment) and "OPENAI_BASE_URL" in environ.from_dotenv:
            chosen_by["base_url"] = str(DOTENV)
    limits = replace(settings.limits, **{name: given.pop(name) for name in ("rpm", "tpm") if name in given})
    on_ray = {
        field: given.pop(name) for name, field in (("ray_address", "address"), ("workers", "workers")) if name in given
    }
    ray = replace(settings.ray, **on_ray)
    if "workers" in on_ray and ray.address is None:
        raise ConfigError(
            f"{setting_name('ray.workers')} needs a cluster: add {setting_name('ray.address', 'local')}, or leave "
            "it out"
        )
    settings = replace(settings, **given, limits=limits, ray=ray, chosen_by=chosen_by, ignored_commands=tables.ignored)
    _check(settings)
    return settings


def _parse_files(tables: ConfigTables) -> Settings:
    """Each file is checked before they are merged, so that an error names the right one."""
    for where, table in tables.by_file:
        parse_table(Settings, table, f"{where}: ")
    return parse_table(Settings, tables.merged, f"{CONFIG_FILE}: ")


def _check(settings: Settings) -> None:
    """Checks what the types of single fields cannot express."""
    check_prices(settings.prices)
    check_ray(settings)
    if settings.waiting.backoff_max_s < settings.waiting.backoff_min_s:
        raise ConfigError("waiting.backoff_max_s must not be less than waiting.backoff_min_s")
    for endpoint in (settings.endpoint, *(provider.endpoint for provider in settings.providers.values())):
        if endpoint is not None and endpoint not in PROTOCOLS:
            raise ConfigError(f"the endpoint must be {known_paths()}, not {endpoint!r}")
    if settings.api_key_env is not None and settings.api_key_command is not None:
        raise ConfigError("a settings file must not have both api_key_env and api_key_command: remove one of them")
    if not settings.endpoints:
        if settings.fallback or settings.retry_elsewhere:
            what = setting_name("fallback") if settings.fallback else "retry_elsewhere"
            raise ConfigError(f"{what} needs several endpoints: add tables [[endpoints]] to the settings file")
        return
    for name in ("base_url", "provider", "api_key_env", "api_key_command", "api_version"):
        if getattr(settings, name) is not None:
            given = f"{setting_name(name)} or {name}" if surface() == "command line" else setting_name(name)
            raise ConfigError(
                f"{given} cannot stand beside [[endpoints]]: move it into the table of an "
                f"endpoint, or leave the tables out with another {setting_name('config', 'FILE')}"
            )
    check_endpoints(settings.endpoints)
