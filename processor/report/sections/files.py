"""The files that the report was made of, and what is not in them."""

from __future__ import annotations

from processor.report.chart import clock, zone_name
from processor.report.data import ReportData, Section
from processor.report.html import element
from processor.report.table import definitions
from processor.terminal.formatting import plural, size


def files_section(data: ReportData) -> Section:
    rows, paths = data.rows, data.paths
    entries: list[tuple[str, object]] = []
    for name, path, count in (("results", paths.replies, rows.replies), ("errors", paths.failures, rows.failed)):
        if path.exists():
            entries.append((name, f"{path} ({plural(count, 'row')}, {size(path.stat().st_size)})"))
    if rows.superseded:
        entries.append(("replaced", f"{plural(rows.superseded, 'row')} not counted: the same job has a newer one"))
    if rows.damaged:
        entries.append(("damaged", f"{plural(rows.damaged, 'line')} not counted: they are no rows"))
    entries.append(("made", f"{clock(data.created_at)} ({zone_name(data.created_at)}) by process {data.version}"))
    if not data.runs:
        missing = "limits, refusals, notices and settings"
        entries.append(("history", f"there is no {paths.history.name}: the page has no {missing}"))
    texts = []
    if not data.options.with_messages:
        texts.append("without the messages of errors")
    texts.append("with replies" if data.options.with_text else "without the texts of replies")
    texts.append(f"with jobs of {data.options.input_path}" if data.options.input_path else "without prompts")
    entries.append(("texts", ", ".join(texts)))
    note = element("p", "Counts are exact. Percentiles are exact to 1 %, over time to 5 %.", class_="note")
    return Section(name="files", title="Files", content=(definitions(entries), note))
