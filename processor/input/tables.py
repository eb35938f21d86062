"""Reads tables as job files: each row becomes a line, by a template. A bounded number of rows is in memory."""

from __future__ import annotations

import codecs
import csv
import math
from abc import ABC, abstractmethod
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO

from processor.core.compression import Reader, without_suffix
from processor.core.errors import ConfigError
from processor.input.template import Template

TABLE_SUFFIXES = (".csv", ".tsv", ".parquet")
CHUNK_BYTES = 64 * 1024
TOO_MANY_VALUES = "has more values than there are columns: quote a value that has the delimiter or a quote in it"
BATCH_ROWS = 1000
"""Rows of a Parquet file that are decoded at a time."""


def table_suffix(path: str) -> str | None:
    """Return the kind of table that a file is by its name; None where it is none."""
    suffix = Path(without_suffix(path)).suffix.lower()
    return suffix if suffix in TABLE_SUFFIXES else None


class TableReader(ABC):
    """The rows of a table as lines of a job file. Errors in the table are OSErrors."""

    def __init__(self, template: Template) -> None:
        self._template = template
        self._lines: Iterator[bytes] | None = None

    def read(self, size: int) -> bytes:
        """Return some whole lines, ``size`` bytes or a little more; none at the end. Raises OSError."""
        if self._lines is None:
            self._lines = self._make_lines()
        lines, length = [], 0
        for line in self._lines:
            lines.append(line)
            length += len(line)
            if length >= size:
                break
        return b"".join(lines)

    def rewind(self) -> None:
        self._lines = None

    @abstractmethod
    def count_rows(self) -> int:
        """Raises OSError."""

    @abstractmethod
    def _make_lines(self) -> Iterator[bytes]: ...


class CsvReader(TableReader):
    """CSV in UTF-8, with a line of names. Quoted values may have line feeds in them."""

    def __init__(self, reader: Reader, template: Template, name: str, max_line_bytes: int, delimiter: str) -> None:
        """Raises ConfigError where the template does not suit the table."""
        super().__init__(template)
        self._reader = reader
        self._max_line_bytes = max_line_bytes
        self._delimiter = delimiter
        csv.field_size_limit(max_line_bytes)
        template.check(self._header(self._rows(), name), name)

    def count_rows(self) -> int:
        return max(sum(1 for row in self._rows() if row) - 1, 0)

    def _make_lines(self) -> Iterator[bytes]:
        rows = self._rows()
        columns = next(rows, [])
        for row in rows:
            if row:
                yield self._line(columns, row)

    def _line(self, columns: list[str], row: list[str]) -> bytes:
        if len(row) > len(columns):
            import json

            return json.dumps(row).encode() + b"\n"  # a line that is no job, as TOO_MANY_VALUES says
        return self._template.line(dict(zip(columns, row + [""] * (len(columns) - len(row)), strict=True)))

    def _header(self, rows: Iterator[list[str]], name: str) -> list[str]:
        header = next(rows, [])
        if len(set(header)) < len(header):
            twice = next(column for column in header if header.count(column) > 1)
            raise ConfigError(f"{name} has two columns named {twice!r}: rename one")
        return header

    def _rows(self) -> Iterator[list[str]]:
        self._reader.rewind()
        table = csv.reader(self._text_lines(), delimiter=self._delimiter, strict=True)
        try:
            yield from table
        except csv.Error as error:
            what = "a quote in it is never closed" if "unexpected end" in str(error) else str(error)
            raise OSError(f"row {max(table.line_num - 1, 0)} is no CSV: {what}") from None

    def _text_lines(self) -> Iterator[str]:
        decoder = codecs.getincrementaldecoder("utf-8-sig")()
        pieces: list[str] = []
        length = 0
        try:
            while chunk := self._reader.read(CHUNK_BYTES):
                first, *others = decoder.decode(chunk).split("\n")
                pieces.append(first)
                length += len(first)
                if length > self._max_line_bytes:
                    raise OSError("it has a line that is too long, or a quote that is never closed")
                if others:
                    yield "".join(pieces) + "\n"
                    yield from (f"{line}\n" for line in others[:-1])
                    pieces, length = others[-1:], len(others[-1])
            pieces.append(decoder.decode(b"", final=True))
        except UnicodeDecodeError:
            raise OSError("it is not UTF-8: convert it, for example with iconv -f LATIN1 -t UTF-8") from None
        if last := "".join(pieces):
            yield last


class ParquetReader(TableReader):
    """Parquet, by pyarrow, which is imported only here."""

    def __init__(self, file: BinaryIO, template: Template, name: str) -> None:
        """Raises ConfigError where pyarrow is missing, the file is no Parquet or the template does not suit it."""
        super().__init__(template)
        try:
            import pyarrow
            from pyarrow import parquet
        except ImportError:
            raise ConfigError(
                f"cannot read {name}: Parquet needs a package: pip install 'processor[parquet]'"
            ) from None
        self._errors: tuple[type[Exception], ...] = (pyarrow.ArrowException,)
        try:
            self._table: Any = parquet.ParquetFile(file)
        except self._errors as error:
            raise ConfigError(f"cannot read {name}: {error}") from None
        columns = self._table.schema_arrow.names
        template.check(columns, name)
        self._columns = template.columns(columns)

    def count_rows(self) -> int:
        return int(self._table.metadata.num_rows)

    def _make_lines(self) -> Iterator[bytes]:
        try:
            for batch in self._table.iter_batches(batch_size=BATCH_ROWS, columns=self._columns, use_threads=False):
                for row in batch.to_pylist():
                    yield self._template.line({name: _as_json(value) for name, value in row.items()})
        except self._errors as error:
            raise OSError(f"it is damaged: {error}") from None


def _as_json(value: Any) -> Any:
    """Return a value of a table as JSON has it: times, decimals and the like as texts."""
    if isinstance(value, dict):
        return {str(name): _as_json(child) for name, child in value.items()}
    if isinstance(value, list | tuple):
        return [_as_json(child) for child in value]
    if isinstance(value, bytes):
        return value.decode("utf-8", "replace")
    if isinstance(value, float):
        return value if math.isfinite(value) else None  # pandas writes a missing number so
    return value if value is None or isinstance(value, str | int) else str(value)


def delimiter_of(suffix: str, head: bytes) -> str:
    """Return what separates the values of a table: by its name, and by its first line for ``.csv``."""
    if suffix == ".tsv":
        return "\t"
    first = head.partition(b"\n")[0]
    return max(",;\t", key=lambda one: first.count(one.encode()))
