"""The options of the command line. Defaults are named in the help, but they stand in ``config.Settings``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal

import typer

_FILES = "Files"
_SERVER = "Server"
_PACE = "Pace"
_WHICH = "Which jobs"
_TRYING = "Trying out"
_SHOWN = "What is shown"
_LIMITS = "Its limits"
_REPLIES = "Its replies"
_PLACE = "Its place"


def _option(heading: str, *names: str, metavar: str | None = None, text: str, **more: Any) -> Any:
    return typer.Option(*names, metavar=metavar, help=text, show_default=False, rich_help_panel=heading, **more)


# ---------------------------------------------------------------- run

Jobs = Annotated[str, typer.Argument(metavar="JOBS", hidden=True)]
Out = Annotated[
    str | None,
    _option(_FILES, "--out", "-o", metavar="RESULTS", text="Where replies go. [default: <JOBS stem>.results.jsonl]"),
]
Config = Annotated[
    Path | None,
    _option(_FILES, "--config", metavar="FILE", text="Settings. [default: config.toml, if there is one here]"),
]
LogFile = Annotated[
    Path | None, _option(_FILES, "--log-file", metavar="FILE", text="Append a JSON line for every attempt.")
]
SummaryJson = Annotated[
    Path | None, _option(_FILES, "--summary-json", metavar="FILE", text="Write the summary as JSON, too.")
]

BaseUrl = Annotated[
    str | None,
    _option(
        _SERVER, "--base-url", metavar="URL", text="Its address, ending in /v1. [default: OPENAI_BASE_URL, else OpenAI]"
    ),
]
ProviderName = Annotated[
    str | None,
    _option(_SERVER, "--provider", metavar="NAME", text="openai, azure, groq, openrouter, ...: address and key."),
]
ApiKeyEnv = Annotated[
    str | None,
    _option(_SERVER, "--api-key-env", metavar="NAME", text="Variable that holds the key. [default: OPENAI_API_KEY]"),
]
Endpoint = Annotated[
    str | None,
    _option(_SERVER, "--endpoint", metavar="PATH", text="For jobs without a url. [default: /v1/chat/completions]"),
]
ModelName = Annotated[str | None, _option(_SERVER, "--model", metavar="NAME", text="For jobs that name none.")]
CaFile = Annotated[
    str | None, _option(_SERVER, "--ca-file", metavar="FILE", text="Certificates to trust instead of the system's.")
]
AllowHttp = Annotated[bool | None, _option(_SERVER, "--allow-http", text="Send a key unencrypted to another machine.")]

Rpm = Annotated[
    float | None,
    _option(_PACE, "--rpm", metavar="N", text="Requests a minute, at most. [default: the server's]"),
]
Tpm = Annotated[
    float | None,
    _option(_PACE, "--tpm", metavar="N", text="Tokens a minute, at most. [default: the server's]"),
]
Concurrency = Annotated[
    int | None, _option(_PACE, "--concurrency", metavar="N", text="Requests in flight, at most. [default: found out]")
]
MaxAttempts = Annotated[
    int | None,
    _option(_PACE, "--max-attempts", metavar="N", text="Give a job up after N failures of its own. [default: 6]"),
]
Grace = Annotated[
    float | None,
    _option(_PACE, "--grace", metavar="SECONDS", text="After Ctrl-C, let replies in flight finish. [default: 30]"),
]

Limit = Annotated[int | None, _option(_WHICH, "--limit", metavar="N", text="Only the first N jobs of the file.")]
RetryFailed = Annotated[bool, _option(_WHICH, "--retry-failed", text="Send again also what failed by its own fault.")]
Changed = Annotated[
    Literal["keep", "resend"] | None,
    _option(
        _WHICH,
        "--changed",
        metavar="keep|resend",
        text="Jobs edited since their reply came: keep it, or ask anew. [default: keep]",
    ),
]

Simulate = Annotated[bool, _option(_TRYING, "--simulate", text="The built-in simulator answers: no key, no bill.")]
Echo = Annotated[bool, _option(_TRYING, "--echo", text="Print replies as they stream, one job at a time.")]

Progress = Annotated[bool, _option(_SHOWN, "--progress/--no-progress", text="Show how far the run is.")]
Quiet = Annotated[bool, _option(_SHOWN, "--quiet", "-q", text="Only errors.")]

# ---------------------------------------------------------------- simulate

Port = Annotated[
    int,
    _option(_PLACE, "--port", metavar="N", text="Where it listens; 0: any free port. [default: 8000]"),
]
Host = Annotated[str, _option(_PLACE, "--host", metavar="ADDRESS", text="A loopback address. [default: 127.0.0.1]")]
ServerRpm = Annotated[int | None, _option(_LIMITS, "--rpm", metavar="N", text="Requests a minute. [default: none]")]
ServerTpm = Annotated[int | None, _option(_LIMITS, "--tpm", metavar="N", text="Tokens a minute. [default: none]")]
Kind = Annotated[
    Literal["sliding", "minute", "second", "quantised", "silent"],
    _option(
        _LIMITS,
        "--kind",
        metavar="KIND",
        text="How limits are enforced: sliding, minute, second, quantised or silent. [default: sliding]",
    ),
]
Dialect = Annotated[
    Literal["openai", "azure", "anthropic", "none"],
    _option(
        _LIMITS,
        "--dialect",
        metavar="NAME",
        text="How headers tell them: as openai, azure, anthropic or none does. [default: openai]",
    ),
]
ServerAuth = Annotated[
    Literal["open", "required", "refused"],
    _option(
        _PLACE,
        "--auth",
        metavar="KIND",
        text="Keys: open to all, required of all, or refused whatever they are. [default: open]",
    ),
]
KnownModels = Annotated[
    str | None,
    _option(_REPLIES, "--models", metavar="NAMES", text='Known models, e.g. "gpt-5,gpt-4o". [default: all]'),
]
Speed = Annotated[
    float, _option(_REPLIES, "--speed", metavar="N", text="Tokens a second, for each reply. [default: 80]")
]
FirstToken = Annotated[
    float, _option(_REPLIES, "--first-token", metavar="SECONDS", text="Until a reply begins. [default: 0.3]")
]
Seed = Annotated[int, _option(_REPLIES, "--seed", metavar="N", text="Another seed says other things. [default: 0]")]
FaultRates = Annotated[
    str,
    _option(
        _REPLIES, "--faults", metavar="RATES", text='What goes wrong, and how often: "all=0.05", "cut=0.1,crlf=1".'
    ),
]
