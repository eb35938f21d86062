"""What the commands share: settings from flags, and mistakes as one line that says what to do."""

from __future__ import annotations

import sys
from collections.abc import Collection, Mapping
from difflib import get_close_matches
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer
from typer.core import TyperGroup

from processor.core.errors import ConfigError

if TYPE_CHECKING:
    from processor.app.plan import Plan

READ_FILES_ONLY = ("estimate", "rehearse")
"""The commands that read the jobs more than once, or in parts."""
_EXTRA_ARGUMENTS = "Got unexpected extra argument"
_NUMBERS = {"is not a valid float": "is not a number", "is not a valid int": "is not a whole number"}
"""Words of the parser, and how to say them to a person."""


def usage_message(error: typer.TyperException) -> str:
    """The message for what the parser of the command line has found."""
    message = error.format_message().rstrip(".")
    context = getattr(error, "ctx", None)
    command = getattr(context, "command_path", "process")
    if message.startswith(_EXTRA_ARGUMENTS):
        extra = message.partition("(")[2].rpartition("(")[2].rstrip(")")
        message = f"{command} does not take {extra}: {_other_file(getattr(context, 'info_name', ''), extra)}"
    for words, plain_words in _NUMBERS.items():
        message = message.replace(words, plain_words)
    return f"{message[:1].lower()}{message[1:]}; see {command} --help"


def _other_file(command: str, extra: str) -> str:
    return f"to send a job file named {command}, write ./{command}; to send {extra}, `process {extra}`"


def check_job_file(jobs: str, commands: Collection[str]) -> None:
    """Raises ConfigError where the name of the job file is none, or is perhaps that of a command."""
    if not jobs:
        raise ConfigError("the name of the job file is empty: give a file, or - for stdin")
    path = Path(jobs)
    if jobs == "-" or path.exists():
        return
    if path.is_symlink():
        raise ConfigError(f"cannot read {jobs}: it is a link to a file that does not exist")
    if close := get_close_matches(jobs, commands, n=1):
        raise ConfigError(f"cannot read {jobs}: no such file, and no such command; did you mean process {close[0]}?")


def plan_of(context: typer.Context, environ: Mapping[str, str], **files: Path | None) -> Plan:
    """Return the plan that the flags of a command describe. Raises ConfigError.

    ``files``: the flags that are paths; the context has them as they were written.
    """
    from dataclasses import fields

    from processor.app.plan import Plan, default_out
    from processor.config.clock_times import next_occurrence
    from processor.config.settings_loading import load
    from processor.core.shards import parse_shard

    flags = context.params
    jobs, out, limit, config = (flags[name] for name in ("jobs", "out", "limit", "config"))
    if limit is not None and limit < 1:
        raise ConfigError(f"--limit must be at least 1, not {limit}")
    for path in jobs:
        check_job_file(path, _command_names(context))
    if out is not None and not out:
        raise ConfigError("--out is empty: give a file, or leave it out for the default name")
    given = {field.name: flags[field.name] for field in fields(Plan) if field.name in flags} | files
    if given.get("until") is not None:
        given["until"] = next_occurrence(given["until"])
    given["jobs"] = jobs[0] if len(jobs) == 1 else tuple(jobs)
    if flags.get("no_progress"):
        given["progress"] = "none"
    if context.info_name in READ_FILES_ONLY and "-" in jobs:
        raise ConfigError(f"{context.info_name} reads the jobs from a file only: save stdin to one")
    shard = None if flags.get("shard") is None else parse_shard(flags["shard"])
    given["shard"] = shard
    given["out"] = default_out(jobs, simulate=flags.get("simulate", False), shard=shard) if out is None else out
    settings = load(None if config is None else Path(config), _setting_flags(flags), environ)
    return Plan(**given, settings=settings, command=("process", *sys.argv[1:]))


def _command_names(context: typer.Context) -> list[str]:
    """The names of all commands of the program."""
    root = context.find_root()
    return root.command.list_commands(root) if isinstance(root.command, TyperGroup) else []


def _setting_flags(params: Mapping[str, Any]) -> dict[str, Any]:
    """The flags that override a setting of the same name."""
    from dataclasses import fields

    from processor.config.settings import Settings

    names = {"rpm", "tpm", "ray_address", "workers", *(setting.name for setting in fields(Settings))}
    return {name: value for name, value in params.items() if name in names}
