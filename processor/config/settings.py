"""Flags, environment, ``config.toml`` and defaults, in this order → one frozen Settings. Errors name the place."""

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

FILE = "config.toml"

LARGEST = 1e15
"""No number of ours is larger; infinity is not "no limit"."""

NonNegative = Annotated[float, "may be 0"]

_NAMES = {int: "a whole number", str: "text", bool: "true or false"}


ModelLimits = RateLimits
"""The public name of the limits of one model."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits(RateLimits):
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
    fsync: Literal["always", "interval", "never"] = "interval"
    fsync_interval_s: float = 1.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """Everything a run needs to be told. Each field is documented in ``config.toml``."""

    provider: str | None = None
    base_url: str | None = None
    api_key_env: str | None = None
    api_version: str | None = None
    ca_file: str | None = None
    allow_http: bool = False
    endpoint: str = DEFAULT_PATH
    model: str | None = None
    encoding: str | None = None
    concurrency: int | None = None
    """None: what the machine allows."""
    max_attempts: int = 6
    max_reply_bytes: int = 64 * 2**20
    max_line_bytes: int = 32 * 2**20
    grace_s: NonNegative = 30.0
    changed: Literal["keep", "resend"] = "keep"
    limits: Limits = Limits()
    waiting: Waiting = Waiting()
    output: Output = Output()


# ---------------------------------------------------------------- flags, environment, file


def load(path: Path | None, flags: Mapping[str, Any], environ: Mapping[str, str]) -> Settings:
    """Settings from ``config.toml`` (or ``path``, which must then exist), overruled by the environment, and that by
    the flags that are not None. ``rpm`` and ``tpm`` among the flags are general limits. Raises ConfigError.
    """
    settings = _build(Settings, _read(path or Path(FILE), must_exist=path is not None), f"{path or FILE}: ")
    hints = {**get_type_hints(Settings, include_extras=True), **get_type_hints(RateLimits)}
    given = {name: _value(hints[name], value, _flag(name)) for name, value in flags.items() if value is not None}
    limits = {name: given.pop(name) for name in ("rpm", "tpm") if name in given}
    settings = replace(settings, base_url=_base_url(settings, given, environ))
    return _checked(replace(settings, **given, limits=replace(settings.limits, **limits)))


def environment(environ: Mapping[str, str], dotenv: Path = Path(".env")) -> Mapping[str, str]:
    """The environment, with what ``.env`` in the working folder adds to it. Raises ConfigError."""
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


def _flag(name: str) -> str:
    return "--" + name.removesuffix("_s").replace("_", "-")


def _base_url(settings: Settings, flags: Mapping[str, Any], environ: Mapping[str, str]) -> str | None:
    """OPENAI_BASE_URL says where OpenAI's protocol is spoken, not where a provider named otherwise is."""
    if "provider" in flags:
        return None
    if settings.provider in (None, "openai", "any"):
        return environ.get("OPENAI_BASE_URL") or settings.base_url
    return settings.base_url


def _read(path: Path, *, must_exist: bool) -> dict[str, Any]:
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        if must_exist:
            raise ConfigError(f"there is no {path}") from None
        return {}
    except OSError as error:
        raise ConfigError(f"cannot read {path}: {reason(error)}") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path} is no TOML: {error}") from None


# ---------------------------------------------------------------- a table and its values


def _build(cls: type[T], table: object, where: str) -> T:
    """One of the classes above from its table. Unknown names are errors: a mistyped limit must not be ignored."""
    if not isinstance(table, dict):
        raise ConfigError(f"{where.rstrip('.: ')} must be a table, not {table!r}")
    hints = get_type_hints(cls, include_extras=True)
    models = hints.pop("models", None) and {name: value for name, value in table.items() if isinstance(value, dict)}
    values = {
        name: _value(_hint(hints, name, where), value, where + name)
        for name, value in table.items()
        if name not in (models or ())
    }
    if models:
        values["models"] = {name: _build(RateLimits, value, f"{where}{name}.") for name, value in models.items()}
    return cls(**values)


def _hint(hints: Mapping[str, Any], name: str, where: str) -> Any:
    if name in hints:
        return hints[name]
    close = get_close_matches(name, hints, n=1)
    raise ConfigError(f"{where}{name} is no setting" + (f"; is it {close[0]}?" if close else ""))


def _value(kind: Any, value: Any, where: str) -> Any:
    if type(None) in get_args(kind):
        kind = next(option for option in get_args(kind) if option is not type(None))
    if kind in (Limits, Waiting, Output):
        return _build(kind, value, where + ".")
    if get_origin(kind) is Literal:
        if value not in get_args(kind):
            raise ConfigError(f"{where} must be one of {', '.join(get_args(kind))}, not {value!r}")
        return value
    return _plain(kind, value, where)


def _plain(kind: Any, value: Any, where: str) -> Any:
    if kind in (float, NonNegative):
        return _number(value, where, or_zero=kind is NonNegative)
    if not isinstance(value, kind) or isinstance(value, bool) is not (kind is bool):
        raise ConfigError(f"{where} must be {_NAMES[kind]}, not {value!r}")
    if kind is int and value < 1:
        raise ConfigError(f"{where} must be at least 1, not {value}")
    return value


def _number(value: Any, where: str, *, or_zero: bool) -> float:
    if not isinstance(value, int | float) or isinstance(value, bool) or not -LARGEST < value < LARGEST:
        raise ConfigError(f"{where} must be a number, not {value!r}")
    if value < 0 or (value == 0 and not or_zero):
        raise ConfigError(f"{where} must be {'0 or more' if or_zero else 'more than 0'}, not {value:g}")
    return float(value)


def _checked(settings: Settings) -> Settings:
    if settings.waiting.backoff_max_s < settings.waiting.backoff_min_s:
        raise ConfigError("backoff_max_s must not be less than backoff_min_s")
    if settings.endpoint not in PROTOCOLS:
        raise ConfigError(f"the endpoint must be {known_paths()}, not {settings.endpoint!r}")
    return settings
