"""Results published to servers of object stores: kills, an empty machine, and two machines at once.

Runs where moto (the extra ``objects``) and azurite (npm) are installed.
"""

from __future__ import annotations

import json
import signal
import time
from collections import Counter
from collections.abc import Iterator
from itertools import count
from pathlib import Path

import pytest

from processor.remote.object_folder import RemoteFolder
from tests.support.cli_world import Shell, chat_job
from tests.support.object_stores import ObjectStore, azurite_server, moto_server
from tests.support.published_world import WatchedFolder, play_with_a_kill_at_each_step

pytestmark = [pytest.mark.slow, pytest.mark.process, pytest.mark.filterwarnings("ignore")]
SERVERS = {"moto": moto_server, "azurite": azurite_server}
JOBS = 90
LEASE_S = 2.0


@pytest.fixture(scope="module", params=SERVERS)
def server(request: pytest.FixtureRequest) -> Iterator[ObjectStore]:
    with SERVERS[request.param]() as server:
        yield server


@pytest.fixture
def shell(tmp_path: Path, server: ObjectStore) -> Iterator[Shell]:
    shell = Shell(tmp_path)
    shell.environ |= server.environ | {"PYTHONWARNINGS": "ignore"}
    (tmp_path / "config.toml").write_text(f"[output]\npublish_interval_s = 0.3\nlease_s = {LEASE_S}\n")
    (tmp_path / "jobs.jsonl").write_text("".join(json.dumps(chat_job(f"job-{at}")) + "\n" for at in range(JOBS)))
    yield shell
    shell.close()


def wait_for_parts(folder: RemoteFolder, at_least: int) -> int:
    """Wait until the folder has so many parts; return how many it has."""
    for _ in range(600):
        parts = sum(name.startswith("part-") for name in folder.list())
        if parts >= at_least:
            return parts
        time.sleep(0.05)
    raise TimeoutError("nothing was published")


def test_killed_run_is_gone_on_with_here_and_on_an_empty_machine(shell: Shell, server: ObjectStore) -> None:
    address = server.address("results/r.jsonl")
    folder = RemoteFolder(address)
    words = ("jobs.jsonl", "--out", address, "--simulate")

    def be(machine: str) -> None:
        """Run the program on this machine from now on: with its own cache folder."""
        shell.environ["XDG_CACHE_HOME"] = str(shell.folder / machine)

    parts = 0
    for _ in range(2):
        be("first")
        running = shell.start(*words, "--concurrency", "1")
        parts = wait_for_parts(folder, parts + 2)
        if parts < 5:
            be("second")
            refused = shell(*words)
            assert (refused.code, f"is writing to {address}: wait for its run to end" in refused.err) == (2, True)
        running.send_signal(signal.SIGKILL)
        shell.end(running)
    time.sleep(LEASE_S)  # the lease expires on the clock of the machine
    be("second")
    second = shell(*words)
    assert second.code == 0, second.err
    assert "has ended without a word" in second.err
    be("first")
    first = shell(*words)
    assert (first.code, first.row("done")) == (0, f"{JOBS} of {JOBS} jobs (none in this run, {JOBS} in earlier runs)")
    be("reader")
    exported = shell("export", address, "--out", "all.jsonl")
    assert (exported.code, exported.out) == (0, f"all.jsonl: {JOBS} rows\n")
    ids = Counter(row["custom_id"] for row in shell.rows("all.jsonl"))
    assert ids == Counter(f"job-{at}" for at in range(JOBS))


def test_kill_behind_each_created_object_leaves_one_row_for_each_job(server: ObjectStore, tmp_path: Path) -> None:
    """``tests/unit/publishing`` kills at all other steps, too."""
    numbers = count()

    def make_store() -> WatchedFolder:
        return WatchedFolder(RemoteFolder(server.address(f"kills-{next(numbers)}/r.jsonl")))

    for night, resume_elsewhere in ((0, True), (1, False)):
        steps = play_with_a_kill_at_each_step(
            tmp_path / str(night), make_store, resume_elsewhere=resume_elsewhere, night=night, kind="create "
        )
        assert steps > 3


def test_address_that_cannot_be_used_is_refused(shell: Shell, server: ObjectStore) -> None:
    address = f"{server.scheme}://no-such-bucket/r.jsonl"
    refused = shell("jobs.jsonl", "--out", address, "--simulate")
    assert refused.code == 2
    assert refused.err.startswith(f"error: cannot write results to {address}: ")
    batched = shell("jobs.jsonl", "--out", address, "--simulate", "--batch")
    assert batched.error == (
        "--batch keeps a file of its batches on this machine: give --out FILE, and then process export FILE --out "
        f"{address}"
    )
