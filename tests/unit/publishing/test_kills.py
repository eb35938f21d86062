"""Runs that are killed behind each step of publishing, and gone on with on the same machine or on an empty one."""

from __future__ import annotations

from pathlib import Path

import pytest

from processor.core.models import Result
from processor.simulator.virtual_clock import run
from tests.support.published_world import Kill, Machine, MemoryStore
from tests.support.results_samples import failure, invalid_line, reply

NIGHTS: tuple[tuple[Result, ...], ...] = (
    (reply("a"), failure("f"), invalid_line(3), reply("b"), failure("g"), reply("c")),
    (reply("a", request="other"), reply("f"), reply("b"), failure("g"), reply("c"), reply("d")),
)
"""In the second one the invalid line was corrected, a failed job gets its reply, and an edited job is sent again: both
files lose rows."""
EXPECTED = ["+a", "+b", "+c", "+d", "+f", "-g"]


def play(folder: Path, kill: Kill, *, resume_elsewhere: bool, night: int) -> MemoryStore:
    """Play all nights, one of them killed, and each on the machine that the last one ended on."""
    store = MemoryStore()
    machine = Machine(folder / "a", store)
    for number, answers in enumerate(NIGHTS):
        if number == night and machine.run_killed(answers, kill) and resume_elsewhere:
            store.expire_leases()
            machine = Machine(folder / "b", store)
        run(machine.run(answers))
    return store


@pytest.mark.parametrize("resume_elsewhere", [False, True], ids=["same machine", "empty machine"])
@pytest.mark.parametrize("night", range(len(NIGHTS)))
def test_run_that_is_killed_at_any_step_leaves_one_row_for_each_job(
    tmp_path: Path, night: int, resume_elsewhere: bool
) -> None:
    count = Kill()
    play(tmp_path / "count", count, resume_elsewhere=False, night=night)
    assert len(count.operations) > 8
    for at in range(len(count.operations)):
        kill = Kill(at)
        folder = tmp_path / str(at)
        store = play(folder, kill, resume_elsewhere=resume_elsewhere, night=night)
        assert kill.frozen is not None
        run(Machine(folder / "a", store).run(NIGHTS[-1]))  # a machine that was killed finds the parts of the other
        for machine in ("reader", "a"):
            assert Machine(folder / machine, store).exported() == EXPECTED, (at, kill.operations[-1])


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
