"""``process batch``: the batches of an output that are with the provider."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated, Any

import typer

from processor.cli import options
from processor.cli.options import option
from processor.cli.results import Results
from processor.core import exit_codes
from processor.core.errors import ConfigError
from processor.remote.addresses import is_writable
from processor.terminal.console import print_error

ACTIONS = ("list", "cancel", "adopt", "assume-lost")

EXIT_CODES = """
Exit codes:
  0    done
  1    there is no such batch
  2    RESULTS, the key or the address cannot be used
"""


def batch(
    action: Annotated[str, typer.Argument(metavar="ACTION", hidden=True)],
    results: Results,
    name: Annotated[str | None, typer.Argument(metavar="[BATCH]", hidden=True)] = None,
    config: options.Config = None,
    base_url: options.BaseUrl = None,
    provider: options.ProviderName = None,
    api_key_env: options.ApiKeyEnv = None,
    ca_file: options.CaFile = None,
    allow_http: options.AllowHttp = None,
    as_json: Annotated[bool, option("Output", "--json", text="Print the list as JSON.")] = False,
) -> int:
    """Shows and settles the batches of RESULTS that a run with --batch has left
    with the provider. The next such run collects them.

      process batch list results.jsonl
      process batch cancel results.jsonl             all; what is done is kept
      process batch cancel results.jsonl BATCH       one of them

    Where it is not certain whether the provider has a batch, look there, then:

      process batch adopt results.jsonl BATCH=ID     it has: ID is its id there
      process batch assume-lost results.jsonl BATCH  it has not: send them again
    """
    from processor.app import batch_commands

    if action not in ACTIONS:
        raise ConfigError(f"process batch needs one of {', '.join(ACTIONS)}, not {action!r}")
    if is_writable(results):
        raise ConfigError(f"runs with --batch write to files of this machine: give that file in place of {results}")
    path = Path(results)
    if action == "list":
        return _list(batch_commands.listed(path), as_json=as_json)
    if action == "cancel":
        flags = {"base_url": base_url, "provider": provider, "api_key_env": api_key_env}
        return _tell(_cancel(path, name, config, {**flags, "ca_file": ca_file, "allow_http": allow_http}), results)
    if name is None:
        raise ConfigError(f"process batch {action} needs a BATCH: see process batch list {results}")
    if action == "adopt":
        ours, _, theirs = name.rpartition("=")
        found = batch_commands.adopt(path, ours or None, theirs)
    else:
        found = batch_commands.assume_lost(path, name)
    return _tell(found, results)


def _cancel(results: Path, name: str | None, config: Path | None, flags: dict[str, Any]) -> list[str]:
    from processor.app import batch_commands
    from processor.config.environment import environment
    from processor.config.settings_loading import load

    environ = environment(os.environ)
    return batch_commands.cancel(results, name, load(config, flags, environ), environ)


def _tell(texts: list[str], results: str) -> int:
    for text in texts:
        typer.echo(text)
    if not texts:
        print_error(f"there is no such open batch: see process batch list {results}")
    return exit_codes.COMPLETE if texts else exit_codes.INCOMPLETE


def _list(found: list[dict[str, Any]], *, as_json: bool) -> int:
    import json

    if as_json:
        typer.echo(json.dumps(found))
        return exit_codes.COMPLETE
    if not found:
        typer.echo("no batch is open")
        return exit_codes.COMPLETE
    typer.echo(f"{'batch':18}{'state':11}{'jobs':>8}  {'submitted':17}{'model':20}id at the provider")
    for one in found:
        when = (one["submitted_at"] or "not yet")[:16].replace("T", " ")
        typer.echo(
            f"{one['batch']:18}{one['state']:11}{one['jobs']:>8,}  {when:17}{one['model'][:19]:20}{one['id'] or 'none'}"
        )
    return exit_codes.COMPLETE
