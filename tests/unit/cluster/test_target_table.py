"""Workers are told of targets once, and of keys only where they lack them."""

from __future__ import annotations

import asyncio

import pytest

from processor.cluster.host import WorkerHost
from processor.cluster.memory import MemoryCluster
from processor.cluster.messages import WorkerSettings, encode
from processor.cluster.target_table import TargetTable
from processor.core.events import RequestListener
from processor.core.models import Job, Reply, Target
from processor.core.secrets import Secret
from processor.http.settings import TransportSettings
from processor.simulator.virtual_clock import run

OLD, NEW = (Target(base_url="https://host/v1", key=Secret(f"key-of-nobody-{number}")) for number in (1, 2))
OPEN = Target(base_url="http://127.0.0.1/v1")


async def unused(job: Job, target: Target, on_event: RequestListener) -> Reply:
    raise AssertionError


def test_renewed_key_takes_the_number_of_the_old_one() -> None:
    async def main() -> None:
        cluster = MemoryCluster(unused, environ={"KEY": "key-of-nobody-1"})
        link = await cluster.start("worker 1")
        await link.open(encode(WorkerSettings(transport=TransportSettings(), interval_s=0.02)))
        host: WorkerHost = cluster.links[0]._host
        table = TargetTable({OLD: "KEY"})
        assert [table.number_of(target) for target in (OLD, OPEN, OLD)] == [0, 1, 0]
        assert await table.announce(link) == table.changes == 2
        assert host._targets == {0: OLD, 1: OPEN}
        table.replace_key(OLD, NEW)
        assert (table.changes, table.number_of(NEW)) == (3, 0)
        await table.announce(link)
        assert host._targets == {0: NEW, 1: OPEN}
        await cluster.close()

    run(main())


def test_key_is_passed_in_a_call_of_its_own() -> None:
    async def main() -> None:
        cluster = MemoryCluster(unused)
        link = await cluster.start("worker 1")
        await link.open(encode(WorkerSettings(transport=TransportSettings(), interval_s=0.02)))
        table = TargetTable({OLD: "KEY"})
        table.number_of(OLD)
        await table.announce(link)
        assert OLD.key is not None
        passed = [OLD.key.value.encode() in data for name, data in cluster.links[0].passed if name == "set_targets"]
        assert passed == [False, True]
        await cluster.close()

    asyncio.run(main())


@pytest.mark.parametrize("target", [OLD, OPEN])
def test_target_that_is_unknown_gets_a_number(target: Target) -> None:
    table = TargetTable({})
    assert (table.number_of(target), table.changes) == (0, 1)
