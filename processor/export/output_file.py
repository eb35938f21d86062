"""The file that an export writes: it gets its name when it is whole."""

from __future__ import annotations

import os
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO

from processor.core import platform
from processor.core.compression import NotInstalled, coding_of_name, open_compressed
from processor.core.errors import ConfigError, OutputError, reason
from processor.core.private_files import private_opener
from processor.remote.addresses import is_writable, shown_address

STDOUT = "-"
_TEMP_SUFFIX = ".exporting"


@contextmanager
def output_file(out: str) -> Iterator[BinaryIO]:
    """Open a file to be written, or stdout; what is written is compressed if the name says so.

    The file takes the place of an earlier one, or is uploaded, when the body is left without an error. A new file is
    readable as the umask says, and one that exists keeps its mode. Raises ConfigError, OutputError.
    """
    if out == STDOUT:
        with _as_output_error("stdout"):
            yield sys.stdout.buffer
            sys.stdout.buffer.flush()
        return
    name = shown_address(out)
    with _as_output_error(name), _opened_remotely(out) if is_writable(out) else _opened(Path(out)) as file:
        coding = coding_of_name(out)
        if coding is None:
            yield file
            return
        try:
            compressing = open_compressed(file, coding)
        except NotInstalled as error:
            raise ConfigError(f"cannot write {name}: {error}") from None
        with compressing:
            yield compressing


@contextmanager
def _opened_remotely(address: str) -> Iterator[BinaryIO]:
    """Open a temporary file of this machine, which is uploaded when the body is left without an error."""
    from processor.remote.remote_file import check_can_upload, upload

    check_can_upload(address)
    with tempfile.TemporaryDirectory(prefix="processor-") as folder:
        temp = Path(folder) / "export"
        with open(temp, "wb", opener=private_opener) as file:
            yield file
        upload(str(temp), address)


@contextmanager
def _opened(path: Path) -> Iterator[BinaryIO]:
    if path.exists() and not path.is_file():  # a device or a pipe
        with open(path, "wb") as file:
            yield file
        return
    path = path.resolve()
    mode = path.stat().st_mode & 0o7777 if path.exists() else None
    temp = path.with_name(path.name + _TEMP_SUFFIX)
    with suppress(FileNotFoundError):
        temp.unlink()
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | platform.OPEN_FLAGS
    descriptor = os.open(temp, flags, 0o666 if mode is None else 0o600)
    try:
        with open(descriptor, "wb") as file:
            yield file
        if mode is not None:
            temp.chmod(mode)
        platform.replace_file(temp, path)
    except BaseException:
        with suppress(OSError):
            temp.unlink()
        raise


@contextmanager
def _as_output_error(name: str) -> Iterator[None]:
    """Raise an OSError of the body as an OutputError."""
    try:
        yield
    except OSError as error:
        raise OutputError(f"cannot write {name}: {reason(error)}") from None
