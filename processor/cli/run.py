"""``process run``: sends every job of a file."""

import os

import typer

from processor.cli import options
from processor.cli.results import WorkDir
from processor.cli.usage import plan_of
from processor.core.gc_pause import resume_gc

EXIT_CODES = """
Exit codes:
  0    every job has its reply
  1    some jobs have none: see the errors file
  2    nothing was sent: wrong usage or settings, no key, no input, no output
  3    stopped early (key, quota, outage, disk): run again to resume
  70   internal error
  130  interrupted: run again to resume
"""


# Annotations are objects here and not strings: typer would compile each of them again at every start.
def run(
    ctx: typer.Context,
    jobs: options.Jobs,
    out: options.Out = None,
    work_dir: WorkDir = None,
    template: options.TemplateFile = None,
    config: options.Config = None,
    log_file: options.LogFile = None,
    summary_json: options.SummaryJson = None,
    metrics_file: options.MetricsFile = None,
    report: options.Report = None,
    like: options.Like = None,
    base_url: options.BaseUrl = None,
    provider: options.ProviderName = None,
    local: options.Local = None,
    api_key_env: options.ApiKeyEnv = None,
    endpoint: options.Endpoint = None,
    model: options.ModelName = None,
    fallback: options.Fallback = None,
    ca_file: options.CaFile = None,
    allow_http: options.AllowHttp = None,
    stream: options.Stream = None,
    rpm: options.Rpm = None,
    tpm: options.Tpm = None,
    concurrency: options.Concurrency = None,
    max_attempts: options.MaxAttempts = None,
    grace_s: options.Grace = None,
    validate: options.Validate = None,
    strip_fences: options.StripFences = None,
    max_cost_usd: options.MaxCost = None,
    until: options.Until = None,
    limit: options.Limit = None,
    shard: options.Shard = None,
    order: options.Order = "file",
    retry_failed: options.RetryFailed = False,
    changed: options.Changed = None,
    in_batches: options.InBatches = False,
    detach: options.Detach = False,
    stream_after: options.StreamAfter = None,
    ray_address: options.RayAddress = None,
    workers: options.Workers = None,
    simulate: options.Simulate = False,
    echo: options.Echo = False,
    progress: options.Progress = "auto",
    no_progress: options.NoProgress = False,
    quiet: options.Quiet = False,
) -> int:
    """Sends every job of JOBS and writes its reply to RESULTS. The word "run" may
    be omitted. After a stop, run the same command again to resume.

    JOBS has one JSON object per line, in any of three formats; - is stdin. There
    may be several files, and compressed ones (gzip, zstd):

      {"prompt": "Hi", "model": "gpt-4o-mini"}
      {"messages": [{"role": "user", ...}], "model": "gpt-4o-mini"}
      {"custom_id": "a", "url": "/v1/chat/completions", "body": {...}}

    A table (.csv, .tsv, .parquet) needs a --template, a job with {column} in it.

    RESULTS gets one line per reply, as soon as it is complete; - is stdout.
    Failures go to <RESULTS stem>.errors.jsonl in the same folder.

      process jobs.jsonl --out results.jsonl
      process may.jsonl june.jsonl.gz --out results.jsonl
      process jobs.jsonl --out s3://bucket/results.jsonl
      process jobs.jsonl --simulate                      no key, no cost
      process jobs.jsonl --local model.gguf              a model on this machine
      process jobs.jsonl --echo --limit 3                try a prompt
      process jobs.jsonl --rpm 500 --tpm 200000          set limits
      process jobs.jsonl --base-url https://host/v1      use another server
      process jobs.jsonl --batch                         half price, in hours
      generate | process - --out - --quiet | consume     use in a pipe
    """
    from processor.app.run import run as run_plan
    from processor.config.environment import environment

    environ = os.environ if simulate else environment(os.environ)  # the simulator needs no key
    files = {"log_file": log_file, "summary_json": summary_json, "metrics_file": metrics_file, "report": report}
    plan = plan_of(ctx, environ, like=like, work_dir=work_dir, **files)
    if stream_after is not None:
        from dataclasses import replace

        from processor.config.clock_times import next_occurrence

        plan = replace(plan, stream_after=next_occurrence(stream_after))
    resume_gc()
    return run_plan(plan, environ)
