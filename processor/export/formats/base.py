"""What every format of an export is."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import BinaryIO

from processor.core.fast_dataclass import dataclass
from processor.export.exported_row import ExportedRow


@dataclass(frozen=True, slots=True, kw_only=True)
class Contents:
    """What of each row is exported."""

    with_input: bool = False
    with_failed: bool = False
    text: bool = False
    """Only the text of the reply."""
    json_fields: tuple[str, ...] = ()
    """Paths of fields in replies that are JSON."""


class Format(ABC):
    """Writes rows to an open file, which it does not close."""

    needs_jobs = False
    """A row is written only with its job."""

    def __init__(self, file: BinaryIO, contents: Contents) -> None:
        self.file = file
        self.contents = contents
        self.missing = 0
        """Values that were asked for and that replies do not have."""

    @abstractmethod
    def write(self, exported: ExportedRow) -> None: ...

    def finish(self) -> None:  # noqa: B027 (most formats have no end)
        """Write what is still held, and the end of the file."""
