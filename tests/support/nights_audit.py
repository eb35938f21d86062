"""Checks the promises from outside: by the files, the provider's billing log, and the requests that were sent.

It never relies on what the program itself reports.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from processor.protocols.registry import PROTOCOLS
from processor.simulator.request_parser import identity
from tests.support.nights_jobs import JSON, UNKNOWN_MODEL, JobFile, JobLine
from tests.support.scheduler_world import EPOCH_S, ERRORS, RESULTS, STATE, RunRecord, World, whole_rows

ROW_FIELDS = ["id", "custom_id", "response", "error", "usage", "usage_source", "attempts", "timing", "cost_usd", "line"]
OPTIONAL_FIELDS = ["simulated", "usage_estimated", "endpoint", "asked_model", "streamed", "own_fault", "metadata"]
TIMING_FIELDS = ["started_at", "queued_s", "first_token_s", "total_s"]
TRANSIENT_CODES = {"server_error", "stream_truncated", "stream_stalled", "timeout", "connection_lost", "protocol_error"}

Name = tuple[str, str]
"""custom_id and fingerprint: one request of one job."""


class PromiseBroken(AssertionError):
    """A promise is broken."""


def check(holds: Any, promise: str, *about: Any) -> None:
    if not holds:
        raise PromiseBroken(f"{promise}: {', '.join(map(str, about))}")


@dataclass(frozen=True, slots=True, kw_only=True)
class RunConditions:
    """The options of a run, and what was done to it."""

    concurrency: int
    max_attempts: int
    limit: int | None
    resend: bool
    retry_failed: bool
    disk_fails: bool
    stopped: bool
    """A signal, a long outage or something else may have ended the run early."""
    synced_within_s: float | None


@dataclass(frozen=True, slots=True)
class StateBefore:
    """The files and the provider's log at the start of a run."""

    rows: list[JSON]
    replied: set[Name]
    logged: int
    """Number of requests in the provider's log."""

    @classmethod
    def of(cls, world: World) -> StateBefore:
        rows = [row for path in (RESULTS, ERRORS) for row in whole_rows(world.disk.contents(path) or b"")]
        return cls(rows, world.replied(), len(world.log))


@dataclass(slots=True)
class Audit:
    world: World
    versions: dict[Name, JobLine] = field(default_factory=dict)
    """The jobs of all versions of the job file."""
    allowed_payments: Counter[Name] = field(default_factory=Counter)
    """How often a job may be billed: once, and once more each time it was in flight at a run's end or lost its row."""
    sent: Counter[str] = field(default_factory=Counter)
    """Requests by job, over all runs."""
    killed_runs: int = 0
    """Number of runs that ended without cleaning up."""
    state_is_complete: bool = True
    """The state beside the results has not been lost with a loss of power, a failing disk or a deleted file."""
    unanswered: tuple[int, int] | None = (0, 0)
    """Bounds of the number of possibly billed requests that the next run reports. None: unknown."""
    young: set[Name] = field(default_factory=set)
    """Rows younger than the fsync bound when their run was killed, until the next run has started."""
    synced: bool = True
    """Nothing but the time since its writing may keep a row from being on the disk."""

    # ------------------------------------------------------------ around a run

    def expect(self, file: JobFile) -> None:
        for job in file.jobs:
            name = (job.custom_id or "", job.fingerprint)
            if name not in self.versions:
                self.versions[name] = job
                self.allowed_payments[name] += 1

    def check_run(self, run: RunRecord, file: JobFile, conditions: RunConditions, before: StateBefore) -> None:
        self._check_sending(run, file, conditions, before.replied)
        self.sent.update(custom_id for _, custom_id, _ in run.sent)
        self.allowed_payments.update(name for name in run.left_in_flight)
        self._check_billing(run, conditions)
        self._check_payments()
        self.killed_runs += run.exit_code is None or conditions.disk_fails
        self.state_is_complete &= not conditions.disk_fails
        self.synced &= not conditions.disk_fails
        self._record_recent_rows(run, conditions.synced_within_s)
        self._check_exit(run, file, conditions)
        self._check_rows()
        if run.exit_code is not None and not conditions.disk_fails:
            self._check_no_leftovers()
        if run.exit_code in (0, 1):
            self.synced = conditions.synced_within_s is not None
            self._check_every_job(file, conditions, before, run.exit_code)
            self._check_failures(file, conditions, before, run)

    def _record_recent_rows(self, run: RunRecord, bound_s: float | None) -> None:
        if run.possibly_billed is not None:
            self.young.clear()
        if run.exit_code is None and bound_s is not None:
            rows = whole_rows(self.world.disk.contents(RESULTS) or b"")
            self.young |= _names([row for row in rows if self._age_s(row) <= bound_s])

    def _age_s(self, row: JSON) -> float:
        return EPOCH_S + self.world.now_s - _ended_at(row)

    def on_data_lost(self, before: bytes, *, bound_s: float | None) -> None:
        """Record that power was lost or the file damaged. ``bound_s``: older rows must still be there."""
        had, has = _names(whole_rows(before)), self.world.replied()
        self.state_is_complete = False
        self.unanswered = None
        for row in whole_rows(before):
            name = (row["custom_id"], row["id"])
            if name in has or name in self.young:
                continue
            age_s = self._age_s(row)
            check(bound_s is None or age_s <= bound_s, "a row older than the fsync bound is gone", name, age_s)
        self.allowed_payments.update(had - has)

    def on_state_file_deleted(self) -> None:
        """Record that the state file was deleted."""
        self.state_is_complete = False
        self.unanswered = None

    # ------------------------------------------------------------ what was sent

    def _check_sending(
        self, run: RunRecord, file: JobFile, conditions: RunConditions, replied_before: set[Name]
    ) -> None:
        wanted = {
            (job.custom_id, job.fingerprint)
            for job in lines_within_limit(file, conditions.limit)
            if job.body is not None
        }
        for at, *name in run.sent:
            check(tuple(name) in wanted, "sent a request that is not in the job file", name)
            check(tuple(name) not in replied_before, "sent again although it has its row", name, at)
        check(run.max_in_flight <= conditions.concurrency, "more in flight than slots", run.max_in_flight)
        check(len(run.left_in_flight) <= conditions.concurrency, "more left in flight than slots", run.left_in_flight)

    def _check_payments(self) -> None:
        """By request identity, which equal jobs share."""
        allowed: Counter[bytes] = Counter()
        for name, times in self.allowed_payments.items():
            job = self.versions[name]
            allowed[identity(job.path, job.body or {})] += times
        for one, times in self.world.provider.billing.completed_by_identity.items():
            check(times <= allowed[one], "a complete reply was billed again", one.hex(), times, allowed[one])

    def _check_billing(self, run: RunRecord, conditions: RunConditions) -> None:
        if run.possibly_billed is not None and self.unanswered is not None:
            least, most = self.unanswered
            check(least <= run.possibly_billed <= most, "what may be billed", run.possibly_billed, least, most)
        if conditions.disk_fails:
            self.unanswered = None
        elif run.possibly_billed is not None:
            # More: killed between the in-flight record and the first byte, or after a failure before its row.
            self.unanswered = len(run.left_in_flight), 2 * conditions.concurrency
        elif self.unanswered is not None:
            # Killed while it recovered the state of the run before.
            self.unanswered = 0, self.unanswered[1]

    # ------------------------------------------------------------ how it ended

    def _check_exit(self, run: RunRecord, file: JobFile, conditions: RunConditions) -> None:
        code = run.exit_code
        check(code in (None, 0, 1, 2, 3, 130), "an internal error", code, run.reason)
        check(code != 2 or not run.sent, "exit 2, but something was sent", run.reason)
        early = conditions.stopped or conditions.disk_fails
        hopeless = code == 3 and self._only_unknown_models_left(file, conditions)
        not_understood = code == 3 and self._nothing_was_understood(run, file, conditions)
        check(early or hopeless or not_understood or code not in (3, 130), "stopped early for no reason", run.reason)

    def _only_unknown_models_left(self, file: JobFile, conditions: RunConditions) -> bool:
        """All jobs without a row name a model that is not known: no reply can show that they are wrong.

        A failed row of an earlier run may stand for such a job.
        """
        jobs = [job.body for job in lines_within_limit(file, conditions.limit) if job.body is not None]
        left = [job.body for job in self._left(file, conditions) if job.body is not None]
        return any(body["model"] == UNKNOWN_MODEL for body in jobs) and all(
            body["model"] == UNKNOWN_MODEL for body in left
        )

    def _nothing_was_understood(self, run: RunRecord, file: JobFile, conditions: RunConditions) -> bool:
        """The replies to jobs broke off, and no reply to their path and model shows that it was the jobs."""
        rows = [row for row in whole_rows(self.world.disk.contents(RESULTS) or b"") if "asked_model" in row]
        answered = {(row["asked_model"], path) for row in rows for path in PROTOCOLS if row["endpoint"].endswith(path)}
        replied = {row["custom_id"] for row in rows}
        jobs = [job for job in lines_within_limit(file, conditions.limit) if job.body and job.custom_id not in replied]
        without_reply = {(job.body["model"], job.path) for job in jobs if job.body}
        is_reason = (run.reason or "").startswith("the server cannot be understood")
        return is_reason and not without_reply <= answered

    def _left(self, file: JobFile, conditions: RunConditions) -> list[JobLine]:
        """The jobs without a row. A job that was edited may have that of its earlier version."""
        rows = [row for path in (RESULTS, ERRORS) for row in whole_rows(self.world.disk.contents(path) or b"")]
        ids = {row["custom_id"] for row in rows}
        jobs = lines_within_limit(file, conditions.limit)
        return [job for job in jobs if job.body is not None and job.custom_id not in ids]

    def _check_no_leftovers(self) -> None:
        for path in (RESULTS, ERRORS):
            data = self.world.disk.contents(path)
            check(not data or data.endswith(b"\n"), "a torn line is left", path.name)
        names = {path.name for path in self.world.disk.names}
        left = names - {RESULTS.name, ERRORS.name, STATE.name, "results.damaged.jsonl"}
        check(not left, "a temporary file is left", left)

    # ------------------------------------------------------------ rows

    def _check_rows(self) -> None:
        """Every complete row in the two files is correct."""
        for row in whole_rows(self.world.disk.contents(RESULTS) or b""):
            check(row["error"] is None, "a failure among the replies", row)
            self._check_reply(row)
        for row in whole_rows(self.world.disk.contents(ERRORS) or b""):
            check(row["error"] is not None, "a reply among the failures", row)
            check_shape(row)

    def _check_reply(self, row: JSON) -> None:
        check_shape(row)
        name = (row["custom_id"], row["id"])
        job = self.versions.get(name)
        check(job, "a reply without a job", name)
        assert job is not None and job.body is not None
        expected = self.world.provider.expected_body(job.path, job.body)
        if row["usage_source"] == "computed":
            expected["usage"] = row["usage"]
        check(row["response"]["body"] == expected, "assembled wrongly", name, row["response"]["body"], expected)
        check(row["response"]["status_code"] == 200, "a status of success", row["response"])
        check(row.get("metadata") == job.metadata, "metadata carried through", name)
        check(("metadata" in row) is job.has_metadata, "metadata where there was some", name)

    def _check_attempts(self, rows: Iterable[JSON]) -> None:
        for row in rows:
            sent = self.sent[row["custom_id"]]
            least = sent if self.state_is_complete else 1
            most = sent + self.killed_runs
            check(least <= row["attempts"] <= most, "attempts", row["custom_id"], row["attempts"], least, most)

    # ------------------------------------------------------------ promise 1

    def _check_every_job(self, file: JobFile, conditions: RunConditions, before: StateBefore, exit_code: int) -> None:
        lines = lines_within_limit(file, conditions.limit)
        replies = self.world.rows(RESULTS)
        failures = [row for row in self.world.rows(ERRORS) if not is_of_line(row)]
        replied, failed = _by_id(replies), _by_id(failures)
        both = replied.keys() & failed.keys()
        check(not both, "a job stands in both files", both)
        jobs = {job.custom_id or "": job for job in lines if job.body is not None}
        none = jobs.keys() - replied.keys() - failed.keys()
        check(not none, "a job is lost", none)
        strange = failed.keys() - {custom_id for custom_id, _ in self.versions}
        check(not strange, "a failed row without a job", strange)
        self._check_attempts(row for row in (*replies, *failures) if row not in before.rows)
        old = [name for name, job in jobs.items() if name in replied and replied[name]["id"] != job.fingerprint]
        missing = [name for name in jobs if name not in replied] + [line for line in lines if line.code]
        missing += old if conditions.resend else []
        check(exit_code == bool(missing), "the exit code", exit_code, missing)
        for name, job in jobs.items():
            check(name not in replied or replied[name]["id"] != job.fingerprint or not job.is_rejected, "a reply", name)

    def _check_failures(self, file: JobFile, conditions: RunConditions, before: StateBefore, run: RunRecord) -> None:
        lines = lines_within_limit(file, conditions.limit)
        jobs = {job.custom_id: job for job in lines if job.body is not None}
        log = self.world.log[before.logged :]
        asked = Counter(entry["identity"] for entry in log if "identity" in entry and entry["status"] != 429)
        broken = {(line.number, line.code) for line in lines if line.code}
        found: Counter[tuple[int, str]] = Counter()
        for row in self.world.rows(ERRORS):
            code = row["error"]["code"]
            if is_of_line(row):
                found[row["line"], code] += 1
            elif row["custom_id"] in jobs:
                self._check_failure(row, jobs[row["custom_id"]], asked, conditions, run)
        check(all(times == 1 for times in found.values()), "a broken line stands twice", found)
        last = lines[-1].number if lines and conditions.limit else 1 << 30
        check({line for line in found if line[0] <= last} == broken, "broken lines", set(found), broken)

    def _check_failure(
        self, row: JSON, job: JobLine, asked: Counter[str], conditions: RunConditions, run: RunRecord
    ) -> None:
        code, name = row["error"]["code"], row["custom_id"]
        check(row["id"] == job.fingerprint, "a failure of another request", name)
        if code == "rejected":
            check(job.is_rejected and row.get("own_fault"), "rejected", name, row["error"])
            return
        check(code in TRANSIENT_CODES, "a code of failure", code)
        tries = asked[identity(job.path, job.body or {}).hex()]
        known = tries >= conditions.max_attempts or not self._was_evidently_down(
            _ended_at(row) - EPOCH_S, run, conditions
        )
        check(known, "given up because of an outage", name, code, tries)
        said = f"the last of {conditions.max_attempts} failed attempts"
        check(conditions.max_attempts == 1 or said in row["error"]["message"], "what it says", row["error"])

    def _was_evidently_down(self, at: float, run: RunRecord, conditions: RunConditions) -> bool:
        """Whether so many requests of several jobs had failed by then that the outage was evident.

        With fewer attempts than by default a job may fail before that.
        """
        if conditions.max_attempts < 6:
            return False
        for outage in self.world.provider.settings.outages:
            if outage.from_s <= at < outage.to_s + 1:
                failed = [name for sent_at, name, _ in run.sent if outage.from_s < run.began_at + sent_at < at]
                return len(set(failed)) > 1 and len(failed) > 10 + conditions.concurrency
        return False


def lines_within_limit(file: JobFile, limit: int | None) -> list[JobLine]:
    """The lines that hold something, as far as they are asked for."""
    return [line for line in file.lines if line.body is not None or line.code][:limit]


def check_shape(row: JSON) -> None:
    keys = list(row)
    check(keys[: len(ROW_FIELDS)] == ROW_FIELDS, "keys in their order", keys)
    more = keys[len(ROW_FIELDS) :]
    check(more == [key for key in OPTIONAL_FIELDS if key in more], "additions in their order", more)
    if row["timing"]:
        check(list(row["timing"]) == TIMING_FIELDS, "keys of the timing", row["timing"])
    if row["error"]:
        check(list(row["error"]) == ["code", "message"], "keys of the error", row["error"])
    if row["response"]:
        check(list(row["response"]) == ["status_code", "request_id", "body"], "keys of the response", row["response"])
    check(row["error"] is not None or row["usage"]["prompt_tokens"] > 0, "usage computed", row["usage"])


def is_of_line(row: JSON) -> bool:
    """Whether the row is of a line that is no job."""
    return row["timing"] is None and row["error"]["code"] in {
        "invalid_json",
        "not_an_object",
        "invalid_job",
        "not_utf8",
        "line_too_long",
        "duplicate_custom_id",
    }


def _names(rows: list[JSON]) -> set[Name]:
    return {(row["custom_id"], row["id"]) for row in rows}


def _by_id(rows: list[JSON]) -> dict[str, JSON]:
    found = {row["custom_id"]: row for row in rows}
    twice = [name for name, times in Counter(row["custom_id"] for row in rows).items() if times > 1]
    check(not twice, "a job stands twice", twice)
    return found


def _ended_at(row: JSON) -> float:
    timing = row["timing"]
    return float(datetime.fromisoformat(timing["started_at"]).timestamp() + timing["total_s"])
