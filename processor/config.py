"""Flags, environment, ``config.toml`` and defaults → one frozen Settings. Raises ConfigError, naming the place."""

from __future__ import annotations

import ipaddress
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from difflib import get_close_matches
from pathlib import Path
from typing import Any, Literal, TypeVar, get_args, get_origin, get_type_hints
from urllib.parse import urlsplit

from processor.errors import ConfigError
from processor.models import Secret, Target
from processor.providers import ANY, PROVIDERS, Provider, provider_for

T = TypeVar("T")


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelLimits:
    """Per minute; None: not configured."""

    rpm: float | None = None
    tpm: float | None = None
    input_tpm: float | None = None
    output_tpm: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits(ModelLimits):
    charging: Literal["sum", "larger", "used"] | None = None
    """How the provider counts tokens; None: as its kind is known to."""
    models: Mapping[str, ModelLimits] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Waiting:
    connect_timeout_s: float = 30.0
    first_byte_timeout_s: float = 600.0
    stall_timeout_s: float = 120.0
    request_timeout_s: float = 3600.0
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
    endpoint: str = "/v1/chat/completions"
    model: str | None = None
    encoding: str | None = None
    concurrency: int = 64
    max_attempts: int = 6
    max_reply_bytes: int = 64 * 2**20
    max_line_bytes: int = 32 * 2**20
    grace_s: float = 30.0
    changed: Literal["keep", "resend"] = "keep"
    limits: Limits = Limits()
    waiting: Waiting = Waiting()
    output: Output = Output()


@dataclass(frozen=True, slots=True, kw_only=True)
class Access:
    """Where requests go and what opens the door."""

    target: Target
    provider: Provider
    key_from: str | None
    """The variable that held the key."""


# ---------------------------------------------------------------- the file and the flags


def load(path: Path | None, flags: Mapping[str, Any]) -> Settings:
    """Settings from ``config.toml`` (or ``path``, which must then exist), overruled by the flags that are not None.

    ``rpm`` and ``tpm`` among the flags are general limits, whatever the file says about general ones.
    """
    table = _read(path or Path("config.toml"), must_exist=path is not None)
    where = str(path or "config.toml")
    given = {name: value for name, value in flags.items() if value is not None}
    limits = {name: given.pop(name) for name in ("rpm", "tpm") if name in given}
    table = {**table, **given}
    if limits:
        table["limits"] = {**_table(table.get("limits", {}), f"{where}: limits"), **limits}
    return _checked(_build(Settings, table, where))


def _read(path: Path, *, must_exist: bool) -> dict[str, Any]:
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        if must_exist:
            raise ConfigError(f"there is no {path}") from None
        return {}
    except OSError as error:
        raise ConfigError(f"cannot read {path}: {(error.strerror or str(error)).lower()}") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path} is no TOML: {error}") from None


def _build(cls: type[T], table: object, where: str) -> T:
    """One of the classes above from its table. Unknown names are errors: a mistyped limit must not be ignored."""
    values = dict(_table(table, where))
    hints = get_type_hints(cls)
    known = {item.name: item for item in fields(cls)}  # type: ignore[arg-type]
    if cls is Limits:
        values["models"] = {name: values.pop(name) for name in list(values) if isinstance(values[name], dict)}
    for name in values:
        if name not in known:
            close = get_close_matches(name, known, n=1)
            raise ConfigError(f"{where}: there is no setting {name!r}" + (f"; is it {close[0]}?" if close else ""))
    return cls(**{name: _value(hints[name], value, f"{where}: {name}") for name, value in values.items()})


def _table(value: object, where: str) -> Mapping[str, Any]:
    if not isinstance(value, dict):
        raise ConfigError(f"{where} must be a table")
    return value


def _value(kind: Any, value: Any, where: str) -> Any:
    if get_origin(kind) is not None and get_origin(kind) is not Literal and type(None) in get_args(kind):
        if value is None:
            return None
        kind = next(option for option in get_args(kind) if option is not type(None))
    if kind in (Limits, Waiting, Output):
        return _build(kind, value, where)
    if get_origin(kind) is Literal:
        if value not in get_args(kind):
            raise ConfigError(f"{where} must be one of {', '.join(get_args(kind))}, not {value!r}")
        return value
    if get_origin(kind) is not None:
        return {model: _build(ModelLimits, limits, f"{where}.{model}") for model, limits in value.items()}
    return _plain(kind, value, where)


def _plain(kind: type, value: Any, where: str) -> Any:
    if kind is float and isinstance(value, int) and not isinstance(value, bool):
        value = float(value)
    if not isinstance(value, kind) or (isinstance(value, bool) and kind is not bool):
        names = {float: "a number", int: "a whole number", str: "text", bool: "true or false"}
        raise ConfigError(f"{where} must be {names[kind]}, not {value!r}")
    return value


def _checked(settings: Settings) -> Settings:
    least_one = (("concurrency", settings.concurrency), ("max_attempts", settings.max_attempts))
    limits = [settings.limits, *settings.limits.models.values()]
    above_zero = [(f.name, getattr(m, f.name)) for m in limits for f in fields(ModelLimits)]
    above_zero += [(f.name, getattr(settings.waiting, f.name)) for f in fields(Waiting)]
    for name, value in least_one:
        if value < 1:
            raise ConfigError(f"{name} must be at least 1, not {value}")
    for name, value in above_zero:
        if value is not None and not value > 0:
            raise ConfigError(f"{name} must be more than 0, not {value:g}")
    if settings.waiting.backoff_max_s < settings.waiting.backoff_min_s:
        raise ConfigError("backoff_max_s must not be less than backoff_min_s")
    if settings.grace_s < 0:
        raise ConfigError(f"grace must not be negative, not {settings.grace_s:g}")
    return settings


# ---------------------------------------------------------------- where requests go


def environment(environ: Mapping[str, str], dotenv: Path = Path(".env")) -> Mapping[str, str]:
    """The environment, with what ``.env`` in the working folder adds to it."""
    if not dotenv.is_file():
        return environ
    from dotenv import dotenv_values

    return {**{name: value for name, value in dotenv_values(dotenv).items() if value is not None}, **environ}


def access(settings: Settings, environ: Mapping[str, str]) -> Access:
    """Finds the address and the key. A server on this machine may do without one."""
    provider, base_url = _address(settings, environ)
    parts = _parts(base_url)
    variable = settings.api_key_env or provider.key_variable
    key = environ.get(variable, "").strip()
    is_local = _is_loopback(parts.hostname or "")
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
    return Access(target=target, provider=provider, key_from=variable if key else None)


def _address(settings: Settings, environ: Mapping[str, str]) -> tuple[Provider, str]:
    named = _provider(settings.provider)
    url = settings.base_url
    if url is None and named is None:
        url = environ.get("OPENAI_BASE_URL") or PROVIDERS["openai"].base_url
    elif url is None and named is not None:
        url = named.base_url
    if url is None:
        raise ConfigError(f"{settings.provider} has no address of its own: set --base-url")
    return named or provider_for(url), url


def _provider(name: str | None) -> Provider | None:
    if name is None or name == ANY.name:
        return ANY if name else None
    if name not in PROVIDERS:
        raise ConfigError(f"there is no provider {name!r}; known are {', '.join(PROVIDERS)}, and any with --base-url")
    return PROVIDERS[name]


def _parts(url: str) -> Any:
    parts = urlsplit(url)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise ConfigError(f"--base-url must look like https://host/v1, not {url!r}")
    if parts.username or parts.password:
        raise ConfigError("--base-url must not hold a name or password; keys come from the environment")
    return parts


def _is_loopback(host: str) -> bool:
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
