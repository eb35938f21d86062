"""The settings of a run: from flags, else the environment, else ``config.toml``, else defaults.

Every value is checked against the type of its field. A ConfigError names the flag, or the file and the setting.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, is_dataclass, replace
from difflib import get_close_matches
from pathlib import Path
from types import UnionType
from typing import Annotated, Any, Literal, TypeVar, Union, get_args, get_origin, get_type_hints

from processor.config.config_files import CONFIG_FILE, OTHER_FILE, ConfigTables, read_tables
from processor.config.endpoint_settings import EndpointSettings, RetryElsewhere, check_endpoints
from processor.config.environment import DOTENV, Environment
from processor.config.price_settings import ModelPrices, check_prices
from processor.config.providers import Auth
from processor.core.errors import ConfigError
from processor.core.models import Timeouts
from processor.protocols.registry import PROTOCOLS, known_paths
from processor.ratelimit.settings import HeaderDialect, RateLimits, TokenAccounting

T = TypeVar("T")

MAX_NUMBER = 1e15
"""No setting needs a larger number. Infinity is refused: a limit that is not set is the way to have none."""

NonNegative = Annotated[float, "may be 0"]
"""The type of a number that may be 0."""

_RULES: dict[Any, tuple[type, float, str]] = {
    bool: (bool, 0, "true or false"),
    str: (str, 0, "text"),
    int: (int, 1, "a whole number of at least 1"),
    float: (float, 5e-324, "a number greater than 0"),
    NonNegative: (float, 0, "a number of at least 0"),
}
"""For the type of a field: the type of its values, the least of them, and how both read in a message."""


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
class Hooks:
    """The section ``[hooks]``: commands, each a program and its arguments."""

    notice: tuple[str, ...] | None = None
    """Started for what a person should know while the run works, with the event as JSON on its standard input."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ProviderSettings:
    """A section ``[providers.NAME]``: changes a preset, or adds one. None: as in the preset."""

    base_url: str | None = None
    api_version: str | None = None
    api_key_env: str | None = None
    api_key_command: tuple[str, ...] | None = None
    auth: Auth | None = None
    headers: Mapping[str, str] | None = None
    endpoint: str | None = None
    charging: TokenAccounting | None = None
    rate_limit_headers: HeaderDialect | None = None
    refuses: tuple[str, ...] | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """Every setting of a run. ``config.toml`` describes each field."""

    provider: str | None = None
    base_url: str | None = None
    local: str | None = None
    """The weights of a model that is served in a process of this run: a GGUF file."""
    local_context_tokens: int = 4096
    """The most tokens of a prompt and its reply together, for a local model."""
    api_key_env: str | None = None
    api_key_command: tuple[str, ...] | None = None
    """A program and its arguments; the last line that it prints is the key."""
    api_key_ttl_s: float = 1800.0
    api_version: str | None = None
    ca_file: str | None = None
    allow_http: bool = False
    stream: bool = True
    """False: ask for every reply as one whole body."""
    endpoint: str | None = None
    """The API path of jobs that name none; None: the provider's."""
    model: str | None = None
    encoding: str | None = None
    concurrency: int | Literal["auto"] = "auto"
    """The number of requests in flight; ``auto``: found by trying, where the server announces no limit."""
    max_attempts: int = 6
    max_reply_bytes: int = 64 * 2**20
    max_line_bytes: int = 32 * 2**20
    grace_s: NonNegative = 30.0
    changed: Literal["keep", "resend"] = "keep"
    limits: Limits = Limits()
    waiting: Waiting = Waiting()
    output: Output = Output()
    hooks: Hooks = Hooks()
    providers: Mapping[str, ProviderSettings] = field(default_factory=dict)
    prices: Mapping[str, ModelPrices] = field(default_factory=dict)
    endpoints: tuple[EndpointSettings, ...] = ()
    """Several endpoints in place of ``base_url``, ``provider`` and ``api_key_env``."""
    fallback: bool = False
    """Prefer the endpoints in their order, and use the next one only where those before it have no room."""
    retry_elsewhere: tuple[RetryElsewhere, ...] = ()
    """For which refusals of a job another endpoint is tried."""
    chosen_by: Mapping[str, str] = field(default_factory=dict, compare=False)
    """No setting: the settings that a file chose which was found in the working folder, and not named by the user."""
    ignored_commands: tuple[str, ...] = field(default=(), compare=False)
    """No setting: messages about commands that are not run, because a file in the working folder names them."""

    @property
    def fixed_concurrency(self) -> int | None:
        """The number of requests in flight that the user has given; None for ``auto``."""
        return None if self.concurrency == "auto" else self.concurrency


# ---------------------------------------------------------------- sources


def load(path: Path | None, flags: Mapping[str, Any], environ: Mapping[str, str]) -> Settings:
    """Loads the settings. Raises ConfigError.

    ``path`` is the settings file, which must exist; None: ``config.toml`` in the working folder over the one in the
    user's configuration folder, where they exist. Flags that are None are ignored; the flags ``rpm`` and ``tpm`` set
    the limits of all jobs together.
    """
    tables = read_tables(path, environ)
    settings = _parse_files(tables)
    types = {**get_type_hints(Settings, include_extras=True), **get_type_hints(RateLimits)}
    given = {
        name: _parse_value(types[name], value, _flag_name(name)) for name, value in flags.items() if value is not None
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
    settings = replace(settings, **given, limits=limits, chosen_by=chosen_by, ignored_commands=tables.ignored)
    _check(settings)
    return settings


def _flag_name(name: str) -> str:
    return "--" + name.removesuffix("_s").replace("_", "-")


def _parse_files(tables: ConfigTables) -> Settings:
    """Each file is checked before they are merged, so that an error names the right one."""
    for where, table in tables.by_file:
        _parse_table(Settings, table, f"{where}: ")
    return _parse_table(Settings, tables.merged, f"{CONFIG_FILE}: ")


# ---------------------------------------------------------------- tables and values


def _parse_table(cls: type[T], table: object, where: str) -> T:
    """Builds one of the classes above from its table.

    An unknown name is an error, because a misspelt limit must not be ignored. In ``[limits]`` a table inside the table
    holds the limits of the model of that name.
    """
    if not isinstance(table, dict):
        raise ConfigError(f"{where.rstrip('.: ')} must be a table, not {table!r}")
    types = get_type_hints(cls, include_extras=True)
    for name in ("chosen_by", "ignored_commands"):
        types.pop(name, None)
    holds_models = cls is Limits and types.pop("models") is not None
    values: dict[str, Any] = {}
    for name, value in table.items():
        if holds_models and isinstance(value, dict):
            values.setdefault("models", {})[name] = _parse_table(RateLimits, value, f"{where}{name}.")
        elif name not in types:
            raise ConfigError(_unknown(name, types, where))
        else:
            values[name] = _parse_value(types[name], value, where + name)
    return cls(**values)


def _unknown(name: str, types: Mapping[str, Any], where: str) -> str:
    """``config.toml: limits.`` and ``rpn`` make ``config.toml: unknown setting limits.rpn; did you mean rpm?``."""
    file, _, section = where.rpartition(": ")
    close = get_close_matches(name, types, n=1)
    remedy = f"did you mean {close[0]}?" if close else f"if this file is another program's, {OTHER_FILE}"
    return f"{file}: unknown setting {section}{name}; {remedy}"


def _parse_value(kind: Any, value: Any, where: str) -> Any:
    """Checks a value against the type of its field. ``where`` names it in errors."""
    options = get_args(kind) if get_origin(kind) in (Union, UnionType) else (kind,)
    words = [word for option in options if get_origin(option) is Literal for word in get_args(option)]
    if value in words:
        return value
    kind = next((one for one in options if one is not type(None) and get_origin(one) is not Literal), None)
    if kind is None:
        raise ConfigError(f"{where} must be one of {', '.join(words)}, not {value!r}")
    if isinstance(kind, type) and is_dataclass(kind):
        return _parse_table(kind, value, where + ".")
    if get_origin(kind) is tuple:
        return _parse_list(get_args(kind)[0], value, where)
    if get_origin(kind) is Mapping:
        return _parse_mapping(get_args(kind)[1], value, where)
    type_, least, description = _RULES[kind]
    # isinstance(True, int) holds, but true is not a number.
    is_of_type = isinstance(value, (int, float) if type_ is float else type_)
    is_bool = isinstance(value, bool)
    if not is_of_type or is_bool is not (type_ is bool) or (type_ in (int, float) and not least <= value < MAX_NUMBER):
        raise ConfigError(f"{where} must be {' or '.join([description, *words])}, not {value!r}")
    return type_(value)


def _parse_list(kind: Any, value: Any, where: str) -> tuple[Any, ...]:
    is_list = isinstance(value, list | tuple) and len(value) > 0
    if kind is str and not (is_list and all(isinstance(word, str) for word in value)):
        raise ConfigError(f'{where} must be a list of texts such as ["a", "b"], not {value!r}')
    if not is_list:
        expected = f"tables, each under [[{where.rpartition(' ')[2]}]]" if is_dataclass(kind) else "a list"
        raise ConfigError(f"{where} must be {expected}, not {value!r}")
    return tuple(_parse_value(kind, item, f"{where}[{at}]") for at, item in enumerate(value, start=1))


def _parse_mapping(kind: Any, value: Any, where: str) -> Mapping[str, Any]:
    if not isinstance(value, dict):
        raise ConfigError(f"{where} must be a table, not {value!r}")
    return {name: _parse_value(kind, item, f"{where}.{name}") for name, item in value.items()}


def _check(settings: Settings) -> None:
    """Checks what the types of single fields cannot express."""
    check_prices(settings.prices)
    if settings.waiting.backoff_max_s < settings.waiting.backoff_min_s:
        raise ConfigError("waiting.backoff_max_s must not be less than waiting.backoff_min_s")
    for endpoint in (settings.endpoint, *(provider.endpoint for provider in settings.providers.values())):
        if endpoint is not None and endpoint not in PROTOCOLS:
            raise ConfigError(f"the endpoint must be {known_paths()}, not {endpoint!r}")
    if settings.api_key_env is not None and settings.api_key_command is not None:
        raise ConfigError("a settings file must not have both api_key_env and api_key_command: remove one of them")
    if not settings.endpoints:
        if settings.fallback or settings.retry_elsewhere:
            what = "--fallback" if settings.fallback else "retry_elsewhere"
            raise ConfigError(f"{what} needs several endpoints: add tables [[endpoints]] to the settings file")
        return
    for name in ("base_url", "provider", "api_key_env", "api_key_command", "api_version"):
        if getattr(settings, name) is not None:
            raise ConfigError(
                f"{_flag_name(name)} or {name} cannot stand beside [[endpoints]]: move it into the table of an "
                "endpoint, or leave the tables out with another --config FILE"
            )
    check_endpoints(settings.endpoints)
