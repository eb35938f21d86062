"""How an output stands, for a person and as JSON."""

from __future__ import annotations

from processor.core import exit_codes
from processor.core.models import JSON
from processor.report.run_history import Period
from processor.report.run_state import RunState
from processor.report.sections.limits import BOUND_BY
from processor.terminal.formatting import abbreviated, duration, percent, plural, workers_text
from processor.terminal.label_table import LabelRow


def status_rows(state: RunState) -> list[LabelRow]:
    """Return the rows with labels that a person reads."""
    entries = [("state", _state(state)), ("replies", f"{state.replies:,}"), ("failed", f"{state.failures:,}")]
    if state.open_batches:
        batches = plural(state.open_batches, "batch", "batches")
        entries.append(("open", f"{batches} with {plural(state.jobs_in_batches, 'job')}: see process batch list"))
    if (last := state.last) is not None:
        entries += [
            ("speed", f"{plural(last.requests, 'request')} in the last {duration(last.seconds)}"),
            ("in flight", f"{last.in_flight:,}"),
            ("workers", workers_text(last.in_flight_by_worker, last.lost_workers)),
            ("limits", _limits(last)),
            ("bound by", _bound_by(last)),
        ]
        entries += [("outage", f"{endpoint}: {message}") for endpoint, message in last.outages.items()]
    if state.run is not None:
        entries.append(("command", state.run.command))
    return [LabelRow(label, text) for label, text in entries if text]


def _state(state: RunState) -> str:
    if state.age_s is None:
        return "nothing is written yet"
    written = f"last written {duration(state.age_s)} ago"
    match state.phase:
        case "at_work":
            return f"at work, {written}"
        case "killed":
            return f"killed: its process is gone, {written}; run the same command again to resume"
        case "ended" if state.run is not None and (code := state.run.exit_code) is not None:
            return f"{_ENDINGS.get(code, 'ended')} (exit code {code}), {written}"
    return f"no run has written lately, {written}"


_ENDINGS = {
    exit_codes.COMPLETE: "complete",
    exit_codes.INCOMPLETE: "ended, some jobs have no reply",
    exit_codes.STOPPED: "stopped early, run the same command again to resume",
    exit_codes.INTERRUPTED: "interrupted, run the same command again to resume",
    exit_codes.INTERNAL_ERROR: "ended by an internal error",
}
"""By exit code of the last run."""


def _limits(last: Period) -> str:
    limits = ((last.rpm, "requests"), (last.tpm, "tokens"))
    known = [f"{abbreviated(limit)} {unit} a minute" for limit, unit in limits if limit]
    return ", ".join(known) or "none known"


def _bound_by(last: Period) -> str:
    total_s = sum(last.bound_by_s.values())
    spent = sorted(last.bound_by_s.items(), key=lambda item: -item[1])[:3]
    return ", ".join(f"{BOUND_BY.get(name, 'other')} {percent(spent_s / total_s)}" for name, spent_s in spent)


def status_json(state: RunState) -> JSON:
    """Return the same for a program. Times are in seconds."""
    last = state.last
    return {
        "replies": state.replies,
        "failed": state.failures,
        "open_batches": state.open_batches,
        "jobs_in_batches": state.jobs_in_batches,
        "phase": state.phase,
        "exit_code": state.run.exit_code if state.run else None,
        "may_be_at_work": state.may_be_at_work,
        "age_s": state.age_s,
        "started_at": state.run.started_at if state.run else None,
        "command": state.run.command if state.run else None,
        "last_minute": None
        if last is None
        else {
            "end": last.end,
            "seconds": last.seconds,
            "requests": last.requests,
            "tokens": last.tokens,
            "in_flight": last.in_flight,
            "in_flight_by_worker": dict(last.in_flight_by_worker),
            "lost_workers": last.lost_workers,
            "rpm": last.rpm,
            "tpm": last.tpm,
            "bound_by_s": dict(last.bound_by_s),
            "outages": dict(last.outages),
        },
    }
