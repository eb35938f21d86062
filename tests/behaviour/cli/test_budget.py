"""``--max-cost`` as a user gives it."""

from __future__ import annotations

import json
import shlex
from collections.abc import Callable
from dataclasses import replace

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
    assert "--max-cost 0.0012" not in first.row("to resume"), "the same command would send nothing"
    assert "about what all jobs need" in first.err
    nothing = run_inside("jobs.jsonl", "--out", "r.jsonl", "--max-cost", "0.0012")
    assert (nothing.code, len(server.requests)) == (3, done)
    assert float(shlex.split(nothing.row("to resume"))[-1]) > 0.0012
    assert "the least with which another job is sent" in nothing.err
    rest = run_inside(*shlex.split(first.row("to resume"))[1:])
    assert rest.code == 0, "as much as all jobs need"
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


def test_job_from_stdin_without_a_price_becomes_a_failed_row(
    shell: Shell, run_inside: Run, start_server: StartServer
) -> None:
    server = start_server(INSTANT)
    shell.write("jobs.jsonl", *jobs(1), chat_job("other", model="my-model", max_tokens=5))
    lines = (shell.folder / "jobs.jsonl").read_bytes()
    result = run_inside("-", "--out", "r.jsonl", "--max-cost", "1", stdin=lines)
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


# ---------------------------------------------------------------- before the run


def priced(shell: Shell, run_inside: Run, start_server: StartServer) -> tuple[str, ...]:
    """Flags of an estimate whose replies are known, at a server with replies of all lengths."""
    start_server(replace(INSTANT, canned=False, reply_tokens=(5, 90)))
    shell.write("jobs.jsonl", *jobs(60))
    assert run_inside("jobs.jsonl", "--out", "like.jsonl", "--quiet").code == 0
    return "jobs.jsonl", "--like", "like.jsonl"


def test_estimate_names_what_a_run_then_costs_and_how_many_jobs_fit(
    shell: Shell, run_inside: Run, start_server: StartServer
) -> None:
    flags = priced(shell, run_inside, start_server)
    spent_usd = sum(row["cost_usd"] for row in shell.rows("like.jsonl"))
    found = json.loads(run_inside("estimate", *flags, "--max-cost", "0.01", "--json").out)
    assert found["cost_usd"]["expected"] == pytest.approx(spent_usd, rel=0.05)
    assert found["cost_usd"]["at_most"] == pytest.approx(60 * 0.001)
    assert found["cost_usd"]["at_most"] >= spent_usd
    assert found["models"][0]["cost_usd"] == found["cost_usd"]
    fit = found["budget"]
    assert (fit["left_usd"], fit["fit_at_least"]) == (0.01, 10)
    run = run_inside("jobs.jsonl", "--out", "r.jsonl", "--max-cost", "0.01")
    assert run.code == 3
    assert len(shell.rows("r.jsonl")) >= 10
    assert fit["fit_expected"] == pytest.approx(len(shell.rows("r.jsonl")), rel=0.2)
    after = json.loads(run_inside("estimate", *flags, "--out", "r.jsonl", "--max-cost", "0.01", "--json").out)
    left_usd = 0.01 - sum(row["cost_usd"] for row in shell.rows("r.jsonl"))
    assert after["budget"]["left_usd"] == pytest.approx(left_usd)
    assert after["budget"]["fit_expected"] == 0


def test_estimate_names_the_models_without_a_price(shell: Shell, run_inside: Run) -> None:
    shell.write("jobs.jsonl", *jobs(2), chat_job("other", model="my-model", max_tokens=5))
    shown = run_inside("estimate", "jobs.jsonl", "--base-url", "http://127.0.0.1:9/v1").out
    assert "0.0020 USD at most" in shown
    assert "without my-model: no price is known" in shown and '[prices."my-model"]' in shown
    limited = "estimate", "jobs.jsonl", "--base-url", "http://127.0.0.1:9/v1", "--max-cost", "1"
    assert "nothing is sent: --max-cost needs the price of my-model" in run_inside(*limited).out, "as a run says"
    budget = json.loads(run_inside(*limited, "--json").out)["budget"]
    assert (budget["fit_expected"], budget["fit_at_least"]) == (0, 0)
    assert budget["models_without_price"] == ["my-model"]
    alone = shell.write("alone.jsonl", chat_job("other", model="my-model", max_tokens=5))
    found = json.loads(run_inside("estimate", alone, "--base-url", "http://127.0.0.1:9/v1", "--json").out)
    assert found["cost_usd"] == {
        "expected": None,
        "at_most": None,
        "jobs_of_unknown_price": 1,
        "jobs_without_bound": 0,
    }


def test_rehearsal_plays_the_budget(shell: Shell, run_inside: Run, start_server: StartServer) -> None:
    flags = priced(shell, run_inside, start_server)
    played = json.loads(run_inside("rehearse", *flags, "--max-cost", "0.01", "--json").out)
    assert played["exit_code"] == 3
    assert "the budget of 0.01" in played["reason"]
    assert 0.009 < played["cost_usd"] <= 0.01
    whole = json.loads(run_inside("rehearse", *flags, "--json").out)
    spent_usd = sum(row["cost_usd"] for row in shell.rows("like.jsonl"))
    assert whole["cost_usd"] == pytest.approx(spent_usd, rel=0.1)
    nothing = run_inside("rehearse", shell.write("other.jsonl", chat_job("a", model="my-model")), "--max-cost", "1")
    assert (nothing.code, '[prices."my-model"]' in nothing.error) == (2, True)
