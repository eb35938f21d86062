"""The settings of a run: from flags, else the environment, else ``config.toml``, else defaults.

Every value is checked against the type of its field. A ConfigError names the flag, or the file and the setting.
"""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from difflib import get_close_matches
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar, get_args, get_origin, get_type_hints

from processor.core.errors import ConfigError, reason
from processor.core.models import Timeouts
from processor.protocols.registry import DEFAULT_PATH, PROTOCOLS, known_paths
from processor.ratelimit.settings import RateLimits, TokenAccounting

T = TypeVar("T")

CONFIG_FILE = "config.toml"

MAX_NUMBER = 1e15
"""No setting needs a larger number. Infinity is refused: a limit that is not set is the way to have none."""

NonNegative = Annotated[float, "may be 0"]
"""The type of a number that may be 0. A plain ``float`` must be more than 0, an ``int`` at least 1."""

_TYPE_NAMES = {int: "a whole number", str: "text", bool: "true or false"}


ModelLimits = RateLimits
"""The public name of the limits of one model."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits(RateLimits):
    """The section ``[limits]``: the limits of all jobs together, and those of single models."""

    charging: TokenAccounting | None = None
    """How the provider counts tokens; None: by its preset."""
    bursts: bool = True
    """False: pace evenly, also where the server allows bursts."""
    models: Mapping[str, RateLimits] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Waiting(Timeouts):
    """The section ``[waiting]``: the timeouts of one request, and how long the run waits between requests."""

    backoff_min_s: float = 1.0
    backoff_max_s: float = 60.0
    max_wait_s: float = 3600.0
    max_outage_s: float = 6 * 3600.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Output:
    """The section ``[output]``."""

    fsync: Literal["always", "interval", "never"] = "interval"
    fsync_interval_s: float = 1.0
    accept_weaker: bool = False
    """Say nothing where the file system lacks locks, fsync or replacing a file."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """Every setting of a run. ``config.toml`` describes each field."""

    provider: str | None = None
    base_url: str | None = None
    api_key_env: str | None = None
    api_version: str | None = None
    ca_file: str | None = None
    allow_http: bool = False
    stream: bool = True
    """False: ask for every reply as one whole body."""
    endpoint: str = DEFAULT_PATH
    model: str | None = None
    encoding: str | None = None
    concurrency: int | None = None
    """None: as many as the limit on open files allows."""
    max_attempts: int = 6
    max_reply_bytes: int = 64 * 2**20
    max_line_bytes: int = 32 * 2**20
    grace_s: NonNegative = 30.0
    changed: Literal["keep", "resend"] = "keep"
    limits: Limits = Limits()
    waiting: Waiting = Waiting()
    output: Output = Output()


_SECTIONS = (Limits, Waiting, Output)

# ---------------------------------------------------------------- sources


def load(path: Path | None, flags: Mapping[str, Any], environ: Mapping[str, str]) -> Settings:
    """Loads the settings. Raises ConfigError.

    ``path`` is the settings file, which must exist; None: ``config.toml``, if it exists. Flags that are None are
    ignored; the flags ``rpm`` and ``tpm`` set the limits of all jobs together.
    """
    table = _read_toml(path or Path(CONFIG_FILE), must_exist=path is not None)
    settings = _parse_table(Settings, table, f"{path or CONFIG_FILE}: ")
    types = {**get_type_hints(Settings, include_extras=True), **get_type_hints(RateLimits)}
    given = {
        name: _parse_value(types[name], value, _flag_name(name)) for name, value in flags.items() if value is not None
    }
    limits = {name: given.pop(name) for name in ("rpm", "tpm") if name in given}
    settings = replace(settings, base_url=_base_url(settings, given, environ))
    settings = replace(settings, **given, limits=replace(settings.limits, **limits))
    _check(settings)
    return settings


def environment(environ: Mapping[str, str], dotenv: Path = Path(".env")) -> Mapping[str, str]:
    """Adds the variables of ``.env`` in the working folder to those of ``environ``, which win. Raises ConfigError."""
    if not dotenv.is_file():
        return environ
    from dotenv import dotenv_values

    try:
        added = dotenv_values(dotenv)
    except OSError as error:
        raise ConfigError(f"cannot read {dotenv}: {reason(error)}") from None
    except UnicodeDecodeError:
        raise ConfigError(f"{dotenv} is not UTF-8") from None
    return {**{name: value for name, value in added.items() if value is not None}, **environ}


def _flag_name(name: str) -> str:
    return "--" + name.removesuffix("_s").replace("_", "-")


def _base_url(settings: Settings, flags: Mapping[str, Any], environ: Mapping[str, str]) -> str | None:
    """The base URL before ``--base-url`` is applied.

    A provider named by a flag brings its own address. OPENAI_BASE_URL applies to OpenAI's API only, so not where the
    file names another provider.
    """
    if "provider" in flags:
        return None
    if settings.provider in (None, "openai", "any"):
        return environ.get("OPENAI_BASE_URL") or settings.base_url
    return settings.base_url


def _read_toml(path: Path, *, must_exist: bool) -> dict[str, Any]:
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        if isinstance(error, FileNotFoundError) and not must_exist:
            return {}
        raise ConfigError(f"cannot read {path}: {reason(error)}") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path} is not valid TOML: {error}") from None


# ---------------------------------------------------------------- tables and values


def _parse_table(cls: type[T], table: object, where: str) -> T:
    """Builds one of the classes above from its table.

    An unknown name is an error, because a misspelt limit must not be ignored. In ``[limits]`` a table inside the table
    holds the limits of the model of that name.
    """
    if not isinstance(table, dict):
        raise ConfigError(f"{where.rstrip('.: ')} must be a table, not {table!r}")
    types = get_type_hints(cls, include_extras=True)
    model_tables = {}
    if types.pop("models", None):
        model_tables = {name: value for name, value in table.items() if isinstance(value, dict)}
    values = {
        name: _parse_value(_type_of(name, types, where), value, where + name)
        for name, value in table.items()
        if name not in model_tables
    }
    if model_tables:
        models = {name: _parse_table(RateLimits, value, f"{where}{name}.") for name, value in model_tables.items()}
        values["models"] = models
    return cls(**values)


def _type_of(name: str, types: Mapping[str, Any], where: str) -> Any:
    if name in types:
        return types[name]
    close = get_close_matches(name, types, n=1)
    raise ConfigError(_prefixed("unknown setting ", where + name) + (f"; did you mean {close[0]}?" if close else ""))


def _prefixed(prefix: str, where: str) -> str:
    """``config.toml: limits.rpn`` -> ``config.toml: unknown setting limits.rpn``."""
    file, separator, name = where.rpartition(": ")
    return f"{file}{separator}{prefix}{name}"


def _parse_value(kind: Any, value: Any, where: str) -> Any:
    """Checks a value against the type of its field. ``where`` names it in errors."""
    if type(None) in get_args(kind):
        kind = next(option for option in get_args(kind) if option is not type(None))
    if kind in _SECTIONS:
        return _parse_table(kind, value, where + ".")
    if get_origin(kind) is Literal:
        if value not in get_args(kind):
            raise ConfigError(f"{where} must be one of {', '.join(get_args(kind))}, not {value!r}")
        return value
    if kind in (float, NonNegative):
        return _parse_number(value, where, may_be_zero=kind is NonNegative)
    # isinstance(True, int) holds, but true is not a whole number.
    if not isinstance(value, kind) or isinstance(value, bool) is not (kind is bool):
        raise ConfigError(f"{where} must be {_TYPE_NAMES[kind]}, not {value!r}")
    if kind is int and value < 1:
        raise ConfigError(f"{where} must be at least 1, not {value}")
    return value


def _parse_number(value: Any, where: str, *, may_be_zero: bool) -> float:
    if not isinstance(value, int | float) or isinstance(value, bool) or not -MAX_NUMBER < value < MAX_NUMBER:
        raise ConfigError(f"{where} must be a number, not {value!r}")
    if value < 0 or (value == 0 and not may_be_zero):
        raise ConfigError(f"{where} must be {'0 or more' if may_be_zero else 'more than 0'}, not {value:g}")
    return float(value)


def _check(settings: Settings) -> None:
    """Checks what the types of single fields cannot express."""
    if settings.waiting.backoff_max_s < settings.waiting.backoff_min_s:
        raise ConfigError("backoff_max_s must not be less than backoff_min_s")
    if settings.endpoint not in PROTOCOLS:
        raise ConfigError(f"the endpoint must be {known_paths()}, not {settings.endpoint!r}")
