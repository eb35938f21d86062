from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

import processor

JOBS = '{"id": "a", "model": "m", "prompt": "hello"}\n{"id": "b", "model": "m", "prompt": "bye"}\n'


def plan(folder: Path) -> processor.Plan:
    jobs = folder / "jobs.jsonl"
    jobs.write_text(JOBS)
    return processor.Plan(
        jobs=str(jobs),
        out=str(folder / "results.jsonl"),
        settings=processor.Settings(),
        simulate=True,
        quiet=True,
    )


def test_a_program_runs_it_as_the_command_line_does(tmp_path: Path) -> None:
    assert processor.run(plan(tmp_path)) == 0
    assert (tmp_path / "results.jsonl").read_text().count("\n") == 2


def test_it_runs_inside_a_running_loop(tmp_path: Path) -> None:
    assert asyncio.run(processor.run_async(plan(tmp_path))) == 0
    assert (tmp_path / "results.jsonl").read_text().count("\n") == 2


def test_cancelled_inside_a_loop_it_leaves_whole_lines_and_an_unlocked_output(tmp_path: Path) -> None:
    async def cancelled_soon() -> None:
        async with asyncio.timeout(0.15):
            await processor.run_async(plan(tmp_path))

    with pytest.raises(TimeoutError):
        asyncio.run(cancelled_soon())
    assert processor.run(plan(tmp_path)) == 0
    assert (tmp_path / "results.jsonl").read_text().count("\n") == 2


def test_without_a_key_nothing_is_sent(tmp_path: Path) -> None:
    real = processor.Plan(jobs=plan(tmp_path).jobs, out="-", settings=processor.Settings())
    with pytest.raises(processor.ConfigError, match="no key: set OPENAI_API_KEY"):
        processor.run(real, environ={})


def test_there_is_nothing_else_to_import() -> None:
    with pytest.raises(AttributeError, match="no attribute 'walk'"):
        processor.walk  # noqa: B018
    for name in processor.__all__:
        assert getattr(processor, name).__name__ == name
