"""The journal of batches: ``<RESULTS stem>.batches.jsonl``. What is about to be sent is written before it is sent.

It has a line for each job of a batch and for each step of a batch:

    {"begin": NAME, "path", "model", "address"}          jobs are added to a batch
    {"job": NAME, "custom_id", "fingerprint", ...}       one of its jobs, see ``records``
    {"intend": NAME, "jobs", "bytes", "tokens", "at"}    it is about to be uploaded; synced with all its jobs
    {"upload": NAME, "file"}                             its file is at the provider; it is about to be created
    {"submit": NAME, "batch", "at"}                      the provider has created it
    {"drop": NAME}                                       it was not created, or is given up
    {"collect": NAME, "again", "files"}                  its rows are written and synced; ``again``: keys of jobs that
                                                         are to be submitted again, with the submissions so far
    {"remove": NAME}                                     its files at the provider are deleted

Every step is synced before it is acted upon. Jobs of a batch without an intent count as never sent. At its end a run
rewrites the file without what is collected, or removes it.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import orjson

from processor.batch.batch_table import BatchTable, is_step
from processor.batch.file_lines import lines_of
from processor.batch.open_batch import OpenBatch
from processor.batch.records import JobRecord, record_from_json
from processor.core import json_bytes
from processor.core.errors import ConfigError
from processor.core.job_keys import job_key
from processor.core.models import JSON
from processor.output.compaction import temp_path
from processor.output.storage import Storage, StorageFile, write_all

_RECORD_READ_BYTES = 4096
_BUFFER_BYTES = 1 << 18


class BatchLog:
    """The journal in an output that this process has locked. Methods that write raise OSError."""

    def __init__(self, storage: Storage, path: Path) -> None:
        """Read the journal. Raises ConfigError where it is damaged, and OSError."""
        self.path = path
        self._table = BatchTable()
        self._storage = storage
        self._file: StorageFile | None = None
        self._size = 0
        """With what is buffered."""
        self._buffer = bytearray()
        self.names_found: list[str] = []
        """Of all batches in the file: a killed run may have left their jobs on the disk."""
        if storage.exists(path):
            self._load()

    @property
    def batches(self) -> dict[str, OpenBatch]:
        """By name: all that are open, or collected with files left at the provider."""
        return self._table.batches

    @property
    def again(self) -> dict[bytes, int]:
        """Keys of the jobs that are to be submitted again, and how often they have been submitted."""
        return self._table.again

    @property
    def open_batches(self) -> list[OpenBatch]:
        return [batch for batch in self.batches.values() if batch.is_open]

    # ------------------------------------------------------------ reading

    def _load(self) -> None:
        end = 0
        damaged_line: int | None = None
        with closing(self._storage.open(self.path, "read")) as file:
            for number, (at, raw) in enumerate(lines_of(file), 1):
                if damaged_line is None and self._apply_raw(raw, at):
                    end = at + len(raw)
                    continue
                damaged_line = damaged_line or number
                if raw.endswith(b"\n") and is_step(raw):
                    raise ConfigError(
                        f"{self.path}, line {damaged_line}: the journal of batches is damaged: restore it from a copy, "
                        "or move it away once its batches are cancelled at the provider"
                    )
        self._size = end
        self.names_found += self.batches
        self.discard_drafts()

    def _apply_raw(self, raw: bytes, at: int) -> bool:
        """Take a line in. False where it is damaged or torn."""
        if not raw.endswith(b"\n"):
            return False
        try:
            self._table.apply(orjson.loads(raw), at)
        except (KeyError, TypeError, ValueError):
            return False
        return True

    def job(self, batch: OpenBatch, index: int) -> JobRecord:
        """The record of one job. Raises OSError."""
        file = self._open()
        self._flush()
        at, raw = batch.offsets[index], b""
        while b"\n" not in raw:
            raw += file.read(at + len(raw), _RECORD_READ_BYTES)
        return record_from_json(orjson.loads(raw[: raw.index(b"\n")]))

    def job_keys(self) -> Iterator[bytes]:
        """The keys of all jobs in open batches."""
        for batch in self.open_batches:
            for index in range(len(batch.offsets)):
                yield job_key(self.job(batch, index).custom_id)

    # ------------------------------------------------------------ writing

    def begin(self, batch: OpenBatch) -> None:
        self._step({"begin": batch.name, "path": batch.path, "model": batch.model, "address": batch.address})

    def add_job(self, batch: OpenBatch, record: JobRecord) -> None:
        """Add a job to a batch that is drafted. It is written by the next step, at the latest."""
        self._append({"job": batch.name, **record.as_json()})

    def intend(self, batch: OpenBatch, at: float) -> None:
        self._step({"intend": batch.name, **_size_fields(batch), "at": at})

    def record_upload(self, batch: OpenBatch, file_id: str) -> None:
        self._step({"upload": batch.name, "file": file_id})

    def record_submission(self, batch: OpenBatch, batch_id: str, at: float) -> None:
        self._step({"submit": batch.name, "batch": batch_id, "at": at})

    def drop(self, batch: OpenBatch, again: dict[bytes, int] | None = None) -> None:
        """The batch was not created, or is given up. ``again``: as for ``record_collection``."""
        self._step({"drop": batch.name, "again": _packed(again or {})})

    def record_collection(self, batch: OpenBatch, again: dict[bytes, int], files: tuple[str, ...]) -> None:
        self._step({"collect": batch.name, "again": _packed(again), "files": list(files)})

    def record_removal(self, batch: OpenBatch) -> None:
        self._step({"remove": batch.name})

    def discard_drafts(self) -> None:
        """Forget the batches that are drafted: nothing of them was sent."""
        for batch in [one for one in self.batches.values() if one.state == "drafted"]:
            self.discard_draft(batch)

    def discard_draft(self, batch: OpenBatch) -> None:
        """Forget one of them."""
        del self.batches[batch.name]
        self._table.has_garbage = True

    def forget_again(self) -> None:
        """No job is to be submitted again: each has its row, or is left to a later run."""
        self._table.has_garbage |= bool(self.again)
        self.again.clear()

    def _open(self) -> StorageFile:
        if self._file is None:
            is_new = not self._storage.exists(self.path)
            self._file = self._storage.open(self.path, "append")
            written = self._size - len(self._buffer)
            if self._file.size() > written:
                self._file.truncate(written)  # an end that is torn: none of it was acted upon
            if is_new:
                self._storage.sync_folder(self.path)
        return self._file

    def _append(self, line: JSON) -> None:
        raw = _line(line)
        at = self._size
        self._size += len(raw)
        self._buffer += raw
        self._table.apply(line, at)
        if len(self._buffer) >= _BUFFER_BYTES:
            self._flush()

    def _step(self, line: JSON) -> None:
        self._append(line)
        self._flush()
        self._open().sync()

    def _flush(self) -> None:
        file = self._open()
        if self._buffer:
            data, self._buffer = bytes(self._buffer), bytearray()
            write_all(file.write, data)

    # ------------------------------------------------------------ rewriting

    def compact(self) -> None:
        """Drop what is no longer needed, and the file where nothing is left."""
        if not self._table.has_garbage:
            return
        if not (self.batches or self.again):
            self.close()
            if self._storage.exists(self.path):
                self._storage.remove(self.path)
                self._storage.sync_folder(self.path)
            self._size, self._table.has_garbage = 0, False
            return
        temp = temp_path(self.path)
        with closing(self._storage.open(temp, "new")) as new:
            for line in self._lines_to_keep():
                write_all(new.write, line)
            new.sync()
        self.close()
        self._storage.replace(temp, self.path)
        self._table, self._size = BatchTable(), 0
        self._load()

    def _lines_to_keep(self) -> Iterator[bytes]:
        if self.again:
            yield _line({"again": "", "jobs": _packed(self.again)})
        for batch in self.batches.values():
            yield _line({"begin": batch.name, "path": batch.path, "model": batch.model, "address": batch.address})
            if batch.is_open:
                for index in range(len(batch.offsets)):
                    yield _line({"job": batch.name, **self.job(batch, index).as_json()})
            yield _line({"intend": batch.name, **_size_fields(batch), "at": batch.intended_at})
            if batch.file_id is not None:
                yield _line({"upload": batch.name, "file": batch.file_id})
            if batch.batch_id is not None:
                yield _line({"submit": batch.name, "batch": batch.batch_id, "at": batch.submitted_at})
            if batch.state == "collected":
                yield _line({"collect": batch.name, "again": [], "files": list(batch.remote_files)})

    def close(self) -> None:
        if self._file is not None:
            self._flush()
            self._file.close()
            self._file = None


def _size_fields(batch: OpenBatch) -> JSON:
    size = batch.size
    fields: JSON = {"jobs": size.jobs, "bytes": size.bytes, "tokens": size.tokens, "inputs": size.inputs}
    return fields if batch.worst_pico is None else {**fields, "worst_pico": batch.worst_pico}


def _packed(again: dict[bytes, int]) -> list[list[str | int]]:
    return [[key.hex(), count] for key, count in again.items()]


def _line(line: JSON) -> bytes:
    return json_bytes.dumps(line, orjson.OPT_APPEND_NEWLINE)
