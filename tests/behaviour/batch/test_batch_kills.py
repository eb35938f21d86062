"""Runs through the batch API that are killed at any step: one row each, and nothing is submitted twice."""

from __future__ import annotations

import asyncio
from random import Random

import pytest

from processor.batch.batch_run import BatchRun
from processor.batch.sizes import BatchLimits
from processor.config.batch_presets import BatchShape
from processor.core.models import JSON
from processor.simulator.fault_injecting_storage import Killed, StorageFault, fail_at_step
from tests.support.batch_world import BatchWorld
from tests.support.scheduler_world import short_job

CHAT = [short_job(number) for number in range(12)]
MESSAGES = [short_job(number, url="/v1/messages", max_tokens=9) for number in range(12)]
LIMITS = BatchLimits(jobs=5, bytes=1_000_000)
MAX_RUNS = 6


SHAPES: tuple[BatchShape, ...] = ("openai", "anthropic")
"""An API with files, and one without."""
FILE_SHAPES: tuple[BatchShape, ...] = ("mistral", "together")
"""Other APIs with files: what they do differently is in few steps."""


def jobs_for(world: BatchWorld) -> list[JSON]:
    return MESSAGES if world.shape == "anthropic" else CHAT


def steps_of_a_run(shape: BatchShape) -> int:
    world = BatchWorld(shape=shape)
    return world.run_batch(jobs_for(world), limits=LIMITS).steps


def run_to_the_end(world: BatchWorld, *, max_files_left: int = 0) -> None:
    """``max_files_left``: files that may stay at the provider, because the disk has forgotten them."""
    world.disk.release_locks()
    codes: list[int | None] = []
    while len(codes) < MAX_RUNS and (not codes or codes[-1] != 0):
        codes.append(world.run_batch(jobs_for(world), limits=LIMITS).exit_code)
    assert codes[-1] == 0, codes
    assert sorted(row["custom_id"] for row in world.rows()) == sorted(job["id"] for job in CHAT)
    assert world.failures() == []
    assert world.executed_more_than_once() == []
    assert world.left_files() == []
    assert world.journal() == []
    assert len(world.provider.batch_api.files.about) <= max_files_left


def kill_at_step(world: BatchWorld, step: int, part: float) -> None:
    fault = fail_at_step(step, StorageFault(Killed(), part))
    assert world.run_batch(jobs_for(world), limits=LIMITS, fault_plan=fault).exit_code is None


@pytest.mark.parametrize(("shape", "every"), [*((shape, 20) for shape in SHAPES), *((one, 40) for one in FILE_SHAPES)])
def test_kill_at_a_step_of_the_disk(shape: BatchShape, every: int) -> None:
    for step in range(1, steps_of_a_run(shape) + 1, every):
        world = BatchWorld(shape=shape)
        kill_at_step(world, step, part=(step % 3) / 2)
        run_to_the_end(world)


@pytest.mark.slow
@pytest.mark.parametrize(("shape", "every"), [*((shape, 1) for shape in SHAPES), *((one, 3) for one in FILE_SHAPES)])
def test_kill_at_each_step_of_the_disk(shape: BatchShape, every: int) -> None:
    for step in range(1, steps_of_a_run(shape) + 1, every):
        world = BatchWorld(shape=shape)
        kill_at_step(world, step, part=(step % 3) / 2)
        run_to_the_end(world)


@pytest.mark.slow
@pytest.mark.parametrize("shape", SHAPES)
def test_kills_at_any_time_with_creations_whose_answer_is_lost(shape: BatchShape) -> None:
    for seed in range(15):
        chance = Random(seed)
        world = BatchWorld(shape=shape, seed=seed, rates={"batch_lost_reply": 0.3})
        for _ in range(5):
            at = chance.uniform(0, 150)
            world.run_batch(jobs_for(world), limits=LIMITS, on_start=lambda run, at=at: kill_at(run, at))  # type: ignore[misc]
            world.disk.release_locks()
        run_to_the_end(world)


@pytest.mark.parametrize("shape", SHAPES)
def test_loss_of_power_at_a_step_of_the_disk(shape: BatchShape) -> None:
    steps = steps_of_a_run(shape)
    for seed in range(15):
        chance = Random(seed)
        world = BatchWorld(shape=shape, seed=seed)
        kill_at_step(world, chance.randint(1, steps), chance.random())
        world.disk.release_locks()
        world.disk.lose_power(chance)
        run_to_the_end(world, max_files_left=3)


@pytest.mark.slow
@pytest.mark.parametrize("shape", SHAPES)
def test_many_losses_of_power(shape: BatchShape) -> None:
    steps = steps_of_a_run(shape)
    for seed in range(15, 60):
        chance = Random(seed)
        world = BatchWorld(shape=shape, seed=seed)
        kill_at_step(world, chance.randint(1, steps), chance.random())
        world.disk.release_locks()
        world.disk.lose_power(chance)
        run_to_the_end(world, max_files_left=3)


def kill_at(run: BatchRun, at: float) -> None:
    asyncio.get_running_loop().call_at(at, _kill)


def _kill() -> None:
    raise Killed
