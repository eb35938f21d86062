"""Chooses what makes the lines of a job file: a decompressor, a reader of tables, or both."""

from __future__ import annotations

from typing import BinaryIO

from processor.core.compression import (
    MAGIC_BYTES,
    DecompressingReader,
    NotInstalled,
    PlainReader,
    Reader,
    coding_of,
)
from processor.core.errors import ConfigError
from processor.core.text import setting_name
from processor.input.tables import CsvReader, ParquetReader, delimiter_of, table_suffix
from processor.input.template import Template


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
