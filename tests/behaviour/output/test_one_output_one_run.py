"""One output, one run: by whichever name it is given, and whatever other programs do to its files meanwhile."""

from __future__ import annotations

import errno
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from processor.core.errors import ConfigError, OutputError
from processor.output import storage as storage_module
from processor.output.appender import Appender
from processor.output.paths import OutputPaths
from processor.output.results_file import ResultsFile
from processor.output.row_json import encode_row
from processor.output.storage import LocalStorage, StorageFile
from processor.simulator.fault_injecting_storage import (
    DiskState,
    FaultInjectingStorage,
    Killed,
    StorageFault,
    fail_at_step,
)
from processor.simulator.virtual_clock import inline, run
from tests.support.results_samples import OUT, failure, ids, invalid_line, reply

ANSWERED_TWICE = encode_row(reply("a", "old")) + encode_row(reply("b")) + encode_row(reply("a", "new"))


def open_local(path: Path) -> ResultsFile:
    return ResultsFile.open(path, run_in_thread=inline)


async def open_and_close(path: Path) -> ResultsFile:
    async with open_local(path) as journal:
        pass
    return journal


# ---------------------------------------------------------------- names of one file


def link_to_file(out: Path) -> Path:
    link = out.with_name("link.jsonl")
    link.symlink_to(out.name)
    return link


def link_to_link(out: Path) -> Path:
    link = out.with_name("second.jsonl")
    link.symlink_to(link_to_file(out))
    return link


def linked_folder(out: Path) -> Path:
    folder = out.parent.parent / "other folder"
    folder.symlink_to(out.parent)
    return folder / out.name


OTHER_NAMES: dict[str, Callable[[Path], Path]] = {
    "link": link_to_file,
    "link to a link": link_to_link,
    "linked folder": linked_folder,
    "dots": lambda out: out.parent / ".." / out.parent.name / out.name,
    "relative": lambda out: Path(os.path.relpath(out)),
    "same": lambda out: out,
}


@pytest.mark.parametrize("other", OTHER_NAMES)
@pytest.mark.parametrize("is_first", [True, False])
def test_second_run_is_refused_by_any_name_of_the_output(tmp_path: Path, other: str, is_first: bool) -> None:
    (tmp_path / "data").mkdir()
    out = tmp_path / "data" / "r.jsonl"
    out.touch()
    names = [out, OTHER_NAMES[other](out)]
    first, second = names if is_first else reversed(names)

    async def main() -> None:
        async with open_local(first) as journal:
            await journal.append(failure("a"))
            with pytest.raises(OutputError, match="another run is writing to"):
                open_local(second)
        await open_and_close(second)

    run(main())
    assert sorted(path.name for path in out.parent.iterdir() if not path.is_symlink()) == [
        "r.errors.jsonl",
        "r.jsonl",
        "r.jsonl.state",
    ], "one output has one set of files"


def test_second_run_is_refused_where_only_the_results_file_is_shared(tmp_path: Path) -> None:
    """As with a bind mount of one file: the state files differ. Also after both compactions have replaced it."""
    out = tmp_path / "r.jsonl"
    out.write_bytes(ANSWERED_TWICE)

    async def main() -> None:
        async with open_local(out) as journal:
            out.with_name("r.jsonl.state").unlink()
            with pytest.raises(OutputError, match="another run is writing to"):
                open_local(out)
            await journal.append(reply("b", "again"))
            finish = journal._recovery.drop_stale_rows

            def drop_and_try(lines_read: int) -> None:
                finish(lines_read)
                assert ids(out.read_bytes()) == ["a", "b"]
                with pytest.raises(OutputError, match="another run is writing to"):
                    open_local(out)

            journal._recovery.drop_stale_rows = drop_and_try  # type: ignore[method-assign]
            await journal.close(1)

    run(main())


@pytest.fixture
def bind(tmp_path: Path) -> Iterator[Callable[[Path, Path], None]]:
    """Make a file or a folder appear under a second name, as containers do; needs the superuser of Linux."""
    mounted: list[Path] = []

    def mount(source: Path, target: Path) -> None:
        result = subprocess.run(["mount", "--bind", source, target], check=False, capture_output=True)
        if result.returncode:
            pytest.skip("bind mounts are not permitted here")
        mounted.append(target)

    if sys.platform != "linux" or os.geteuid() != 0 or not shutil.which("mount"):
        pytest.skip("only the superuser of Linux may make bind mounts")
    yield mount
    for target in mounted:
        subprocess.run(["umount", target], check=True)


@pytest.mark.process
@pytest.mark.parametrize("is_file", [True, False])
def test_second_run_is_refused_through_a_bind_mount(
    tmp_path: Path, bind: Callable[[Path, Path], None], is_file: bool
) -> None:
    out, other = tmp_path / "data" / "r.jsonl", tmp_path / "mounted" / "r.jsonl"
    for path in (out, other):
        path.parent.mkdir()
        path.touch()
    bind(*((out, other) if is_file else (out.parent, other.parent)))

    async def main() -> None:
        for first, second in ((out, other), (other, out)):
            async with open_local(first) as journal:
                await journal.append(reply(first.parent.name))
                with pytest.raises(OutputError, match="another run is writing to"):
                    open_local(second)

    run(main())
    assert ids(out.read_bytes()) == ids(other.read_bytes()) == ["data", "mounted"]


def test_lock_on_a_replaced_file_is_not_kept(tmp_path: Path) -> None:
    """The run that held the lock compacts the file between the other's open() and its lock()."""
    path = tmp_path / "r.jsonl"
    path.write_bytes(b"old")

    class ReplacingStorage(LocalStorage):
        opened = 0

        def open(self, path: Path, mode: storage_module.OpenMode) -> StorageFile:
            file = super().open(path, mode)
            self.opened += 1
            if self.opened == 1:
                path.with_name("new").write_bytes(b"new")
                path.with_name("new").replace(path)
            return file

    storage = ReplacingStorage()
    appender = Appender(storage, path)
    assert appender.open_locked()
    assert storage.opened == 2
    assert appender.open().read(0, 9) == b"new"
    assert not Appender(LocalStorage(), path).open_locked()


# ---------------------------------------------------------------- what is refused


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir() if path.is_file()}


def test_results_with_hard_links_are_refused_and_unchanged(tmp_path: Path) -> None:
    out = tmp_path / "r.jsonl"
    out.write_bytes(ANSWERED_TWICE)
    (tmp_path / "backup.jsonl").hardlink_to(out)
    before = contents(tmp_path)
    with pytest.raises(ConfigError, match=r"r.jsonl has several names \(hard links\)"):
        open_local(out)
    assert contents(tmp_path) == before


BESIDE = ["r.jsonl.state", "r.errors.jsonl", "r.damaged.jsonl", "r.jsonl.compacting", "r.errors.jsonl.compacted"]


@pytest.mark.parametrize("name", BESIDE)
def test_file_beside_the_results_with_hard_links_is_refused_and_unchanged(tmp_path: Path, name: str) -> None:
    (tmp_path / "elsewhere").write_bytes(encode_row(failure("a")))
    (tmp_path / name).hardlink_to(tmp_path / "elsewhere")
    before = contents(tmp_path)
    with pytest.raises(ConfigError, match=rf"{name} has several names \(hard links\)"):
        open_local(tmp_path / "r.jsonl")
    assert contents(tmp_path) == before


@pytest.mark.parametrize(
    ("name", "data"),
    [
        ("r.jsonl.compacted", b"my notes\n"),
        ("r.jsonl.compacted", encode_row(reply("a"))[:-5]),
        ("r.errors.jsonl.compacted", encode_row(reply("a"))),
        ("r.errors.jsonl", b"my notes\n"),
        ("r.jsonl.state", b"a text that is long enough to be a text\n"),
    ],
)
def test_foreign_file_beside_the_results_is_refused_and_unchanged(tmp_path: Path, name: str, data: bytes) -> None:
    (tmp_path / "r.jsonl").write_bytes(encode_row(reply("a")))
    (tmp_path / name).write_bytes(data)
    before = contents(tmp_path)
    with pytest.raises(ConfigError, match=f"{name} (was not written by this program|is not a results file)"):
        open_local(tmp_path / "r.jsonl")
    assert before.items() <= contents(tmp_path).items()


@pytest.mark.parametrize("other", ["r.errors.jsonl", "r.damaged.jsonl", "r.history.jsonl", "r.jsonl.state"])
def test_file_beside_results_is_no_output_of_its_own(tmp_path: Path, other: str) -> None:
    run(open_and_close(tmp_path / "r.jsonl"))
    (tmp_path / "r.errors.jsonl").write_bytes(encode_row(failure("a")))
    before = contents(tmp_path)
    with pytest.raises(ConfigError, match=rf"{other} belongs to the results in r.jsonl: give another --out"):
        open_local(tmp_path / other)
    assert contents(tmp_path) == before


@pytest.mark.parametrize("name", BESIDE)
@pytest.mark.parametrize("is_dangling", [True, False])
def test_linked_file_beside_the_results_is_refused(tmp_path: Path, name: str, is_dangling: bool) -> None:
    target = tmp_path / "elsewhere"
    if not is_dangling:
        target.write_bytes(b"")
    (tmp_path / name).symlink_to(target)
    with pytest.raises(ConfigError, match=f"{name} is a link, and this program makes none"):
        open_local(tmp_path / "r.jsonl")
    assert target.exists() is not is_dangling
    assert not (tmp_path / "r.jsonl").exists()


def test_dangling_link_as_output_is_refused(tmp_path: Path) -> None:
    (tmp_path / "r.jsonl").symlink_to("nowhere/r.jsonl")
    with pytest.raises(ConfigError, match=r"r.jsonl is a link to .*nowhere/r.jsonl, which does not exist"):
        open_local(tmp_path / "r.jsonl")


# ---------------------------------------------------------------- names of the files beside it


@pytest.mark.parametrize(
    ("name", "errors"),
    [
        ("r.jsonl", "r.errors.jsonl"),
        ("r.txt", "r.txt.errors.jsonl"),
        ("r.json", "r.json.errors.jsonl"),
        ("r", "r.errors.jsonl"),
        ("r.v1.jsonl", "r.v1.errors.jsonl"),
        ("r.v1", "r.v1.errors.jsonl"),
        (".jsonl", ".jsonl.errors.jsonl"),
    ],
)
def test_stem_is_the_name_without_jsonl(tmp_path: Path, name: str, errors: str) -> None:
    assert OutputPaths.of(tmp_path / name).failures == tmp_path / errors


@pytest.mark.parametrize(("first", "second"), [("r", "r.jsonl"), ("r.jsonl", "r")])
def test_output_that_would_share_an_errors_file_is_refused(tmp_path: Path, first: str, second: str) -> None:
    run(open_and_close(tmp_path / first))
    with pytest.raises(ConfigError, match="would share"):
        open_local(tmp_path / second)
    run(open_and_close(tmp_path / first))


@pytest.mark.parametrize("has_owner", [True, False])
def test_errors_file_by_the_old_rule_is_taken_over(tmp_path: Path, has_owner: bool) -> None:
    (tmp_path / "r.txt").write_bytes(encode_row(reply("a")))
    (tmp_path / "r.errors.jsonl").write_bytes(encode_row(failure("b")))
    if has_owner:
        (tmp_path / "r.jsonl").touch()
    journal = run(open_and_close(tmp_path / "r.txt"))
    assert journal.recovered.failed == (0 if has_owner else 1)
    assert (tmp_path / "r.errors.jsonl").exists() is has_owner
    assert (tmp_path / "r.txt.errors.jsonl").exists() is not has_owner


# ---------------------------------------------------------------- changes while it writes


def rewrite(out: Path, data: bytes) -> None:
    out.write_bytes(data)


def move_and_create(out: Path) -> None:
    out.rename(out.with_name("moved"))
    out.touch()


def remove_folder(out: Path) -> None:
    shutil.rmtree(out.parent)


CHANGES: dict[str, tuple[Callable[[Path], object], str]] = {
    "emptied": (lambda out: rewrite(out, b""), "another program has cut the file: it has "),
    "cut": (lambda out: os.truncate(out, 30), "another program has cut the file: it has "),
    "moved": (lambda out: out.rename(out.with_name("moved")), "has been moved or replaced"),
    "moved and created": (move_and_create, "has been moved or replaced"),
    "deleted": (lambda out: out.unlink(), "has been deleted"),
    "folder deleted": (remove_folder, "has been deleted"),
    "folder moved": (lambda out: out.parent.rename(out.parent.with_name("moved")), "has been moved or replaced"),
    "copied over": (lambda out: rewrite(out, out.read_bytes() * 2), "another program has written to the file"),
    "edited": (
        lambda out: (shutil.copy(out, out.with_name("copy")), out.with_name("copy").replace(out)),
        "has been moved or replaced",
    ),
}


def overwrite(out: Path, at: int, data: bytes) -> None:
    with open(out, "r+b") as file:
        file.seek(at)
        file.write(data)


@pytest.mark.parametrize("moment", ["before a row", "before the end"])
def test_rows_that_are_overwritten_in_place_end_the_run(tmp_path: Path, moment: str) -> None:
    """The size of the file tells of no change."""
    out = tmp_path / "r.jsonl"

    async def main() -> None:
        async with open_local(out) as journal:
            await journal.append(reply("a"))
            await journal.append(reply("b"))
            if moment == "before a row":
                overwrite(out, 0, b"x" * 20)
                await journal.append(reply("c"))
            else:
                overwrite(out, 0, b"x" * 20)
            count = 3 if moment == "before a row" else 2
            with pytest.raises(OutputError, match=rf"has overwritten rows: 1 of {count} replies are lost"):
                await journal.close(1)

    run(main())


@pytest.mark.parametrize("is_superseded", [True, False])
def test_results_that_are_touched_are_read_again_and_kept(tmp_path: Path, is_superseded: bool) -> None:
    out = tmp_path / "r.jsonl"
    out.write_bytes(encode_row(reply("a", "old")) + encode_row(reply("b")))

    async def main() -> None:
        async with open_local(out) as journal:
            if is_superseded:
                await journal.append(reply("a", "new"))
            os.utime(out)
            await journal.append(reply("c"))
            await journal.close(1)

    run(main())
    assert ids(out.read_bytes()) == (["b", "a", "c"] if is_superseded else ["a", "b", "c"])


@pytest.mark.parametrize("change", CHANGES)
@pytest.mark.parametrize("moment", ["before a row", "before the end"])
def test_change_of_the_results_ends_the_run(tmp_path: Path, change: str, moment: str) -> None:
    change_file, message = CHANGES[change]
    out = tmp_path / "data" / "r.jsonl"
    out.parent.mkdir()

    async def main() -> None:
        async with open_local(out) as journal:
            await journal.append(reply("a"))
            change_file(out)
            if moment == "before a row":
                with pytest.raises(OutputError, match=message):
                    await journal.append(reply("b"))
            with pytest.raises(OutputError, match=message):
                await journal.close(1)

    run(main())


# ---------------------------------------------------------------- weak file systems


def refuse(code: int) -> Callable[..., None]:
    def call(*_: object, **__: object) -> None:
        raise OSError(code, os.strerror(code))

    return call


def test_file_system_without_locks_is_used_with_a_warning(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("fcntl.flock", refuse(errno.ENOLCK))
    journal = run(open_and_close(tmp_path / "r.jsonl"))
    assert journal.recovered.weaknesses == [storage_module.NO_LOCKS]


def test_file_system_without_fsync_is_used_with_a_warning(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "fsync", refuse(errno.EINVAL))

    async def main() -> ResultsFile:
        async with open_local(tmp_path / "r.jsonl") as journal:
            await journal.append(reply("a"))
        return journal

    assert set(run(main()).recovered.weaknesses) == {storage_module.NO_FSYNC, storage_module.NO_FOLDER_FSYNC}
    assert ids((tmp_path / "r.jsonl").read_bytes()) == ["a"]


@pytest.mark.parametrize(
    ("operation", "code"), [("chmod", errno.EPERM), ("replace", errno.EBUSY), ("replace", errno.EEXIST)]
)
def test_file_that_cannot_be_replaced_is_overwritten(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, operation: str, code: int
) -> None:
    out = tmp_path / "r.jsonl"
    out.write_bytes(ANSWERED_TWICE)
    out.chmod(0o640)
    (tmp_path / "r.errors.jsonl").write_bytes(encode_row(failure("b")) + encode_row(failure("c")))
    (tmp_path / "r.errors.jsonl").chmod(0o640)
    replace = Path.replace

    def rename_to_new_names_only(source: Path, target: Path) -> Path:
        if target.exists():
            refuse(code)()
        return replace(source, target)

    if operation == "chmod":
        monkeypatch.setattr(Path, "chmod", refuse(code))
    else:
        monkeypatch.setattr(Path, "replace", rename_to_new_names_only)

    async def main() -> ResultsFile:
        async with open_local(out) as journal:
            assert ids(out.read_bytes()) == ["b", "a"]
            await journal.append(reply("a", "newest"))
            await journal.append(invalid_line(3))
            await journal.close(3)
        return journal

    journal = run(main())
    assert journal.recovered.weaknesses == [storage_module.IN_PLACE]
    assert ids(out.read_bytes()) == ["b", "a"]
    assert b"newest" in out.read_bytes()
    assert out.stat().st_mode & 0o777 == 0o640
    assert sorted(contents(tmp_path)) == ["r.errors.jsonl", "r.jsonl", "r.jsonl.state"]


class NoReplaceStorage(FaultInjectingStorage):
    """A disk that renames to new names only."""

    def replace(self, source: Path, target: Path) -> None:
        if self.exists(target):
            raise OSError(errno.EEXIST, os.strerror(errno.EEXIST))
        super().replace(source, target)


@pytest.mark.parametrize("part", [0.0, 0.5, 1.0])
def test_overwriting_that_is_killed_at_any_step_loses_no_row(part: float) -> None:
    for step in range(1, 1000):
        disk_state = DiskState()
        disk_state.put(OUT, ANSWERED_TWICE)
        storage = NoReplaceStorage(disk_state, fail_at_step(step, StorageFault(Killed(), part)))

        async def main(storage: NoReplaceStorage) -> None:
            async with ResultsFile.open(OUT, storage=storage, run_in_thread=inline):
                pass

        try:
            run(main(storage))
        except (Killed, OutputError):
            run(main(NoReplaceStorage(disk_state)))
        else:
            assert step > 15
            return
        assert disk_state.contents(OUT) == ANSWERED_TWICE.split(b"\n", 1)[1]


# ---------------------------------------------------------------- modes


@pytest.mark.parametrize("umask", [0o000, 0o022, 0o077])
def test_new_files_are_readable_by_their_owner_only(tmp_path: Path, umask: int) -> None:
    async def main() -> None:
        async with open_local(tmp_path / "r.jsonl") as journal:
            await journal.append(reply("a"))
            await journal.append(failure("b"))

    before = os.umask(umask)
    try:
        run(main())
    finally:
        os.umask(before)
    assert {path.name: path.stat().st_mode & 0o777 for path in tmp_path.iterdir()} == {
        "r.jsonl": 0o600,
        "r.errors.jsonl": 0o600,
        "r.jsonl.state": 0o600,
    }


@pytest.mark.skipif(os.geteuid() != 0, reason="only root may give files away")
def test_compaction_keeps_owner_and_mode(tmp_path: Path) -> None:
    out = tmp_path / "r.jsonl"
    out.write_bytes(ANSWERED_TWICE)
    os.chown(out, 1234, 2345)
    out.chmod(0o664)
    run(open_and_close(out))
    found = out.stat()
    assert (found.st_uid, found.st_gid, found.st_mode & 0o777) == (1234, 2345, 0o664)
    assert ids(out.read_bytes()) == ["b", "a"]


def test_temporary_file_is_readable_by_its_owner_only(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    out = tmp_path / "r.jsonl"
    out.write_bytes(ANSWERED_TWICE)
    out.chmod(0o644)
    modes = []
    copy = storage_module._copy_owner_and_mode

    def look(source: Path, target: Path) -> None:
        modes.append(target.stat().st_mode & 0o777)
        copy(source, target)

    monkeypatch.setattr(storage_module, "_copy_owner_and_mode", look)
    before = os.umask(0)
    try:
        run(open_and_close(out))
    finally:
        os.umask(before)
    assert modes == [0o600]
    assert out.stat().st_mode & 0o777 == 0o644
