"""Publishes the rows of the local files as parts. All methods block, and are called by one thread at a time."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from processor.publishing.catch_up import caught_up
from processor.publishing.lease import Lease
from processor.publishing.part_names import Kind, contents_of, part_name
from processor.publishing.record import Published, Record
from processor.publishing.rows import file_size, read_bytes, read_rows, without_damage
from processor.publishing.work_folder import WorkFolder
from processor.remote.object_folder import ObjectFolder

KINDS: tuple[Kind, Kind] = ("replies", "errors")


class Publisher:
    """Of one output. The order of calls: ``prepare``, then the results files are opened, ``begin``, any number of
    ``publish``, the results files are closed if nothing is left, ``publish_dropped_errors``.

    All methods raise OSError, after which they can be called again, and LeaseLost.
    """

    def __init__(self, folder: ObjectFolder, work_folder: WorkFolder, lease: Lease, record: Record) -> None:
        self.address = folder.name
        self.folder = work_folder.path
        self._folder = folder
        self._work_folder = work_folder
        self._lease = lease
        self._record = record
        paths = work_folder.paths
        self._paths: dict[Kind, Path] = {"replies": paths.replies, "errors": paths.failures}

    def prepare(self) -> None:
        """Add the parts of other machines to the local files, and publish what an earlier run could not.

        What opening the results files then repairs concerns only rows that stand in parts, and lines that are no rows.
        Raises ConfigError as ``caught_up`` does.
        """
        self._record = caught_up(self._folder, self._work_folder.paths, self._record)
        self._save()
        self._publish_files(may_be_damaged=True)

    def begin(self) -> None:
        """Note the sizes of the results files: all their rows are published, and then perhaps some were dropped."""
        replies, errors = self._record.files["replies"], self._record.files["errors"]
        if file_size(self._paths["errors"]) != errors.offset:
            errors = replace(errors, offset=0, is_rewritten=True)
        replies = replace(replies, offset=file_size(self._paths["replies"]))
        self._record = replace(self._record, files={"replies": replies, "errors": errors})
        self._save()

    def publish(self) -> None:
        """Publish all whole rows that the local files have now."""
        self._publish_files(may_be_damaged=False)

    def publish_dropped_errors(self) -> None:
        """Publish the errors file as a new generation if closing the results files has dropped rows from it."""
        self.begin()
        self.publish()

    def count_unpublished_rows(self) -> int:
        """Return how many rows of the local files do not stand in parts. All rows of an errors file that is to be
        published as a new generation count."""
        return sum(self._count_rows(kind) for kind in KINDS)

    def _count_rows(self, kind: Kind) -> int:
        path, at, rows = self._paths[kind], self._record.files[kind].offset, 0
        size = file_size(path)
        while data := read_rows(path, at, size):
            rows += data.count(b"\n")
            at += len(data)
        return rows

    # ------------------------------------------------------------ parts

    def _publish_files(self, *, may_be_damaged: bool) -> None:
        for kind in KINDS:
            size = file_size(self._paths[kind])
            if self._record.files[kind].is_rewritten:
                self._publish_generation(kind, size)
            else:
                self._publish_rest(kind, size, may_be_damaged=may_be_damaged)

    def _publish_rest(self, kind: Kind, size: int, *, may_be_damaged: bool) -> None:
        """Publish the rows behind the recorded offset, in as many parts as it takes."""
        while rows := read_rows(self._paths[kind], self._record.files[kind].offset, size):
            known = self._record.files[kind]
            data = without_damage(rows, replies=kind == "replies") if may_be_damaged else rows
            self._update(kind, self._create(kind, known, data, len(rows)))

    def _create(self, kind: Kind, known: Published, data: bytes, size: int) -> Published:
        """Create the next part, of the next ``size`` bytes of the local file, and return the record with it.

        Where a part of this number was created before, and the answer to that was lost, it is that part. It may have
        fewer rows. A number that another program has taken is left out.
        """
        self._check_lease()
        number = known.number
        while data:
            number += 1
            name = part_name(kind, known.generation, number)
            if self._folder.create(name, data):
                break
            found = self._folder.read(name)
            if found == read_bytes(self._paths[kind], known.offset, len(found)):
                size = len(found)
                break
            self._lease.confirm()
        return replace(known, number=number, offset=known.offset + size)

    def _publish_generation(self, kind: Kind, size: int) -> None:
        """Publish all of a file as a new generation. Its first part is created last: without that it does not count."""
        self._check_lease()
        known = self._record.files[kind]
        newest = contents_of(self._folder.list()).newest_generation
        if not newest and not size:
            self._update(kind, Published())
            return
        generation = max(newest, known.generation) + 1
        first, number = read_rows(self._paths[kind], 0, size), 1
        at = len(first)
        while rows := read_rows(self._paths[kind], at, size):
            number += 1
            self._create_in(generation, number, rows)
            at += len(rows)
        self._create_in(generation, 1, first)
        self._update(kind, Published(generation=generation, number=number, offset=at))

    def _create_in(self, generation: int, number: int, data: bytes) -> None:
        """Create a part of a generation that is new. Raises OSError where there is one: the next call takes another."""
        name = part_name("errors", generation, number)
        if not self._folder.create(name, data) and self._folder.read(name) != data:
            raise FileExistsError(f"{name} was created by another program")

    def _check_lease(self) -> None:
        """Before something is published: make sure that no other machine has taken over in the meantime."""
        if self._lease.may_have_expired:
            self._lease.renew()

    def _update(self, kind: Kind, published: Published) -> None:
        if published != self._record.files[kind]:
            self._record = replace(self._record, files={**self._record.files, kind: published})
            self._save()

    def _save(self) -> None:
        self._work_folder.save_record(self._record)
