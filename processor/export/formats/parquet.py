"""Tables in Parquet, by pyarrow, which is imported only here. At most one row group is in memory."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any, BinaryIO

from processor.core.errors import ConfigError
from processor.core.json_reading import unix_time_of
from processor.export.columns import TableColumn, columns_of, table_row
from processor.export.exported_row import ExportedRow
from processor.export.formats.base import Contents, Format

MAX_GROUP_ROWS = 50_000
MAX_GROUP_BYTES = 32 << 20
"""Of the rows as they stand in the results file."""


class Parquet(Format):
    def __init__(self, file: BinaryIO, contents: Contents) -> None:
        """Raises ConfigError where pyarrow is not installed."""
        super().__init__(file, contents)
        try:
            import pyarrow
            from pyarrow import parquet
        except ImportError:
            raise ConfigError(
                "--format parquet needs a package: pip install 'processor[parquet]', or export to csv"
            ) from None
        self._columns = columns_of(contents)
        types = {
            "text": pyarrow.string(),
            "integer": pyarrow.int64(),
            "number": pyarrow.float64(),
            "time": pyarrow.timestamp("ms", tz="UTC"),
        }
        self._schema = pyarrow.schema([(column.name, types[column.kind]) for column in self._columns])
        self._make_table = pyarrow.Table.from_arrays
        self._make_array = pyarrow.array
        self._writer = parquet.ParquetWriter(file, self._schema, compression="zstd")
        self._held: list[list[Any]] = [[] for _ in self._columns]
        self._held_bytes = 0

    def write(self, exported: ExportedRow) -> None:
        values, missing = table_row(self._columns, exported)
        self.missing += missing
        for column, held, value in zip(self._columns, self._held, values, strict=True):
            held.append(_typed(column, value))
        self._held_bytes += len(exported.raw)
        if len(self._held[0]) >= MAX_GROUP_ROWS or self._held_bytes >= MAX_GROUP_BYTES:
            self._write_group()

    def finish(self) -> None:
        self._write_group()
        self._writer.close()

    def _write_group(self) -> None:
        if not self._held[0]:
            return
        arrays = [self._make_array(held, type=field.type) for held, field in zip(self._held, self._schema, strict=True)]
        self._writer.write_table(self._make_table(arrays, schema=self._schema))
        self._held = [[] for _ in self._columns]
        self._held_bytes = 0


def _typed(column: TableColumn, value: Any) -> Any:
    if value is None:
        return None
    if column.kind == "time":
        seconds = unix_time_of(value)
        return None if seconds is None else datetime.fromtimestamp(seconds, UTC)
    if column.kind == "integer":
        return value if -(2**63) <= value < 2**63 else None
    return value.encode("utf-8", "replace").decode() if column.kind == "text" else value
