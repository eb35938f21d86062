"""The record in a work folder: how much of the local files stands in parts."""

from __future__ import annotations

import json
import os
from dataclasses import asdict, field
from pathlib import Path

from processor.core.errors import ConfigError
from processor.core.fast_dataclass import dataclass
from processor.core.private_files import replaced_file
from processor.core.text import setting_name
from processor.publishing.part_names import FIRST_GENERATION, Kind

_FORMAT = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Published:
    """How much of one local file stands in parts."""

    generation: int = FIRST_GENERATION
    number: int = 0
    """Of the last part that this machine knows."""
    offset: int = 0
    """Up to here, in bytes, the rows of the local file stand in parts."""
    is_rewritten: bool = False
    """The local file has lost rows since, so that all of it is to be published as a new generation."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Record:
    """Of one output. Where an offset is beyond the end of its file, the file has lost rows that were published: by
    compaction, or by a loss of power."""

    address: str
    holder: str
    files: dict[Kind, Published] = field(default_factory=lambda: {"replies": Published(), "errors": Published()})


def load_record(path: Path, address: str) -> Record:
    """Return the record, or a new one where there is none or it cannot be read: parts are then compared with the rows.

    Raises ConfigError where it is that of another address; OSError.
    """
    try:
        values = json.loads(path.read_bytes())
        files: dict[Kind, Published] = {kind: Published(**values["files"][kind]) for kind in ("replies", "errors")}
        record = Record(address=values["address"], holder=values["holder"], files=files)
    except (FileNotFoundError, ValueError, KeyError, TypeError):
        return Record(address=address, holder=os.urandom(8).hex())
    if record.address != address:
        raise ConfigError(
            f"{path.parent} is the work folder of {record.address}: give another {setting_name('work_dir')}"
        )
    return record


def save_record(path: Path, record: Record) -> None:
    """Write the record in one step. Raises OSError."""
    with replaced_file(path, ".writing") as file:
        file.write(json.dumps({"format": _FORMAT, **asdict(record)}, indent=1).encode())
