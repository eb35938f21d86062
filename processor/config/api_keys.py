"""Where the key of a run comes from: a variable, or a command that prints it."""

from __future__ import annotations

import re
from collections.abc import Mapping

from processor.config.base_urls import BaseUrl
from processor.config.environment import DOTENV, Environment
from processor.config.presets import KEY_VARIABLES
from processor.config.providers import ProviderPreset
from processor.config.settings import Settings
from processor.core.errors import ConfigError
from processor.core.fast_dataclass import dataclass
from processor.core.secrets import MIN_SECRET_CHARS, Secret, is_printable_ascii
from processor.core.text import flag_and_setting, setting_name


@dataclass(frozen=True, slots=True, kw_only=True)
class KeyCommand:
    """A command that prints a key, and how long the key is used before it is run again."""

    args: tuple[str, ...]
    ttl_s: float


@dataclass(frozen=True, slots=True, kw_only=True)
class KeySource:
    """The key of a run, or the command that prints it; neither where none is sent."""

    key: Secret | None = None
    command: KeyCommand | None = None
    described_as: str | None = None
    """For a person; None without a key."""
    variable: str | None = None
    """The environment variable that holds the key."""
    unused_variable: str | None = None
    """The variable whose key is not sent, because the address is an http address."""


def key_source(
    settings: Settings,
    provider: ProviderPreset,
    url: BaseUrl,
    address_from: str | None,
    environ: Mapping[str, str],
    *,
    needs_key: bool,
) -> KeySource:
    """Finds the key of the endpoint. Raises ConfigError where there is none, or where it must not be sent there.

    A server on this machine, at an http address or of the user's own needs no key, unless ``api_key_env`` names one.
    ``address_from``: the file of the working folder that chose the endpoint.
    """
    variable = _variable(settings, provider, environ)
    args = settings.api_key_command or (provider.key_command if variable not in environ else None)
    if args and not settings.api_key_env:
        return _of_command(settings, args, url) if needs_key else KeySource()
    key = _key_in(variable, environ)
    if key is None:
        if needs_key and (settings.api_key_env or (provider.needs_key and url.is_encrypted and not url.is_local)):
            raise ConfigError(_no_key(settings, provider, environ))
        return KeySource()
    if not _may_be_sent(url, settings) and not key.is_placeholder:
        if settings.api_key_env:
            raise ConfigError(_unencrypted(f"the key in {variable}", url))
        return KeySource(unused_variable=variable)
    if address_from and not _is_from_dotenv(variable, environ):
        _refuse_foreign_variable(variable, settings, provider, url, address_from)
    described_as = _description(key, variable, environ, is_address_foreign=bool(address_from))
    return KeySource(key=key, described_as=described_as, variable=variable)


def _of_command(settings: Settings, args: tuple[str, ...], url: BaseUrl) -> KeySource:
    if url.chosen_by is not None:
        raise ConfigError(
            f"{url.chosen_by} chooses the address, to which the key of the command {args[0]} would be sent: if that is "
            f"right, give the address with {setting_name('base_url')}"
        )
    if not _may_be_sent(url, settings):
        raise ConfigError(_unencrypted(f"the key of the command {args[0]}", url))
    command = KeyCommand(args=args, ttl_s=settings.api_key_ttl_s)
    return KeySource(command=command, described_as=f"the command {args[0]}")


def _may_be_sent(url: BaseUrl, settings: Settings) -> bool:
    return url.is_encrypted or url.is_local or settings.allow_http


def _unencrypted(key: str, url: BaseUrl) -> str:
    return (
        f"{key} would be sent unencrypted to {url.parts.hostname}: use https, or allow it with "
        f"{setting_name('allow_http', True)}"
    )


def _variable(settings: Settings, provider: ProviderPreset, environ: Mapping[str, str]) -> str:
    """The name of the variable that holds the key. A text that cannot be one may be the key itself: it is not shown."""
    known = (provider.key_variable, *provider.other_key_variables)
    filled = (name for name in known if environ.get(name, "").strip())
    variable = settings.api_key_env or next(filled, provider.key_variable)
    if not re.fullmatch(r"[A-Za-z_][A-Za-z0-9_]*", variable):
        raise ConfigError(
            f"{flag_and_setting('api_key_env')} takes the name of a variable, such as OPENAI_API_KEY, not the key "
            "itself: "
            "put the key into a variable or into .env"
        )
    return variable


def _key_in(variable: str, environ: Mapping[str, str]) -> Secret | None:
    value = environ.get(variable, "").strip()
    if not is_printable_ascii(value):
        raise ConfigError(f"the key in {variable} contains characters that are not valid in a key; copy it again")
    return Secret(value) if value else None


def _no_key(settings: Settings, provider: ProviderPreset, environ: Mapping[str, str]) -> str:
    ignored = "".join(f"; {text}" for text in settings.ignored_commands)
    name = settings.api_key_env or provider.key_variable
    if name not in environ and not re.fullmatch(r"[A-Z_][A-Z0-9_]*", name):
        return (
            f"no key: the variable that {flag_and_setting('api_key_env')} names is not set; it takes a name, not a key"
        )
    state = "is empty" if name in environ else "is not set"
    remedy = f"set it in the environment or in .env, or name another variable with {setting_name('api_key_env')}"
    return f"no key: {name} {state}: {remedy}{ignored}"


def _is_from_dotenv(variable: str, environ: Mapping[str, str]) -> bool:
    return isinstance(environ, Environment) and variable in environ.from_dotenv


def _description(key: Secret, variable: str, environ: Mapping[str, str], *, is_address_foreign: bool) -> str:
    """The variable of the key, and what a person should know about it."""
    if key.is_placeholder:
        return f"{variable} ({key.value}, a placeholder: sent as it is, not masked)"
    if not key.is_masked:
        return f"{variable} (shorter than {MIN_SECRET_CHARS} characters: not masked)"
    if is_address_foreign:
        return f"{variable} in {DOTENV if _is_from_dotenv(variable, environ) else 'the environment'}"
    return variable


def _refuse_foreign_variable(
    variable: str, settings: Settings, provider: ProviderPreset, url: BaseUrl, file: str
) -> None:
    """A file that came with the folder must not send any secret of the environment to an address of its choice."""
    setting = "api_key_env" if settings.api_key_env else f"providers.{provider.name}.api_key_env"
    chooser = settings.chosen_by.get(setting)
    if chooser is None and not settings.api_key_env:  # the provider's variable, at an address that is not its own
        chooser = url.chosen_by
    if chooser is not None and variable not in KEY_VARIABLES:
        raise ConfigError(
            f"{file} chooses the address and {chooser} sends it the variable {variable}, "
            "which is not known as the key of an LLM server: if that is right, give "
            f"{setting_name('api_key_env', variable)}"
        )
