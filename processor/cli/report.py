"""``process report``: the page about one output."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from processor.cli.options import option
from processor.cli.results import Results, WorkDir, results_path
from processor.core import exit_codes
from processor.core.errors import ConfigError, OutputError
from processor.remote.addresses import is_writable


def report(
    results: Results,
    out: Annotated[
        Path | None,
        option("Files", "--out", "-o", metavar="FILE", text="[default: <RESULTS stem>.report.html]"),
    ] = None,
    with_text: Annotated[
        bool, option("Contents", "--with-text", text="Also show the beginnings of the replies that are listed.")
    ] = False,
    with_input: Annotated[
        Path | None,
        option("Contents", "--with-input", metavar="JOBS", text="Also show the jobs that are listed, from this file."),
    ] = None,
    work_dir: WorkDir = None,
    no_messages: Annotated[
        bool, option("Contents", "--no-messages", text="Leave out error messages, which may quote a prompt.")
    ] = False,
) -> int:
    """Writes a page about RESULTS: speed, latency, tokens, cost, failed jobs. It is
    one HTML file that loads nothing and shows no prompt or reply by default.

      process report results.jsonl
      process report results.jsonl --out night.html --with-text

    Charts need two more packages: pip install 'processor[report]'
    """
    from processor.report.assets import HOW_TO_GET_CHARTS, can_draw
    from processor.report.data import ReportOptions
    from processor.report.make_report import default_report_path, make_report
    from processor.terminal.formatting import plural

    if with_input is not None and not with_input.is_file():
        raise ConfigError(f"cannot read {with_input}: give the job file of these results")
    options = ReportOptions(with_text=with_text, input_path=with_input, with_messages=not no_messages)
    path = out or default_report_path(Path(results))
    if is_writable(results) and out is None:
        path = Path(path.name)
    try:
        data = make_report(results_path(results, work_dir), path, options)
    except OutputError as error:
        raise ConfigError(str(error)) from None
    charts = "" if can_draw() else f"; charts need two more packages: {HOW_TO_GET_CHARTS}"
    typer.echo(f"{path}: {plural(data.rows.replies, 'reply', 'replies')}, {data.rows.failed:,} failed{charts}")
    return exit_codes.COMPLETE
