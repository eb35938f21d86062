"""``process status``: how a run stands, from another terminal."""

from __future__ import annotations

from dataclasses import replace
from typing import Annotated

import typer

from processor.cli.options import option
from processor.cli.results import Results, WorkDir, results_path
from processor.core import exit_codes
from processor.core.errors import ConfigError, reason


def status(
    results: Results,
    work_dir: WorkDir = None,
    as_json: Annotated[bool, option("Output", "--json", text="Print it as a JSON object.")] = False,
) -> int:
    """Prints how the last run on RESULTS stands and how old that is: replies,
    failures, speed, limits and what it waits for. It reads files only, so that
    it disturbs no run; a run writes to its history each minute.

      process status results.jsonl
    """
    import time

    from processor.output.paths import OutputPaths
    from processor.report.run_state import state_of
    from processor.report.status_text import status_json, status_rows

    paths = OutputPaths.of_existing(results_path(results, work_dir), history_suffices=True)
    try:
        state = state_of(paths, time.time())
    except OSError as error:
        raise ConfigError(f"cannot read {error.filename or results}: {reason(error)}") from None
    if paths.batches.exists():
        from processor.app.batch_commands import listed

        found = listed(paths.replies)
        state = replace(state, open_batches=len(found), jobs_in_batches=sum(one["jobs"] for one in found))
    if as_json:
        import json

        from processor.core.secrets import mask_text

        typer.echo(mask_text(json.dumps(status_json(state))))
    else:
        from processor.terminal.label_table import plain_text

        typer.echo(plain_text(status_rows(state)), nl=False)
    return exit_codes.COMPLETE
