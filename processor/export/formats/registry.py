"""The formats by their names, and by the ends of files' names."""

from __future__ import annotations

from pathlib import Path

from processor.core.compression import coding_of_name, without_suffix
from processor.core.errors import ConfigError
from processor.export.formats.base import Format
from processor.export.formats.csv_table import CsvTable, TsvTable
from processor.export.formats.json_lines import Cookbook, JsonLines, OpenAIBatch
from processor.export.formats.parquet import Parquet

FORMATS: dict[str, type[Format]] = {
    "jsonl": JsonLines,
    "csv": CsvTable,
    "tsv": TsvTable,
    "parquet": Parquet,
    "cookbook": Cookbook,
    "openai-batch": OpenAIBatch,
}
_BY_SUFFIX = {".jsonl": "jsonl", ".ndjson": "jsonl", ".csv": "csv", ".tsv": "tsv", ".parquet": "parquet"}


def format_name(name: str | None, out: str) -> str:
    """Return the name of the format: the given one, else by the end of the file's name. Raises ConfigError."""
    found = name or _BY_SUFFIX.get(Path(without_suffix(out)).suffix.lower())
    if found is None:
        raise ConfigError(f"what format has {out}? Give --format {', '.join(FORMATS)}, or a name that ends in .csv")
    if found not in FORMATS:
        raise ConfigError(f"--format must be one of {', '.join(FORMATS)}, not {found!r}")
    if found == "parquet" and coding_of_name(out) is not None:
        raise ConfigError(f"{out}: parquet is compressed in itself: give --out {without_suffix(out)}")
    return found
