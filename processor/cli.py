"""The command line: flags → Plan → run → exit code. typer only; everything heavy is imported by the command itself."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated, Any, NoReturn

import typer
from typer.core import TyperGroup

from processor.errors import ConfigError

EXIT_USAGE = 2
EXIT_OUR_FAULT = 70

app = typer.Typer(
    name="process",
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    no_args_is_help=True,
)


class RunByDefault(TyperGroup):
    """``process jobs.jsonl`` means ``process run jobs.jsonl``: a first word that is no command's name is a job file."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        if args and args[0] not in self.commands and args[0] not in ("--help", "--version"):
            args = ["run", *args]
        return super().parse_args(ctx, args)


def _version(asked: bool) -> None:
    if asked:
        from importlib.metadata import version

        typer.echo(f"process {version('processor')}")
        raise typer.Exit


@app.callback(cls=RunByDefault)
def process(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Show the version.")
    ] = False,
) -> None:
    """Turn a file of LLM requests into a file of replies.

    process jobs.jsonl --out results.jsonl

    as fast as the rate limit allows, through any failure of the night, without losing or paying for a reply twice.
    The same command run again goes on where it stopped. Try it without a key: --simulate.
    """


Jobs = Annotated[str, typer.Argument(metavar="JOBS", help="The job file, one JSON object a line; - is stdin.")]


def _flag(*names: str, help: str, metavar: str | None = None, panel: str = "") -> Any:  # noqa: A002
    return typer.Option(*names, help=help, metavar=metavar, show_default=False)


@app.command()
def run(
    jobs: Jobs,
    out: Annotated[
        str | None,
        _flag(
            "--out",
            "-o",
            metavar="RESULTS",
            help="Where replies go; failures go beside it. - is stdout. [default: <JOBS stem>.results.jsonl]",
        ),
    ] = None,
    config: Annotated[
        Path | None,
        _flag("--config", metavar="FILE", help="Settings. [default: config.toml in this folder, if there is one]"),
    ] = None,
    provider: Annotated[
        str | None,
        _flag(
            "--provider",
            metavar="NAME",
            help="openai, azure, openrouter, ...: sets address, key variable and charging rule.",
        ),
    ] = None,
    base_url: Annotated[
        str | None,
        _flag("--base-url", metavar="URL", help="The server, ending in /v1. [default: OPENAI_BASE_URL, else OpenAI]"),
    ] = None,
    api_key_env: Annotated[
        str | None,
        _flag("--api-key-env", metavar="NAME", help="The variable that holds the key. [default: OPENAI_API_KEY]"),
    ] = None,
    endpoint: Annotated[
        str | None,
        _flag("--endpoint", metavar="PATH", help="For jobs without a url. [default: /v1/chat/completions]"),
    ] = None,
    model: Annotated[str | None, _flag("--model", metavar="NAME", help="For jobs that name none.")] = None,
    rpm: Annotated[
        float | None,
        _flag("--rpm", metavar="N", help="At most so many requests a minute. [default: what the server allows]"),
    ] = None,
    tpm: Annotated[
        float | None,
        _flag("--tpm", metavar="N", help="At most so many tokens a minute. [default: what the server allows]"),
    ] = None,
    concurrency: Annotated[
        int | None, _flag("--concurrency", metavar="N", help="At most so many requests in flight. [default: 64]")
    ] = None,
    max_attempts: Annotated[
        int | None,
        _flag("--max-attempts", metavar="N", help="Give a job up after so many failures of its own. [default: 6]"),
    ] = None,
    limit: Annotated[int | None, _flag("--limit", metavar="N", help="Only the first N jobs of the file.")] = None,
    retry_failed: Annotated[
        bool, _flag("--retry-failed", help="Send again also what failed by its own fault.")
    ] = False,
    changed: Annotated[
        str | None,
        _flag(
            "--changed",
            metavar="keep|resend",
            help="What to do with jobs edited since they were answered. [default: keep]",
        ),
    ] = None,
    simulate: Annotated[bool, _flag("--simulate", help="Let the built-in simulator answer: no key, no bill.")] = False,
    echo: Annotated[bool, _flag("--echo", help="Print replies as they stream, one job at a time.")] = False,
    grace: Annotated[
        float | None,
        _flag(
            "--grace", metavar="SECONDS", help="After Ctrl-C, let replies in flight finish for so long. [default: 30]"
        ),
    ] = None,
    allow_http: Annotated[
        bool | None, _flag("--allow-http", help="Send a key over plain http to another machine.")
    ] = None,
    ca_file: Annotated[
        str | None, _flag("--ca-file", metavar="FILE", help="Certificates to trust instead of the system's.")
    ] = None,
    log_file: Annotated[
        Path | None, _flag("--log-file", metavar="FILE", help="Append a JSON line for every attempt.")
    ] = None,
    summary_json: Annotated[
        Path | None, _flag("--summary-json", metavar="FILE", help="Write the summary as JSON.")
    ] = None,
    progress: Annotated[bool, typer.Option("--progress/--no-progress", help="Show how far the run is.")] = True,
    quiet: Annotated[bool, _flag("--quiet", "-q", help="Only errors.")] = False,
) -> None:
    """Send every job of JOBS and write its reply to RESULTS.

    Jobs are JSON objects, one a line, in any mix of three shapes:

      {"id": "a", "prompt": "Hi"}                      short
      {"model": "gpt-4o", "messages": [...]}           a bare request body
      {"custom_id": "a", "url": ..., "body": {...}}    OpenAI Batch

    Exit codes: 0 every job has its reply; 1 some have not, see RESULTS' errors file; 2 nothing was sent; 3 stopped early,
    run again to go on; 130 interrupted, run again to go on.
    """
    from processor.config import load
    from processor.session import Plan, default_out
    from processor.session import run as run_plan

    flags = {
        "provider": provider,
        "base_url": base_url,
        "api_key_env": api_key_env,
        "endpoint": endpoint,
        "model": model,
        "rpm": rpm,
        "tpm": tpm,
        "concurrency": concurrency,
        "max_attempts": max_attempts,
        "changed": changed,
        "grace_s": grace,
        "allow_http": allow_http,
        "ca_file": ca_file,
    }
    plan = Plan(
        jobs=jobs,
        out=out or default_out(jobs, simulate=simulate),
        settings=load(config, flags),
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
    raise typer.Exit(run_plan(plan))


def main() -> NoReturn:
    """Runs the command line and exits, with one line for whatever a person can have caused."""
    from processor.terminal.screen import complain

    try:
        app(standalone_mode=False)
        code = 0
    except typer.Exit as error:
        code = error.exit_code
    except ConfigError as error:
        complain(str(error))
        code = EXIT_USAGE
    sys.exit(code)
