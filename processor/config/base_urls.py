"""The base URL of a run: as the user gives it, else the provider's, with what stands in variables filled in."""

from __future__ import annotations

import re
from collections.abc import Mapping
from urllib.parse import SplitResult, parse_qsl, urlsplit, urlunsplit

from processor.config.environment import DOTENV, Environment
from processor.config.presets import OPENAI
from processor.config.providers import ProviderPreset
from processor.config.settings import Settings
from processor.core.errors import ConfigError
from processor.core.fast_dataclass import dataclass
from processor.core.secrets import Secret
from processor.core.text import setting_name
from processor.core.urls import is_loopback

_VARIABLE = re.compile(r"\{([A-Z_]+)\}")
_PART = re.compile(r"[A-Za-z0-9-]+")
"""What a variable may add to an address: with a dot or a slash, a foreign ``.env`` could choose another server."""
_OTHER_NAMES = {"AWS_REGION": ("AWS_DEFAULT_REGION",)}


@dataclass(frozen=True, slots=True, kw_only=True)
class BaseUrl:
    url: str
    parts: SplitResult
    chosen_by: str | None
    """The file of the working folder that chose it; None where the user or the program did."""

    @property
    def is_local(self) -> bool:
        return is_loopback(self.parts.hostname or "")

    @property
    def is_encrypted(self) -> bool:
        return self.parts.scheme == "https"


def base_url(settings: Settings, provider: ProviderPreset | None, environ: Mapping[str, str]) -> BaseUrl:
    """The base URL of the settings, else of the provider, else OpenAI's. Raises ConfigError."""
    if settings.base_url is not None:
        url, chosen_by = settings.base_url, settings.chosen_by.get("base_url")
    else:
        url, chosen_by = _of_preset(provider or OPENAI, environ)
        chosen_by = settings.chosen_by.get(f"providers.{(provider or OPENAI).name}.base_url") or chosen_by
    parts = _split(url)
    _register_secrets(parts)
    return BaseUrl(url=url, parts=parts, chosen_by=chosen_by)


def with_root_path(url: BaseUrl, provider: ProviderPreset, *, has_api_version: bool) -> str:
    """The URL with what the provider has in the place of ``/v1``, where the URL is a host alone."""
    root_path = provider.root_path_with_api_version if has_api_version else provider.root_path
    return url.url if url.parts.path.strip("/") or not root_path else urlunsplit(url.parts._replace(path=root_path))


def _of_preset(provider: ProviderPreset, environ: Mapping[str, str]) -> tuple[str, str | None]:
    """The URL, and the file that has chosen it where that is ``.env``."""
    needs = f"provider {provider.name} needs an address: set {setting_name('base_url')}"
    if provider.base_url is None:
        raise ConfigError(needs)
    values: dict[str, str] = {}
    for name in _VARIABLE.findall(provider.base_url):
        value = next((environ[one].strip() for one in (name, *_OTHER_NAMES.get(name, ())) if environ.get(one)), "")
        if not value:
            raise ConfigError(f"{needs} or {name}")
        if provider.base_url == f"{{{name}}}":
            return value, str(DOTENV) if isinstance(environ, Environment) and name in environ.from_dotenv else None
        if not _PART.fullmatch(value):
            raise ConfigError(f"{name} must be a name of letters, digits and hyphens, as part of an address")
        values[name] = value
    return _VARIABLE.sub(lambda found: values[found[1]], provider.base_url), None


def _split(url: str) -> SplitResult:
    try:
        parts = urlsplit(url)
        is_address = parts.scheme in ("http", "https") and parts.hostname and parts.port != 0
    except ValueError:
        is_address = False
    if "@" in url.partition("?")[0]:
        raise ConfigError("the base URL must not contain a user name or password: set the key in the environment")
    if not is_address:
        raise ConfigError(f"the base URL must look like https://host/v1, not {url.partition('?')[0]!r}")
    return parts


def _register_secrets(parts: SplitResult) -> None:
    """A query such as ``?key=...`` may hold a key: it is known as a secret from now on."""
    for name, value in parse_qsl(parts.query):
        if re.search(r"(?i)key|token|secret|sig|pass|auth", name):
            Secret(value)
