"""``process simulate``: runs a fake LLM server."""

from __future__ import annotations

import typer

from processor.cli import options


def simulate(
    port: options.Port = 8000,
    host: options.Host = "127.0.0.1",
    rpm: options.ServerRpm = None,
    tpm: options.ServerTpm = None,
    input_tpm: options.ServerInputTpm = None,
    output_tpm: options.ServerOutputTpm = None,
    kind: options.Kind = "sliding",
    dialect: options.Dialect = "openai",
    auth: options.ServerAuth = "open",
    models: options.KnownModels = None,
    speed: options.Speed = 80.0,
    first_token: options.FirstTokenDelay = 0.3,
    seed: options.Seed = 0,
    faults: options.FaultRates = "",
    batch_s: options.BatchSeconds = 20.0,
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
            input_tpm=input_tpm,
            output_tpm=output_tpm,
            kind=kind,
            dialect=dialect,
            auth=auth,
            models=models,
            speed_tps=speed,
            first_token_s=first_token,
            seed=seed,
            faults=faults,
            batch_s=batch_s,
        ),
        host,
        port,
        print_line=typer.echo,
    )
