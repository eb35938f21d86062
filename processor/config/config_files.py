"""Finds and reads the settings files: the one that the user names, else those of the working and the user's folder.

A file in the working folder may have come with somebody else's project. Whoever starts a run there has not chosen to
execute what it says: a command is taken only from a file that the user names, or that stands in the user's own folder.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from processor.config.environment import Environment
from processor.core.errors import ConfigError, reason
from processor.core.fast_dataclass import dataclass
from processor.core.text import setting_name, surface

CONFIG_FILE = "config.toml"
OWN_FOLDER = "processor"
COMMAND = "api_key_command"

Table = dict[str, Any]

_ONE_ENDPOINT = frozenset({"base_url", "provider", "api_key_env", COMMAND, "api_version"})
"""Settings of a run with one endpoint."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ConfigTables:
    """The tables of the settings files of a run."""

    by_file: tuple[tuple[str, Table], ...]
    """The files in the order in which one overrides the other, with their names."""
    found_names: tuple[str, ...] = ()
    """The settings in the file that was found in the working folder, such as ``providers.NAME.base_url``."""
    ignored: tuple[str, ...] = ()
    """What is to be said of its commands, which are not run."""

    @property
    def merged(self) -> Table:
        merged: Table = {}
        for _, table in self.by_file:
            if "api_key_env" in table or COMMAND in table:  # one source of the key overrides the other
                merged = {name: value for name, value in merged.items() if name not in ("api_key_env", COMMAND)}
            if "endpoints" in table:  # several endpoints override one, and the other way round
                merged = {name: value for name, value in merged.items() if name not in _ONE_ENDPOINT}
            elif not _ONE_ENDPOINT.isdisjoint(table):
                merged.pop("endpoints", None)
            merged = _merge(merged, table)
        return merged


def read_tables(path: Path | None, environ: Mapping[str, str]) -> ConfigTables:
    """Reads the file at ``path``, which must exist, else those that are found. Raises ConfigError."""
    if path is not None:
        return ConfigTables(by_file=((str(path), _read_toml(path, must_exist=True)),))
    found, own_path = _read_toml(Path(CONFIG_FILE), must_exist=False), own_config_file(environ)
    if own_path is None:
        own: Table = {}
    elif own_path.exists() and Path(CONFIG_FILE).exists() and own_path.samefile(CONFIG_FILE):
        own, found = found, {}
    else:
        own = _read_toml(own_path, must_exist=False)
    commands = _remove_commands(found)
    remedy = f"name the file with {setting_name('config', CONFIG_FILE)}" + (
        f", or put it into {own_path}" if own_path else ""
    )
    return ConfigTables(
        by_file=((str(own_path), own), (CONFIG_FILE, found)),
        found_names=tuple(_names(found)),
        ignored=tuple(f"{name} in {CONFIG_FILE} is ignored: to allow the {_kind(name)}, {remedy}" for name in commands),
    )


def other_file() -> str:
    """What to do where a settings file cannot be used, as it stands in a message."""
    if surface() == "command line":
        return "name the right one with --config FILE (--config /dev/null for none)"
    return f"give {setting_name('config')}"


def own_config_file(environ: Mapping[str, str]) -> Path | None:
    """The settings file in the user's configuration folder; None where the environment names no such folder.

    A variable that only ``.env`` sets does not count: the file stands in the working folder itself.
    """
    from_dotenv = environ.from_dotenv if isinstance(environ, Environment) else frozenset()
    own = {name: value for name in _FOLDERS if (value := environ.get(name)) and name not in from_dotenv}
    for name in ("APPDATA",) if os.name == "nt" else ("XDG_CONFIG_HOME", "HOME"):
        folder = Path(own.get(name, ""))
        if folder.is_absolute():
            return folder / (".config" if name == "HOME" else "") / OWN_FOLDER / CONFIG_FILE
    return None


_FOLDERS = ("APPDATA", "XDG_CONFIG_HOME", "HOME")


def _read_toml(path: Path, *, must_exist: bool) -> Table:
    try:
        text = path.read_text(encoding="utf-8")
    except (FileNotFoundError, NotADirectoryError) as error:
        if must_exist:
            raise ConfigError(f"cannot read {path}: {reason(error)}") from None
        return {}
    except OSError as error:
        raise ConfigError(f"cannot read {path}: {reason(error)}; make it readable, or {other_file()}") from None
    except UnicodeDecodeError as error:
        raise _not_toml(path, error) from None
    import tomllib  # most runs have no settings file

    try:
        return tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise _not_toml(path, error) from None


def _not_toml(path: Path, error: ValueError) -> ConfigError:
    return ConfigError(f"{path} is not valid TOML: {error}; correct it, or {other_file()}")


def _merge(below: Table, above: Table) -> Table:
    merged = dict(below)
    for name, value in above.items():
        under = merged.get(name)
        merged[name] = _merge(under, value) if isinstance(under, dict) and isinstance(value, dict) else value
    return merged


def _providers(table: Table) -> Iterator[tuple[str, Table]]:
    providers = table.get("providers")
    if isinstance(providers, dict):
        yield from ((name, section) for name, section in providers.items() if isinstance(section, dict))


def _kind(name: str) -> str:
    return "address" if name.endswith(".address") else "command"


def _remove_commands(table: Table) -> list[str]:
    """Removes the commands of a table, and the address of a cluster, which would execute code and be given keys.

    Returns their names.
    """
    places = [("", table, COMMAND)]
    places += [(f"providers.{name}.", section, COMMAND) for name, section in _providers(table)]
    endpoints = table.get("endpoints")
    for at, endpoint in enumerate(endpoints if isinstance(endpoints, list) else (), start=1):
        if isinstance(endpoint, dict):
            places.append((f"endpoints[{at}].", endpoint, COMMAND))
    if isinstance(ray := table.get("ray"), dict):
        places.append(("ray.", ray, "address"))
    if isinstance(hooks := table.get("hooks"), dict):
        places += [("hooks.", hooks, name) for name in tuple(hooks)]
    return [prefix + name for prefix, place, name in places if place.pop(name, None) is not None]


def _names(table: Table) -> Iterator[str]:
    yield from table
    for provider, section in _providers(table):
        yield from (f"providers.{provider}.{name}" for name in section)
