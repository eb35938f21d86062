"""Tables of text: values separated by commas or tabs."""

from __future__ import annotations

import csv
import io
from typing import BinaryIO

from processor.export.columns import columns_of, table_row
from processor.export.exported_row import ExportedRow
from processor.export.formats.base import Contents, Format


class CsvTable(Format):
    """RFC 4180 in UTF-8, with a line of names. No value is empty; a text with line feeds is quoted."""

    delimiter = ","

    def __init__(self, file: BinaryIO, contents: Contents) -> None:
        super().__init__(file, contents)
        self._columns = columns_of(contents)
        self._text = io.TextIOWrapper(file, encoding="utf-8", errors="replace", newline="", write_through=True)
        self._writer = csv.writer(self._text, delimiter=self.delimiter, lineterminator="\n")
        self._writer.writerow([column.name for column in self._columns])

    def write(self, exported: ExportedRow) -> None:
        values, missing = table_row(self._columns, exported)
        self.missing += missing
        self._writer.writerow(values)

    def finish(self) -> None:
        self._text.flush()
        self._text.detach()


class TsvTable(CsvTable):
    """The same with tabs."""

    delimiter = "\t"
