"""What a report is made of."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import field
from pathlib import Path

from processor.core.fast_dataclass import dataclass
from processor.output.paths import OutputPaths
from processor.report.chart import Chart
from processor.report.html import Html
from processor.report.row_counts import RowCounts
from processor.report.row_facts import RowFacts
from processor.report.run_history import RunRecord


@dataclass(frozen=True, slots=True, kw_only=True)
class ReportOptions:
    """What of the texts of strangers may stand in the page."""

    with_text: bool = False
    """The beginnings of replies."""
    input_path: Path | None = None
    """The job file whose prompts are shown; None: no prompts."""
    with_messages: bool = True
    """The messages of errors, which may quote a prompt."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ReportData:
    """The numbers of one output, and the names of its files."""

    paths: OutputPaths
    rows: RowCounts
    options: ReportOptions
    created_at: float
    """Unix time."""
    version: str
    runs: tuple[RunRecord, ...] = ()
    """The history, as far as there is one."""
    command: str | None = None
    """The command that continues the work; None where it is not known."""
    texts: Mapping[str, str] = field(default_factory=dict)
    """The beginnings of replies, by the key of their rows."""
    prompts: Mapping[str, str] = field(default_factory=dict)
    """The beginnings of job lines, likewise."""

    def listed_rows(self) -> list[RowFacts]:
        """The rows that stand in a table of the page."""
        rows = self.rows
        return [*rows.listed_failures, *rows.slowest.rows(), *rows.longest.rows(), *rows.most_expensive.rows()]


@dataclass(frozen=True, slots=True, kw_only=True)
class Section:
    """A part of the page below a heading of its own."""

    name: str
    """Its anchor."""
    title: str
    content: tuple[Html | Chart, ...]
