"""Opens a job file, and chooses what makes its lines: a decompressor, a reader of tables, or both."""

from __future__ import annotations

from typing import BinaryIO, cast

from processor.core.compression import (
    MAGIC_BYTES,
    DecompressingReader,
    NotInstalled,
    PlainReader,
    Reader,
    coding_of,
)
from processor.core.errors import ConfigError, reason
from processor.core.text import setting_name
from processor.input.tables import CsvReader, ParquetReader, delimiter_of, table_suffix
from processor.input.template import Template
from processor.remote.addresses import refuse_unknown_scheme, scheme_of

STDIN = 0


def open_input(path: str) -> BinaryIO:
    """Open a job file; ``-`` is standard input. Raises ConfigError."""
    try:
        if scheme_of(path) is not None:
            from processor.remote.remote_file import RemoteFile

            return cast(BinaryIO, RemoteFile(path))
        refuse_unknown_scheme(path)
        if path == "-":
            return open(STDIN, "rb", buffering=0, closefd=False)
        return open(path, "rb", buffering=0)
    except OSError as error:
        raise ConfigError(unreadable("stdin" if path == "-" else path, error)) from None


def unreadable(name: str, error: OSError) -> str:
    return f"cannot read {name}: {reason(error)}"


def reader_of(file: BinaryIO, head: bytes, path: str, template: Template | None, max_line_bytes: int) -> Reader | None:
    """Return the reader of an open file that begins with ``head``; None where it holds lines as they are.

    Raises OSError, and ConfigError where a package or the template is missing.
    """
    file.seek(0)
    reader: Reader | None = None
    coding = coding_of(head[:MAGIC_BYTES])
    if coding is not None:
        try:
            reader = DecompressingReader(file, coding)
        except NotInstalled as error:
            raise ConfigError(f"cannot read {path}: {error}") from None
        head = reader.read(len(head))
    suffix = table_suffix(path)
    if suffix is None:
        if reader is not None:
            reader.rewind()
        return reader
    if template is None:
        raise ConfigError(
            f"{path} is a table: give {setting_name('template', 'FILE')}, a job with the names of columns in braces"
        )
    if suffix == ".parquet":
        if coding is not None:
            raise ConfigError(f"{path} is compressed as a whole, which Parquet is not to be: unpack the file")
        return ParquetReader(file, template, path)
    return CsvReader(reader or PlainReader(file), template, path, max_line_bytes, delimiter_of(suffix, head))
