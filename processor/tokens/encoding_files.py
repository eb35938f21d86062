"""Loads tiktoken's encodings from the rank files in this package, without network.

tiktoken looks for a rank file in a cache folder, under the SHA-1 of the file's URL, checks its SHA-256, and downloads
it where it is missing or differs (``tiktoken/load.py``, ``tiktoken_ext/openai_public.py``). So the file is installed
before tiktoken looks for it: unpacked once into the user's cache folder, or, where that is not writable, into a
temporary one for the time of loading. A cache folder that the user has configured for tiktoken is used first where it
holds the file, and is never written to.
"""

from __future__ import annotations

import lzma
import os
import sys
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from hashlib import sha1, sha256
from pathlib import Path
from typing import TYPE_CHECKING

from processor.core.errors import ConfigError, reason

if TYPE_CHECKING:
    from tiktoken import Encoding

CACHE_VARIABLES = ("TIKTOKEN_CACHE_DIR", "DATA_GYM_CACHE_DIR")
"""Environment variables that name tiktoken's cache folder, in the order in which it reads them."""

RANKS_FOLDER = Path(__file__).with_name("ranks")

# One load at a time: the environment and tiktoken's registry belong to the whole process.
_LOAD_LOCK = threading.Lock()


@dataclass(frozen=True, slots=True, kw_only=True)
class EncodingFile:
    """A rank file of tiktoken.

    ``packed``: the name of the packed file, whose first ``size`` bytes are this one. ``sha256``: what tiktoken expects.
    """

    encoding: str
    packed: str
    size: int
    sha256: str

    @property
    def cache_name(self) -> str:
        url = f"https://openaipublic.blob.core.windows.net/encodings/{self.encoding}.tiktoken"
        return sha1(url.encode(), usedforsecurity=False).hexdigest()

    def unpack(self) -> bytes:
        return lzma.decompress((RANKS_FOLDER / f"{self.packed}.tiktoken.xz").read_bytes())[: self.size]

    def is_in(self, folder: Path) -> bool:
        """Whether the folder holds the file with the right hash: tiktoken deletes a wrong one and downloads it."""
        try:
            data = (folder / self.cache_name).read_bytes()
        except OSError:
            return False
        return sha256(data).hexdigest() == self.sha256


ENCODING_FILES = {
    file.encoding: file
    for file in (
        EncodingFile(
            encoding="o200k_base",
            packed="o200k_base",
            size=3_613_922,
            sha256="446a9538cb6c348e3516120d7c08b09f57c36495e2acfffe59a5bf8b0cfb1a2d",
        ),
        EncodingFile(
            encoding="cl100k_base",
            packed="cl100k_base",
            size=1_681_126,
            sha256="223921b76ee99bde995b7ff738513eef100fb51d18c93597a113bcffe865b2a7",
        ),
        EncodingFile(
            encoding="p50k_base",
            packed="p50k_base",
            size=836_186,
            sha256="94b5ca7dff4d00767bc256fdd1b27e5b17361d7b8a5f968547f9f23eb70d2069",
        ),
        # p50k_base only adds tokens, at the end of the file.
        EncodingFile(
            encoding="r50k_base",
            packed="p50k_base",
            size=835_554,
            sha256="306cd27f03c1a714eca7108e03d66b7dc042abe8c258b44c199a7ed9838dd930",
        ),
    )
}


@cache
def load(encoding: str) -> Encoding:
    """Load one of ENCODING_FILES. The first load takes 0.1 to 0.4 s: call it in a thread.

    Raises ConfigError where no folder is writable.
    """
    import tiktoken

    try:
        with _LOAD_LOCK, _cache_with(ENCODING_FILES[encoding]) as folder, _tiktoken_cache_at(folder):
            return tiktoken.get_encoding(encoding)
    except OSError as error:
        raise ConfigError(
            f"cannot unpack tiktoken's {encoding}: {reason(error)}; let XDG_CACHE_HOME name a writable folder"
        ) from error


@contextmanager
def _cache_with(file: EncodingFile) -> Iterator[Path]:
    configured = next((os.environ[name] for name in CACHE_VARIABLES if name in os.environ), "")
    if configured and file.is_in(Path(configured)):
        yield Path(configured)
        return
    folder = _cache_folder()
    if folder is not None and (file.is_in(folder) or _try_install(file, folder)):
        yield folder
        return
    with tempfile.TemporaryDirectory(prefix="processor-") as temporary:
        _install(file, Path(temporary))
        yield Path(temporary)


@contextmanager
def _tiktoken_cache_at(folder: Path) -> Iterator[None]:
    """Set tiktoken's environment variable during a load, and restore it."""
    name = CACHE_VARIABLES[0]
    before = os.environ.get(name)
    if before == str(folder):
        yield
        return
    os.environ[name] = str(folder)
    try:
        yield
    finally:
        if before is None:
            del os.environ[name]
        else:
            os.environ[name] = before


def _try_install(file: EncodingFile, folder: Path) -> bool:
    try:
        folder.mkdir(parents=True, exist_ok=True)
        _install(file, folder)
    except OSError:
        return False
    return True


def _install(file: EncodingFile, folder: Path) -> None:
    """Write the file in one step, so that other processes may do the same at any time. Raises OSError."""
    descriptor, name = tempfile.mkstemp(dir=folder, prefix=f"{file.encoding}.", suffix=".tmp")
    temporary = Path(name)
    try:
        with open(descriptor, "wb") as opened:
            opened.write(file.unpack())
            opened.flush()
            os.fsync(opened.fileno())
        temporary.replace(folder / file.cache_name)
    except OSError:
        temporary.unlink(missing_ok=True)
        raise


def _cache_folder() -> Path | None:
    """``~/.cache/processor/tiktoken``, or its equivalent on the platform; None without a home folder."""
    given = os.environ.get("LOCALAPPDATA" if sys.platform == "win32" else "XDG_CACHE_HOME", "")
    if Path(given).is_absolute():
        return Path(given) / "processor" / "tiktoken"
    try:
        home = Path.home()
    except RuntimeError:
        return None
    caches = home / "Library" / "Caches" if sys.platform == "darwin" else home / ".cache"
    return caches / "processor" / "tiktoken"
