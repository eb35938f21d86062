"""Publishing while a run is at work: failures of the store, leases, and large files."""

from __future__ import annotations

import asyncio
import json
import random
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path

import pytest

from processor.core.errors import ConfigError, OutputError
from processor.core.models import Result
from processor.publishing import rows
from processor.publishing.lease import LeaseLost, LeaseTerms, acquire_lease
from processor.publishing.part_names import contents_of
from processor.publishing.reading import local_results
from processor.publishing.work_folder import WorkFolder, default_work_folder, remove_unused
from processor.remote import addresses
from processor.simulator.virtual_clock import run
from tests.support.published_world import ADDRESS, INTERVAL_S, Machine, MemoryStore
from tests.support.results_samples import failure, fingerprint_of, reply

TWELVE = [reply(f"j{at:02}") for at in range(12)]
TWELVE_IDS = [f"+j{at:02}" for at in range(12)]


def reachable(name: str, is_done: bool) -> None:
    """Let every operation succeed."""


def unreachable(name: str, is_done: bool) -> None:
    raise OSError("the store is down")


def test_store_that_fails_now_and_then_gets_each_row_once(tmp_path: Path) -> None:
    for seed in range(10):
        store, random_source = MemoryStore(), random.Random(seed)
        machine = Machine(tmp_path / str(seed), store)

        def fail_sometimes(name: str, is_done: bool, source: random.Random = random_source) -> None:
            if source.random() < 0.2:
                raise OSError("the connection broke")

        def after_the_start(store: MemoryStore = store) -> Iterator[Result]:
            for number, result in enumerate(TWELVE):
                store.on_operation = fail_sometimes if number < 11 else reachable
                yield result

        run(machine.run(after_the_start()))
        rows_of_parts = [row for name in store.parts() for row in store.objects[name].splitlines()]
        assert len(rows_of_parts) == 12
        assert Machine(tmp_path / f"{seed}r", store).exported() == TWELVE_IDS


def test_store_that_is_gone_ends_the_run_with_what_is_not_published(tmp_path: Path) -> None:
    store = MemoryStore()
    machine = Machine(tmp_path / "a", store)
    run(machine.run([failure("f"), reply("a")]))

    def store_goes_down() -> Iterator[Result]:
        yield reply("f")
        store.on_operation = unreachable
        yield reply("b")
        yield reply("a", request="edited")  # drops a row of the results file, which must wait until all are published

    with pytest.raises(OutputError, match="not all rows could be published"):
        run(machine.run(store_goes_down()))
    first, last = machine.notices[0], machine.notices[-1]
    assert first.startswith(f"cannot publish to {ADDRESS}: the store is down; this is tried again, and the rows are ")
    assert last.startswith(f"3 rows are not published to {ADDRESS}: the store is down; they are kept in {machine.path}")
    assert len(machine.notices) == 2
    store.on_operation = reachable
    run(machine.run([]))
    assert machine.sent == ["f", "a", "f", "b", "a"]
    assert Machine(tmp_path / "r", store).exported() == ["+a", "+b", "+f"]
    assert any(fingerprint_of("edited").encode() in data for data in store.objects.values())


def test_store_that_comes_back_is_reported(tmp_path: Path) -> None:
    store = MemoryStore()
    machine = Machine(tmp_path / "a", store)

    def store_is_down_for_a_while() -> Iterator[Result]:
        for number, result in enumerate(TWELVE):
            store.on_operation = unreachable if 2 <= number < 6 else reachable
            yield result

    run(machine.run(store_is_down_for_a_while()))
    assert [text.partition(": the store")[0] for text in machine.notices] == [
        f"cannot publish to {ADDRESS}",
        f"rows are published to {ADDRESS} again",
    ]


def test_rows_are_published_at_the_interval_while_the_run_is_at_work(tmp_path: Path) -> None:
    store = MemoryStore()
    published: list[int] = []

    async def main() -> None:
        running = asyncio.create_task(Machine(tmp_path / "a", store).run(TWELVE))
        while not running.done():
            await asyncio.sleep(INTERVAL_S)
            published.append(sum(data.count(b"\n") for name, data in store.objects.items() if "part" in name))
        await running

    run(main())
    assert published[-1] == 12
    assert all(later - earlier <= 4 for earlier, later in pairwise(published))
    assert len(store.parts()) == 6


def test_rows_are_split_into_parts_of_a_bounded_size(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rows.read_rows, "__defaults__", (1000,))
    store = MemoryStore()
    answers = [failure(f"f{at}") for at in range(20)] + [reply("long", text="x" * 3000), reply("b")]
    run(Machine(tmp_path / "a", store).run(answers, interval_s=300.0))
    assert all(len(data) <= 1000 or data.count(b"\n") == 1 for data in store.objects.values())
    assert len(store.parts()) > 8
    run(Machine(tmp_path / "b", store).run([reply(f"f{at}") for at in range(0, 20, 2)], interval_s=300.0))
    contents = contents_of(store.parts())
    assert contents.counting_generation("errors") == 2
    assert len(contents.numbers("errors", 2)) > 2
    without_first = [name for name in store.parts() if name != "errors-002-000001.jsonl"]
    assert contents_of(without_first).counting_generation("errors") == 1
    assert len(Machine(tmp_path / "r", store).exported()) == 22


# ---------------------------------------------------------------- leases


def terms(holder: str, now: float = 1000.0) -> LeaseTerms:
    return LeaseTerms(holder=holder, wall_clock=lambda: now)


def test_second_machine_is_refused_until_the_lease_is_released_or_expires(tmp_path: Path) -> None:
    store = MemoryStore()
    lease = acquire_lease(store, terms("a"))
    with pytest.raises(ConfigError, match=r"another work folder of this machine \(process \d+\) is writing to s3://"):
        acquire_lease(store, terms("b", 1100.0))
    store.objects["lease-000001.json"] = store.objects["lease-000001.json"].replace(b'"host": "', b'"host": "x')
    with pytest.raises(ConfigError, match=r"the machine x.* is writing to .*: wait for its run to end \(120 s after"):
        acquire_lease(store, terms("b", 1100.0))
    lease.release()
    second = acquire_lease(store, terms("b", 1001.0))
    assert contents_of(store.objects).leases == (2,)
    with pytest.raises(LeaseLost, match="has taken over"):
        lease.renew()
    second.renew()


def test_lease_that_seems_expired_is_watched_before_it_is_taken(tmp_path: Path) -> None:
    store = MemoryStore()
    said: list[str] = []
    first = acquire_lease(store, terms("a"))
    waits: list[float] = []
    late = LeaseTerms(holder="b", wall_clock=lambda: 5000.0, sleep=waits.append, say=said.append)
    acquire_lease(store, late)
    assert waits == [30.0]
    assert "waiting 30 s to see whether it is still at work" in said[0]
    with pytest.raises(LeaseLost):
        first.confirm()
    store = MemoryStore()
    first = acquire_lease(store, terms("a"))
    clock_is_wrong = LeaseTerms(holder="b", wall_clock=lambda: 5000.0, sleep=lambda _: still_there())

    def still_there() -> None:
        store.objects["lease-000001.json"] = store.objects["lease-000001.json"].replace(b"1000.0", b"1020.0")

    with pytest.raises(ConfigError, match="is writing to"):
        acquire_lease(store, clock_is_wrong)
    first.confirm()


def test_lease_of_a_killed_run_is_continued_in_the_same_work_folder() -> None:
    store = MemoryStore()
    acquire_lease(store, terms("a"))
    acquire_lease(store, terms("a", 1001.0))
    assert contents_of(store.objects).leases == (1,)


def test_creation_whose_answer_was_lost_is_found_to_be_the_own_one() -> None:
    store = MemoryStore()
    is_first = iter([True])

    def lose_the_answer(name: str, is_done: bool) -> None:
        """As a client that sends the request again."""
        if name.startswith("create") and is_done and next(is_first, False):
            store.on_operation = reachable
            assert not store.create("lease-000001.json", b"")

    store.on_operation = lose_the_answer
    acquire_lease(store, terms("a")).confirm()


def test_store_that_overwrites_where_it_should_create_is_refused() -> None:
    store = MemoryStore()
    store.folder.ignores_create = True
    with pytest.raises(ConfigError, match="overwrites files that should only be created: give --out FILE"):
        acquire_lease(store, terms("a"))


def test_run_that_another_machine_has_replaced_sends_nothing_more(tmp_path: Path) -> None:
    store = MemoryStore()
    machine = Machine(tmp_path / "a", store)

    def another_takes_over() -> Iterator[Result]:
        for number, result in enumerate(TWELVE):
            if number == 2:
                content = json.loads(store.objects["lease-000001.json"]) | {"holder": "b", "host": "elsewhere"}
                store.objects["lease-000002.json"] = json.dumps(content).encode()
                parts = store.parts()
            yield result
        assert parts == store.parts()

    with pytest.raises(LeaseLost, match=r"the machine elsewhere .* has taken over s3://"):
        run(machine.run(another_takes_over(), interval_s=60.0))
    assert 3 <= len(machine.sent) < 12
    assert "this run stops" in machine.notices[0]
    assert "rows are not published to" in machine.notices[-1]
    with pytest.raises(ConfigError, match="is writing to"):
        run(machine.run(TWELVE))
    store.expire_leases()
    run(machine.run(TWELVE))
    assert machine.sent == [result.custom_id for result in TWELVE], "no job is sent twice"
    assert machine.exported() == TWELVE_IDS


def test_second_run_on_the_work_folder_is_refused(tmp_path: Path) -> None:
    machine = Machine(tmp_path / "a", MemoryStore())
    with machine.work_folder.locked(), pytest.raises(ConfigError, match="another run of this machine is writing to"):
        run(machine.run(TWELVE))


# ---------------------------------------------------------------- work folders


def test_work_folder_belongs_to_one_address(tmp_path: Path) -> None:
    run(Machine(tmp_path / "a", MemoryStore()).run(TWELVE[:1]))
    with pytest.raises(ConfigError, match=f"is the work folder of {ADDRESS}: give another --work-dir"):
        WorkFolder(tmp_path / "a", "s3://bucket/other.jsonl").load_record()
    for address in ("s3://bucket", "s3://bucket/", "s3://bucket/folder/"):
        with pytest.raises(ConfigError, match=r"names no results file: give --out s3://bucket.*/results.jsonl"):
            WorkFolder(tmp_path, address)


def test_default_work_folder_is_named_after_the_address(tmp_path: Path) -> None:
    environ = {"XDG_CACHE_HOME": str(tmp_path)}
    folder = default_work_folder("s3://my-bucket/a b/r.jsonl", environ)
    assert folder.parent == tmp_path / "processor" / "outputs"
    assert folder.name.startswith("my-bucket-a-b-r.jsonl-")
    assert folder != default_work_folder("gs://my-bucket/a b/r.jsonl", environ)
    with pytest.raises(ConfigError, match=r"no cache folder .*: give --work-dir"):
        default_work_folder(ADDRESS, {})


def test_parts_that_are_gone_are_named(tmp_path: Path) -> None:
    store = MemoryStore()
    machine = Machine(tmp_path / "a", store)
    run(machine.run(TWELVE))
    del store.objects["part-000006.jsonl"]
    with pytest.raises(ConfigError, match=r"files are gone from s3://bucket/.*, at least part-000006.jsonl"):
        run(machine.run(TWELVE))


def test_unused_work_folders_are_removed_where_all_is_published(tmp_path: Path) -> None:
    store = MemoryStore()
    whole, rest = Machine(tmp_path / "whole", store), Machine(tmp_path / "rest", MemoryStore())
    run(whole.run(TWELVE))
    run(rest.run(TWELVE))
    with open(rest.work_folder.paths.replies, "ab") as file:
        file.write(b"{}\n")
    remove_unused(tmp_path)
    assert whole.path.exists()
    with whole.work_folder.locked():
        remove_unused(tmp_path, now=1e12)
    assert whole.path.exists()
    remove_unused(tmp_path, now=1e12)
    assert (whole.path.exists(), rest.path.exists()) == (False, True)


# ---------------------------------------------------------------- reading


def test_results_at_an_address_are_read_through_the_work_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = MemoryStore()
    monkeypatch.setattr("processor.publishing.reading.RemoteFolder", lambda address: store)
    said: list[str] = []
    environ = {"XDG_CACHE_HOME": str(tmp_path / "cache")}
    with pytest.raises(ConfigError, match=r"there are no results at s3://bucket/folder/r.jsonl"):
        local_results(ADDRESS, None, environ, said.append)
    assert not (tmp_path / "cache").exists()
    run(Machine(tmp_path / "a", store).run(TWELVE[:6]))
    path = local_results(ADDRESS, None, environ, said.append)
    assert path.read_bytes().count(b"\n") == 6
    run(Machine(tmp_path / "a", store).run(TWELVE))
    assert local_results(ADDRESS, None, environ, said.append).read_bytes().count(b"\n") == 12
    store.on_operation = unreachable
    assert said == []
    assert local_results(ADDRESS, None, environ, said.append) == path
    assert said == [f"cannot read {ADDRESS}: the store is down; these are the rows that this machine has"]
    with WorkFolder(path.parent, ADDRESS).locked():
        assert local_results(ADDRESS, None, environ, said.append) == path
    with pytest.raises(ConfigError, match="cannot read s3://"):
        local_results(ADDRESS, tmp_path / "elsewhere", environ, said.append)
    assert local_results("r.jsonl", None, environ, said.append) == Path("r.jsonl")
    with pytest.raises(ConfigError, match="--work-dir is for results in an object store"):
        local_results("r.jsonl", tmp_path, environ, said.append)
    assert addresses.is_writable(ADDRESS)
