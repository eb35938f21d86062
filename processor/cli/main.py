"""The commands. Only typer is imported at the start: each command imports what it needs, so that help is fast."""

from __future__ import annotations

import os
import sys
import traceback
from collections.abc import Mapping
from typing import Annotated, Any, NoReturn

import typer

from processor.cli import options
from processor.cli.help_formatter import CommandHelp, ProgramHelp
from processor.cli.usage import check_job_file, usage_message
from processor.core import exit_codes
from processor.core.errors import ConfigError
from processor.core.secrets import mask_text

app = typer.Typer(name="process", add_completion=False, rich_markup_mode=None, pretty_exceptions_enable=False)


class RunByDefault(ProgramHelp):
    """``process jobs.jsonl`` means ``process run jobs.jsonl``: a first argument that is not a command is a job file."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        if args and args[0] not in self.commands and args[0] not in ("--help", "--version"):
            args = ["run", *args]
        return super().parse_args(ctx, args)


def _version(requested: bool) -> None:
    if requested:
        from importlib.metadata import version

        typer.echo(f"process {version('processor')}")
        raise typer.Exit


@app.callback(cls=RunByDefault)
def process(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Show the version.")
    ] = False,
) -> None:
    """Turns a file of LLM requests into a file of replies, as fast as the rate
    limit allows. Failed requests are retried, and no reply is lost or paid for
    twice. After a stop, run the same command again to resume.

    Try it without a key, at no cost:

      process jobs.jsonl --simulate

    Send real requests:

      export OPENAI_API_KEY=...
      process jobs.jsonl --out results.jsonl

    Full reference: process run --help
    """


_EXIT_CODES = """
Exit codes:
  0    every job has its reply
  1    some jobs have none: see the errors file
  2    nothing was sent: wrong usage or settings, no key, no input, no output
  3    stopped early (key, quota, outage, disk): run again to resume
  70   internal error
  130  interrupted: run again to resume
"""


@app.command(cls=CommandHelp, epilog=_EXIT_CODES, short_help="Send every job of a file and write the replies.")
def run(
    ctx: typer.Context,
    jobs: options.Jobs,
    out: options.Out = None,
    config: options.Config = None,
    log_file: options.LogFile = None,
    summary_json: options.SummaryJson = None,
    base_url: options.BaseUrl = None,
    provider: options.ProviderName = None,
    api_key_env: options.ApiKeyEnv = None,
    endpoint: options.Endpoint = None,
    model: options.ModelName = None,
    ca_file: options.CaFile = None,
    allow_http: options.AllowHttp = None,
    stream: options.Stream = None,
    rpm: options.Rpm = None,
    tpm: options.Tpm = None,
    concurrency: options.Concurrency = None,
    max_attempts: options.MaxAttempts = None,
    grace_s: options.Grace = None,
    limit: options.Limit = None,
    retry_failed: options.RetryFailed = False,
    changed: options.Changed = None,
    simulate: options.Simulate = False,
    echo: options.Echo = False,
    progress: options.Progress = True,
    quiet: options.Quiet = False,
) -> int:
    """Sends every job of JOBS and writes its reply to RESULTS. The word "run" may
    be omitted. After a stop, run the same command again to resume.

    JOBS has one JSON object per line, in any of three formats; - is stdin:

      {"prompt": "Hi", "model": "gpt-4o-mini"}
      {"messages": [{"role": "user", ...}], "model": "gpt-4o-mini"}
      {"custom_id": "a", "url": "/v1/chat/completions", "body": {...}}

    RESULTS gets one line per reply, as soon as it is complete; - is stdout.
    Failures go to <RESULTS stem>.errors.jsonl in the same folder.

      process jobs.jsonl --out results.jsonl
      process jobs.jsonl --simulate                      no key, no cost
      process jobs.jsonl --echo --limit 3                try a prompt
      process jobs.jsonl --rpm 500 --tpm 200000          set limits
      process jobs.jsonl --base-url https://host/v1      use another server
      generate | process - --out - --quiet | consume     use in a pipe
    """
    from processor.app.plan import Plan, default_out
    from processor.app.run import run as run_plan
    from processor.config.environment import environment
    from processor.config.settings import load

    if limit is not None and limit < 1:
        raise ConfigError(f"--limit must be at least 1, not {limit}")
    check_job_file(jobs, [str(command.callback.__name__) for command in app.registered_commands if command.callback])
    if out is not None and not out:
        raise ConfigError("--out is empty: give a file, or leave it out for the default name")
    environ = os.environ if simulate else environment(os.environ)  # the simulator needs no key
    plan = Plan(
        jobs=jobs,
        out=default_out(jobs, simulate=simulate) if out is None else out,
        settings=load(config, _settings(ctx.params), environ),
        limit=limit,
        retry_failed=retry_failed,
        simulate=simulate,
        echo=echo,
        progress=progress,
        quiet=quiet,
        log_file=log_file,
        summary_json=summary_json,
        command=("process", *sys.argv[1:]),
    )
    return run_plan(plan, environ)


def _settings(params: Mapping[str, Any]) -> dict[str, Any]:
    """The flags that override a setting of the same name."""
    from dataclasses import fields

    from processor.config.settings import Settings

    names = {"rpm", "tpm", *(setting.name for setting in fields(Settings))}
    return {name: value for name, value in params.items() if name in names}


@app.command(cls=CommandHelp, short_help="Run a fake LLM server.")
def simulate(
    port: options.Port = 8000,
    host: options.Host = "127.0.0.1",
    rpm: options.ServerRpm = None,
    tpm: options.ServerTpm = None,
    kind: options.Kind = "sliding",
    dialect: options.Dialect = "openai",
    auth: options.ServerAuth = "open",
    models: options.KnownModels = None,
    speed: options.Speed = 80.0,
    first_token: options.FirstTokenDelay = 0.3,
    seed: options.Seed = 0,
    faults: options.FaultRates = "",
) -> int:
    """Runs a fake LLM server with OpenAI's API until Ctrl-C. It generates random
    replies, enforces rate limits, and can inject faults.

      process simulate --rpm 60 --tpm 20000
      process simulate --faults "all=0.05"
      process simulate --faults "cut=0.1,error_500=0.02" --seed 7

    Then, in another terminal:

      process jobs.jsonl --base-url http://127.0.0.1:8000/v1 --out demo.jsonl
    """
    from processor.simulator import cli_server

    return cli_server.run(
        cli_server.parse_settings(
            rpm=rpm,
            tpm=tpm,
            kind=kind,
            dialect=dialect,
            auth=auth,
            models=models,
            speed_tps=speed,
            first_token_s=first_token,
            seed=seed,
            faults=faults,
        ),
        host,
        port,
        print_line=typer.echo,
    )


def main() -> NoReturn:
    """Runs the command line and exits. An error that the user can correct is printed as one line."""
    from processor.terminal.console import print_error

    _open_standard_streams()
    args = sys.argv[1:]
    try:
        # With standalone_mode off, typer returns what the command returns: the exit code.
        code = app(args or ["--help"], prog_name="process", standalone_mode=False) or 0
    except typer.TyperException as error:
        print_error(usage_message(error))
        code = exit_codes.NOTHING_SENT
    except ConfigError as error:
        print_error(str(error))
        code = exit_codes.NOTHING_SENT
    except KeyboardInterrupt:
        code = exit_codes.INTERRUPTED
    except Exception:  # noqa: BLE001
        sys.stderr.write(mask_text(traceback.format_exc()))
        print_error("internal error; please report the traceback above")
        code = exit_codes.INTERNAL_ERROR
    _flush_standard_streams()
    sys.exit(code if args else exit_codes.NOTHING_SENT)


def _open_standard_streams() -> None:
    """Opens closed standard streams on the null device: else a file opened later would get the number of one."""
    for number in (0, 1, 2):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDWR)
    sys.stdout = sys.stdout or open(1, "w", closefd=False)  # noqa: SIM115
    sys.stderr = sys.stderr or open(2, "w", closefd=False)  # noqa: SIM115


def _flush_standard_streams() -> None:
    """Writes what is still buffered. A stream that cannot be written any more becomes the null device: Python would
    fail to flush it at its end, and exit with code 120."""
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except OSError:
            os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())
