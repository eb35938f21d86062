"""Checks the file and the program that ``--local`` needs, before anything is started."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path

from processor.config.settings import Settings
from processor.core.errors import ConfigError, reason
from processor.core.text import setting_name

GGUF_MAGIC = b"GGUF"
"""https://github.com/ggml-org/ggml/blob/master/docs/gguf.md#file-structure"""


def checked_local_model(settings: Settings, local: str) -> Path:
    """The path of the weights. Raises ConfigError where they cannot be served, or another endpoint is named as well."""
    path = Path(local)
    for name in ("provider", "base_url", "endpoints"):
        if getattr(settings, name):
            raise ConfigError(
                f"{setting_name('local')} serves the model here, but {name} names another endpoint: remove one of them"
            )
    try:
        with path.open("rb") as file:
            magic = file.read(len(GGUF_MAGIC))
    except OSError as error:
        raise ConfigError(f"{setting_name('local')}: cannot read {path}: {reason(error)}") from None
    if magic != GGUF_MAGIC:
        raise ConfigError(
            f"{setting_name('local')}: {path} is no GGUF file, which holds the weights of a model for llama.cpp"
        )
    if find_spec("xllamacpp") is None:
        raise ConfigError(f"{setting_name('local')} needs the extra `local`: pip install 'processor[local]'")
    return path
