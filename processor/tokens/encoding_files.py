"""tiktoken's encodings from the rank files in this package, with no network.

tiktoken looks for a rank file in a cache folder, under the SHA-1 of the file's URL, checks its SHA-256 and
otherwise downloads it (``tiktoken/load.py``, ``tiktoken_ext/openai_public.py``). So the file is put there before
tiktoken looks: unpacked once into the user's cache folder, or, where that cannot be written, for the moment of
loading into a temporary one. A cache folder of the user's own setting serves first where it holds the file, and is
never written to.
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

SETTINGS = ("TIKTOKEN_CACHE_DIR", "DATA_GYM_CACHE_DIR")
"""Where tiktoken looks for its cache folder, in its order."""

PACKED = Path(__file__).with_name("ranks")

# Environment and tiktoken's registry belong to the whole process: one load at a time.
_LOADING = threading.Lock()


@dataclass(frozen=True, slots=True, kw_only=True)
class EncodingFile:
    """One of tiktoken's files: where it is packed, how much of that is it, and the hash tiktoken asks for."""

    encoding: str
    packed: str
    size: int
    sha256: str

    @property
    def cache_name(self) -> str:
        url = f"https://openaipublic.blob.core.windows.net/encodings/{self.encoding}.tiktoken"
        return sha1(url.encode(), usedforsecurity=False).hexdigest()

    def unpack(self) -> bytes:
        return lzma.decompress((PACKED / f"{self.packed}.tiktoken.xz").read_bytes())[: self.size]

    def is_in(self, folder: Path) -> bool:
        """Whole and unharmed: tiktoken deletes a file with the wrong hash and downloads it."""
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
    """One of RANK_FILES as tiktoken's own object. Takes 0.1-0.4 s at first: call it in a thread.

    Raises ConfigError where no folder at all can be written.
    """
    import tiktoken

    try:
        with _LOADING, _folder_with(ENCODING_FILES[encoding]) as folder, _tiktoken_looking_in(folder):
            return tiktoken.get_encoding(encoding)
    except OSError as error:
        raise ConfigError(
            f"cannot unpack tiktoken's {encoding}: {reason(error)}; let XDG_CACHE_HOME name a writable folder"
        ) from error


@contextmanager
def _folder_with(file: EncodingFile) -> Iterator[Path]:
    users_own = next((os.environ[name] for name in SETTINGS if name in os.environ), "")
    if users_own and file.is_in(Path(users_own)):
        yield Path(users_own)
        return
    folder = _cache_folder()
    if folder is not None and (file.is_in(folder) or _could_put(file, folder)):
        yield folder
        return
    with tempfile.TemporaryDirectory(prefix="processor-") as temporary:
        _put(file, Path(temporary))
        yield Path(temporary)


@contextmanager
def _tiktoken_looking_in(folder: Path) -> Iterator[None]:
    """Sets tiktoken's environment variable for this load, and puts it back as it was."""
    name = SETTINGS[0]
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


def _could_put(file: EncodingFile, folder: Path) -> bool:
    try:
        folder.mkdir(parents=True, exist_ok=True)
        _put(file, folder)
    except OSError:
        return False
    return True


def _put(file: EncodingFile, folder: Path) -> None:
    """Write the file whole or not at all, whoever else does the same now. Raises OSError."""
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
    """``~/.cache/processor/tiktoken``, or what the platform has in its place; None without a home."""
    given = os.environ.get("LOCALAPPDATA" if sys.platform == "win32" else "XDG_CACHE_HOME", "")
    if Path(given).is_absolute():
        return Path(given) / "processor" / "tiktoken"
    try:
        home = Path.home()
    except RuntimeError:
        return None
    caches = home / "Library" / "Caches" if sys.platform == "darwin" else home / ".cache"
    return caches / "processor" / "tiktoken"
