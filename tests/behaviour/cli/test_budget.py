"""``--max-cost`` as a user gives it."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from processor.simulator.settings import INSTANT, SimulatorSettings
from tests.support.cli_world import ProgramResult, Server, Shell, chat_job

Run = Callable[..., ProgramResult]
StartServer = Callable[[SimulatorSettings], Server]

PRICES = '[prices."gpt-4o-mini"]\ninput = 0\noutput = 10\n'


def jobs(count: int) -> list[dict[str, object]]:
    return [chat_job(f"job-{number}", max_tokens=100) for number in range(count)]


@pytest.fixture(autouse=True)
def settings_file(shell: Shell) -> None:
    (shell.folder / "config.toml").write_text(PRICES)


def test_run_stops_at_the_first_job_that_does_not_fit_and_goes_on_with_a_larger_budget(
    shell: Shell, run_inside: Run, server: Server
) -> None:
    shell.write("jobs.jsonl", *jobs(30))
    first = run_inside("jobs.jsonl", "--out", "r.jsonl", "--max-cost", "0.0012")
    assert first.code == 3
    done = len(shell.rows("r.jsonl"))
    assert 2 <= done < 30
    spent_usd = sum(row["cost_usd"] for row in shell.rows("r.jsonl"))
    assert 0.0012 - 0.001 < spent_usd <= 0.0012
    assert "the budget of 0.0012" in first.row("stopped")
    assert "--max-cost" in first.row("to resume")
    nothing = run_inside("jobs.jsonl", "--out", "r.jsonl", "--max-cost", "0.0012")
    assert (nothing.code, len(server.requests)) == (3, done)
    rest = run_inside("jobs.jsonl", "--out", "r.jsonl", "--max-cost", "1")
    assert rest.code == 0
    assert len(shell.rows("r.jsonl")) == 30


def test_model_without_a_price_is_named_before_anything_is_sent(shell: Shell, run_inside: Run, server: Server) -> None:
    shell.write("jobs.jsonl", *jobs(1), chat_job("other", model="my-model", max_tokens=5))
    result = run_inside("jobs.jsonl", "--out", "r.jsonl", "--max-cost", "1")
    assert (result.code, len(server.requests)) == (2, 0)
    assert "'my-model'" in result.error and '[prices."my-model"]' in result.error
    assert not (shell.folder / "r.jsonl").exists()


def test_budget_needs_a_results_file(shell: Shell, run_inside: Run, server: Server) -> None:
    shell.write("jobs.jsonl", *jobs(1))
    result = run_inside("jobs.jsonl", "--out", "-", "--max-cost", "1")
    assert (result.code, len(server.requests)) == (2, 0)
    assert "--max-cost" in result.error and "--out FILE" in result.error


@pytest.mark.parametrize("value", ["-1", "nan", "much"])
def test_budget_must_be_an_amount(shell: Shell, run_inside: Run, server: Server, value: str) -> None:
    shell.write("jobs.jsonl", *jobs(1))
    result = run_inside("jobs.jsonl", "--out", "r.jsonl", "--max-cost", value)
    assert (result.code, len(server.requests)) == (2, 0)
    assert "--max-cost" in result.error


def test_lost_sums_are_named(shell: Shell, run_inside: Run, server: Server) -> None:
    shell.write("jobs.jsonl", *jobs(2))
    assert run_inside("jobs.jsonl", "--out", "r.jsonl").code == 0
    (shell.folder / "r.jsonl.state").unlink()
    again = run_inside("jobs.jsonl", "--out", "r.jsonl", "--max-cost", "1")
    assert again.code == 0
    assert "the state file is gone" in again.err


@pytest.mark.process
def test_job_from_stdin_without_a_price_becomes_a_failed_row(shell: Shell, start_server: StartServer) -> None:
    server = start_server(INSTANT)
    shell.write("jobs.jsonl", *jobs(1), chat_job("other", model="my-model", max_tokens=5))
    lines = (shell.folder / "jobs.jsonl").read_bytes()
    result = shell("-", "--out", "r.jsonl", "--max-cost", "1", stdin=lines)
    assert (result.code, len(server.requests)) == (1, 1), result.err
    assert [row["error"]["code"] for row in shell.rows("r.errors.jsonl")] == ["unknown_cost"]


def test_endpoint_without_a_price_takes_no_part(shell: Shell, start_server: StartServer, run_inside: Run) -> None:
    priced, unpriced = start_server(INSTANT), start_server(INSTANT)
    del shell.environ["OPENAI_BASE_URL"]
    (shell.folder / "config.toml").write_text(
        f'[[endpoints]]\nname = "priced"\nbase_url = "{priced.base_url}"\n'
        f'[[endpoints]]\nname = "unpriced"\nbase_url = "{unpriced.base_url}"\nmodels = {{ "gpt-4o-mini" = "b" }}\n'
        + PRICES
    )
    shell.write("jobs.jsonl", *jobs(6))
    result = run_inside("jobs.jsonl", "--out", "r.jsonl", "--max-cost", "1")
    assert result.code == 0, result.err
    assert (len(priced.requests), len(unpriced.requests)) == (6, 0)
    assert result.err.count("unpriced takes no part in this run") == 1
