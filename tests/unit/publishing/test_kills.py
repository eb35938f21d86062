"""Runs that are killed behind each step of publishing, and gone on with on the same machine or on an empty one."""

from __future__ import annotations

from pathlib import Path

import pytest

from processor.simulator.virtual_clock import run
from tests.support.published_world import EXPECTED, NIGHTS, Kill, Machine, MemoryStore, play_with_a_kill_at_each_step
from tests.support.results_samples import reply

pytestmark = pytest.mark.sampled


@pytest.mark.parametrize("resume_elsewhere", [False, True], ids=["same machine", "empty machine"])
@pytest.mark.parametrize("night", range(len(NIGHTS)))
def test_run_that_is_killed_at_any_step_leaves_one_row_for_each_job(
    tmp_path: Path, night: int, resume_elsewhere: bool
) -> None:
    steps = play_with_a_kill_at_each_step(tmp_path, MemoryStore, resume_elsewhere=resume_elsewhere, night=night)
    assert steps > 15


def test_part_whose_creation_was_not_recorded_is_not_published_again(tmp_path: Path) -> None:
    count, answers = Kill(), [reply(name) for name in "abcd"]
    assert not Machine(tmp_path / "count", MemoryStore()).run_killed(answers, count)
    for at in [at for at, name in enumerate(count.operations) if name.startswith("create ")]:
        store = MemoryStore()
        machine = Machine(tmp_path / str(at), store)
        assert machine.run_killed(answers, Kill(at))
        run(machine.run(answers))
        rows = [row for name in store.parts() for row in store.objects[name].splitlines()]
        assert len(rows) == len(set(rows)), count.operations[at]


def test_rows_that_were_not_published_at_a_kill_are_kept_behind_those_of_another_machine(tmp_path: Path) -> None:
    store = MemoryStore()
    first, second = Machine(tmp_path / "a", store), Machine(tmp_path / "b", store)
    count = Kill()
    Machine(tmp_path / "count", MemoryStore()).run_killed([reply(name) for name in "abc"], count)
    last_row = max(at for at, name in enumerate(count.operations) if name == "row")
    assert first.run_killed([reply(name) for name in "abc"], Kill(last_row))
    store.expire_leases()
    run(second.run([reply("d"), reply("e")]))
    run(first.run([reply(name) for name in "abcde"]))
    assert (first.sent, second.sent) == (["a", "b", "c"], ["d", "e"])
    assert second.exported() == ["+a", "+b", "+c", "+d", "+e"]


def test_errors_that_another_machine_has_dropped_are_dropped_here(tmp_path: Path) -> None:
    store = MemoryStore()
    first = Machine(tmp_path / "a", store)
    run(first.run(NIGHTS[0]))
    run(Machine(tmp_path / "b", store).run(NIGHTS[1]))
    assert first.exported() == EXPECTED


def test_local_files_that_have_lost_published_rows_are_rebuilt(tmp_path: Path) -> None:
    store = MemoryStore()
    machine = Machine(tmp_path / "a", store)
    run(machine.run(NIGHTS[0]))
    paths = machine.work_folder.paths
    whole = paths.replies.read_bytes()
    paths.replies.write_bytes(whole[: len(whole) // 2])
    paths.failures.unlink()
    run(machine.run(NIGHTS[1]))
    assert machine.exported() == EXPECTED
    assert set(whole.splitlines()[1:]) <= set(paths.replies.read_bytes().splitlines()), "no job was sent again"
