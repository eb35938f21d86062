"""The options of the command line. The help names the defaults; ``config.settings`` defines them."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal

import typer

_FILES = "Files"
_ENDPOINT = "Endpoint"
_LIMITS_AND_RETRIES = "Limits and retries"
_OUTPUT = "Structured output"
_SELECTION = "Selection of jobs"
_BATCHES = "Batches"
_CLUSTER = "Several cores and machines"
_TRIAL = "Trial runs"
_DISPLAY = "Display"
_LIMITS = "Rate limits"
_REPLIES = "Replies"
_ADDRESS = "Address and key"


def option(heading: str, *names: str, metavar: str | None = None, text: str, **more: Any) -> Any:
    return typer.Option(*names, metavar=metavar, help=text, show_default=False, rich_help_panel=heading, **more)


def number_or_word(text: str) -> int | str:
    """A whole number, or the text itself: ``config.setting_values`` checks which words it knows."""
    try:
        return int(text)
    except ValueError:
        return text


# ---------------------------------------------------------------- run

Jobs = Annotated[list[str], typer.Argument(metavar="JOBS", hidden=True)]
TemplateFile = Annotated[
    str | None,
    option(_FILES, "--template", metavar="FILE", text="For tables: a job (JSON) with {column} in its texts."),
]
Out = Annotated[
    str | None,
    option(
        _FILES,
        "--out",
        "-o",
        metavar="RESULTS",
        text="Results file or s3:// address. [default: <JOBS stem>.results.jsonl]",
    ),
]
Config = Annotated[
    Path | None,
    option(_FILES, "--config", metavar="FILE", text="Settings file. [default: config.toml, if it exists]"),
]
LogFile = Annotated[Path | None, option(_FILES, "--log-file", metavar="FILE", text="Append each event as a JSON line.")]
SummaryJson = Annotated[
    Path | None, option(_FILES, "--summary-json", metavar="FILE", text="Also write the summary as JSON.")
]
MetricsFile = Annotated[
    Path | None,
    option(_FILES, "--metrics-file", metavar="FILE", text="Write the run's numbers for Prometheus every 15 s."),
]
Report = Annotated[
    Path | None, option(_FILES, "--report", metavar="FILE", text="Write a page about RESULTS at the end (HTML).")
]

BaseUrl = Annotated[
    str | None,
    option(_ENDPOINT, "--base-url", metavar="URL", text="Base URL, ends in /v1. [default: OPENAI_BASE_URL or OpenAI]"),
]
ProviderName = Annotated[
    str | None,
    option(_ENDPOINT, "--provider", metavar="NAME", text="Preset: openai, anthropic, azure, ollama, ..."),
]
Local = Annotated[
    str | None,
    option(_ENDPOINT, "--local", metavar="FILE", text="Serve this model (GGUF) here: no account, no cost."),
]
ApiKeyEnv = Annotated[
    str | None,
    option(_ENDPOINT, "--api-key-env", metavar="NAME", text="Variable with the API key. [default: OPENAI_API_KEY]"),
]
Endpoint = Annotated[
    str | None,
    option(_ENDPOINT, "--endpoint", metavar="PATH", text="API path of jobs without url. [default: the provider's]"),
]
ModelName = Annotated[str | None, option(_ENDPOINT, "--model", metavar="NAME", text="Model of jobs that name none.")]
Fallback = Annotated[
    bool | None,
    option(_ENDPOINT, "--fallback", text="Prefer [[endpoints]] in their order; use the next where one has no room."),
]
CaFile = Annotated[
    str | None, option(_ENDPOINT, "--ca-file", metavar="FILE", text="CA certificates to trust beside the system's.")
]
AllowHttp = Annotated[
    bool | None, option(_ENDPOINT, "--allow-http", text="Allow sending a key over http to another machine.")
]
Stream = Annotated[
    bool | None,
    option(_ENDPOINT, "--stream/--no-stream", text="Ask for streams, or for whole replies. [default: stream]"),
]

Rpm = Annotated[
    float | None,
    option(_LIMITS_AND_RETRIES, "--rpm", metavar="N", text="Max. requests per minute. [default: the server's limit]"),
]
Tpm = Annotated[
    float | None,
    option(_LIMITS_AND_RETRIES, "--tpm", metavar="N", text="Max. tokens per minute. [default: the server's limit]"),
]
Concurrency = Annotated[
    str | None,
    option(
        _LIMITS_AND_RETRIES,
        "--concurrency",
        metavar="N|auto",
        text="Requests in flight; auto finds the number. [default: auto]",
        parser=number_or_word,
    ),
]
MaxAttempts = Annotated[
    int | None,
    option(
        _LIMITS_AND_RETRIES,
        "--max-attempts",
        metavar="N",
        text="Failed attempts before a job is given up. [default: 6]",
    ),
]
Grace = Annotated[
    float | None,
    option(
        _LIMITS_AND_RETRIES, "--grace", metavar="SECONDS", text="Time to finish requests after Ctrl-C. [default: 30]"
    ),
]

Validate = Annotated[
    str | None,
    option(
        _OUTPUT,
        "--validate",
        metavar="FILE|job",
        text="JSON Schema that replies must match, or job: that in each request. Others are asked again.",
    ),
]
StripFences = Annotated[
    bool | None, option(_OUTPUT, "--strip-fences", text="Ignore a Markdown code fence around a reply.")
]
Until = Annotated[
    str | None,
    option(
        _LIMITS_AND_RETRIES,
        "--until",
        metavar="HH:MM",
        text="Send nothing whose reply would come later (local time, its next occurrence).",
    ),
]
Like = Annotated[
    Path | None,
    option(_FILES, "--like", metavar="RESULTS", text="Learn from these how replies will be. [default: those of --out]"),
]
MaxCost = Annotated[
    float | None,
    option(_LIMITS_AND_RETRIES, "--max-cost", metavar="USD", text="Most that all runs on RESULTS may cost together."),
]

Limit = Annotated[
    int | None, option(_SELECTION, "--limit", metavar="N", text="Process only the first N jobs of the file.")
]
Shard = Annotated[
    str | None,
    option(_SELECTION, "--shard", metavar="K/N", text="Process only part K of N, for several machines or processes."),
]
Order = Annotated[
    Literal["file", "shortest", "longest"],
    option(
        _SELECTION,
        "--order",
        metavar="file|shortest|longest",
        text="Send the shortest or the longest jobs first. [default: file]",
    ),
]
RetryFailed = Annotated[bool, option(_SELECTION, "--retry-failed", text="Also retry permanent failures.")]
Changed = Annotated[
    Literal["keep", "resend"] | None,
    option(
        _SELECTION,
        "--changed",
        metavar="keep|resend",
        text="Jobs edited, or answered by another model: keep the reply, or send again. [default: keep]",
    ),
]

RayAddress = Annotated[
    str | None,
    option(
        _CLUSTER,
        "--ray",
        metavar="local|auto|HOST:PORT",
        text="Send from workers in a Ray cluster: one started here, the one that runs here, or that of a head node.",
    ),
]
Workers = Annotated[
    int | None, option(_CLUSTER, "--workers", metavar="N", text="Number of workers. [default: one for each CPU]")
]

Simulate = Annotated[bool, option(_TRIAL, "--simulate", text="Use the built-in simulator: no key, no cost.")]
InBatches = Annotated[
    bool, option(_BATCHES, "--batch", text="Send the jobs through the provider's batch API: hours, at half the price.")
]
Detach = Annotated[
    bool, option(_BATCHES, "--detach", text="End once all is submitted (exit 3); the same command goes on later.")
]
StreamAfter = Annotated[
    str | None,
    option(_BATCHES, "--stream-after", metavar="HH:MM", text="Cancel the batches then, and stream what is left."),
]

Echo = Annotated[bool, option(_TRIAL, "--echo", text="Print replies as they stream, one job at a time.")]

Progress = Annotated[
    Literal["auto", "panel", "line", "log", "none"],
    option(
        _DISPLAY,
        "--progress",
        metavar="KIND",
        text="panel, line, log, none, or auto: a panel on a terminal, else a log. [default: auto]",
    ),
]
NoProgress = Annotated[bool, option(_DISPLAY, "--no-progress", text="The same as --progress none.")]
Quiet = Annotated[bool, option(_DISPLAY, "--quiet", "-q", text="Print errors and warnings only.")]

# ---------------------------------------------------------------- simulate

Port = Annotated[
    int,
    option(_ADDRESS, "--port", metavar="N", text="Port to listen on; 0: any free port. [default: 8000]"),
]
Host = Annotated[
    str, option(_ADDRESS, "--host", metavar="ADDRESS", text="Loopback address to listen on. [default: 127.0.0.1]")
]
ServerRpm = Annotated[int | None, option(_LIMITS, "--rpm", metavar="N", text="Requests per minute. [default: none]")]
ServerTpm = Annotated[int | None, option(_LIMITS, "--tpm", metavar="N", text="Tokens per minute. [default: none]")]
ServerInputTpm = Annotated[
    int | None, option(_LIMITS, "--input-tpm", metavar="N", text="Tokens of prompts per minute. [default: none]")
]
ServerOutputTpm = Annotated[
    int | None, option(_LIMITS, "--output-tpm", metavar="N", text="Tokens of replies per minute. [default: none]")
]
Kind = Annotated[
    Literal["sliding", "minute", "second", "quantised", "silent"],
    option(
        _LIMITS,
        "--kind",
        metavar="KIND",
        text="How limits are enforced: sliding, minute, second, quantised, silent. [default: sliding]",
    ),
]
Dialect = Annotated[
    Literal["openai", "azure", "anthropic", "none"],
    option(
        _LIMITS,
        "--dialect",
        metavar="NAME",
        text="Style of rate-limit headers: openai, azure, anthropic, none. [default: openai]",
    ),
]
ServerAuth = Annotated[
    Literal["open", "required", "refused"],
    option(
        _ADDRESS,
        "--auth",
        metavar="KIND",
        text="API keys: open (not checked), required, or refused (401 to all). [default: open]",
    ),
]
KnownModels = Annotated[
    str | None,
    option(_REPLIES, "--models", metavar="NAMES", text='Models that exist, e.g. "gpt-5,gpt-4o". [default: all]'),
]
Speed = Annotated[
    float, option(_REPLIES, "--speed", metavar="N", text="Tokens per second of each reply. [default: 80]")
]
FirstTokenDelay = Annotated[
    float, option(_REPLIES, "--first-token", metavar="SECONDS", text="Time to first token. [default: 0.3]")
]
Seed = Annotated[int, option(_REPLIES, "--seed", metavar="N", text="Seed of replies and faults. [default: 0]")]
FaultRates = Annotated[
    str,
    option(_REPLIES, "--faults", metavar="RATES", text='Fault rates, e.g. "all=0.05" or "cut=0.1,crlf=1".'),
]
BatchSeconds = Annotated[
    float, option(_REPLIES, "--batch-seconds", metavar="SECONDS", text="Time that a batch takes. [default: 20]")
]
