"""Reads the files of one output, and writes the report on it."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import replace
from importlib import metadata
from pathlib import Path

from processor.core.compression import MAGIC_BYTES, coding_of
from processor.core.errors import ConfigError, OutputError, reason
from processor.core.json_reading import parsed
from processor.core.text import one_line
from processor.output.backward_reader import lines_backward
from processor.output.paths import OutputPaths
from processor.protocols.reply_text import text_of_reply
from processor.report.data import ReportData, ReportOptions
from processor.report.page import page
from processor.report.row_counter import count_rows
from processor.report.row_facts import RowFacts, facts_of
from processor.report.run_history import read_runs

MAX_TEXT_CHARS = 400


def default_report_path(results: Path) -> Path:
    """``results.jsonl`` has its report in ``results.report.html``."""
    return results.with_name(f"{results.name.removesuffix('.jsonl') or results.name}.report.html")


def make_report(results: Path, out: Path, options: ReportOptions, *, command: str | None = None) -> ReportData:
    """Write the report on the results to ``out``. Returns what it is made of.

    Raises ConfigError where there is nothing to read, OutputError where the page cannot be written.
    """
    paths = OutputPaths.of_existing(results)
    try:
        data = _collect(paths, options, command)
    except OSError as error:
        raise ConfigError(f"cannot read {error.filename or results}: {reason(error)}") from None
    if not data.rows.rows and data.rows.damaged:
        raise ConfigError(f"{results} is not a results file: it holds no row")
    written = page(data)
    try:
        out.write_text(written, encoding="utf-8")
    except OSError as error:
        raise OutputError(f"cannot write the report {out}: {reason(error)}") from None
    return data


def _collect(paths: OutputPaths, options: ReportOptions, command: str | None) -> ReportData:
    runs = tuple(read_runs(paths.history))
    data = ReportData(
        paths=paths,
        rows=count_rows((paths.replies, paths.failures)),
        options=options,
        created_at=time.time(),
        version=metadata.version("processor"),
        runs=runs,
        command=command or (runs[-1].command or None if runs else None),
    )
    wanted = {row.key: row for row in data.listed_rows()}
    return replace(
        data,
        texts=_texts(paths.replies, wanted) if options.with_text else {},
        prompts=_prompts(options.input_path, wanted) if options.input_path else {},
    )


def _texts(replies: Path, wanted: Mapping[str, RowFacts]) -> dict[str, str]:
    """The beginnings of the wanted replies, by the keys of their rows."""
    texts: dict[str, str] = {}
    if not replies.exists():
        return texts
    for line in lines_backward(replies):
        row = parsed(line)
        facts = facts_of(row)
        if facts is not None and facts.key in wanted and facts.key not in texts:
            texts[facts.key] = one_line(text_of_reply(row["response"]["body"]), MAX_TEXT_CHARS)
    return texts


def _prompts(jobs: Path, wanted: Mapping[str, RowFacts]) -> dict[str, str]:
    """The beginnings of the wanted jobs, as their lines stand in the file."""
    by_line: dict[int, list[str]] = {}
    for key, facts in wanted.items():
        if facts.file is not None and Path(facts.file).name != jobs.name:
            continue
        by_line.setdefault(facts.line, []).append(key)
    prompts: dict[str, str] = {}
    with open(jobs, "rb") as file:
        if coding_of(file.read(MAGIC_BYTES)) is not None:
            raise ConfigError(f"--with-input reads no compressed job files: unpack {jobs}")
        file.seek(0)
        for number, line in enumerate(file, 1):
            for key in by_line.get(number, ()):
                prompts[key] = one_line(line[: 8 * MAX_TEXT_CHARS].decode("utf-8", "replace"), MAX_TEXT_CHARS)
    return prompts
