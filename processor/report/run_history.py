"""The history of the runs of one output, as a report and a status read it. Lines may be of any version, or damaged."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import field
from pathlib import Path
from typing import Any

from processor.core.fast_dataclass import dataclass
from processor.core.json_reading import fields_of, number_of, unix_time_of
from processor.core.models import JSON
from processor.stats.history_file import read_history

MAX_PERIODS = 180
"""More are merged: each is a column in four charts, and the page must stay small."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Period:
    """What happened in one part of a run, mostly a minute."""

    end: float
    """Unix time."""
    seconds: float
    done: int
    failed: int
    in_flight: int
    """At the end."""
    requests: int
    tokens: int
    """As reserved from the token limit."""
    rpm: float | None
    """The limits over all limit groups; None where one has none."""
    tpm: float | None
    bound_by_s: Mapping[str, float]
    refused: Mapping[str, int]
    retried: Mapping[str, int]
    cost_usd: float | None
    outages: Mapping[str, str]
    """The messages, by endpoint."""
    notices: tuple[str, ...]
    in_flight_by_worker: Mapping[str, int] = field(default_factory=dict)
    """At the end; empty where the run sends its requests itself."""
    lost_workers: int = 0
    """In the run up to then."""

    @property
    def begin(self) -> float:
        return self.end - self.seconds


@dataclass(slots=True, kw_only=True)
class RunRecord:
    """One run of the output."""

    started_at: float
    command: str
    version: str
    settings: Mapping[str, Any]
    limits: Mapping[str, Any]
    process: int | None = None
    """Process id."""
    host: str = ""
    exit_code: int | None = None
    """None where the run did not say that it ended."""
    periods: list[Period] = field(default_factory=list)

    @property
    def end(self) -> float:
        return self.periods[-1].end if self.periods else self.started_at


def read_runs(path: Path) -> list[RunRecord]:
    """Return the runs, the first one first; none where there is no history. Raises OSError."""
    runs: dict[str, RunRecord] = {}
    if path.exists():
        for line in read_history(path):
            if "started_at" in line:
                runs[line["run"]] = _run(line)
            elif (run := runs.get(line["run"])) is not None and (period := _period(line)) is not None:
                run.periods.append(period)
                run.exit_code = _whole(line.get("exit_code"))
    return list(runs.values())


def periods_of(runs: Sequence[RunRecord]) -> list[Period]:
    """Return the periods of all runs, merged to about MAX_PERIODS, in the order of time."""
    step = -(-sum(len(run.periods) for run in runs) // MAX_PERIODS) or 1
    return [_merged(run.periods[at : at + step]) for run in runs for at in range(0, len(run.periods), step)]


def _merged(periods: Sequence[Period]) -> Period:
    if len(periods) == 1:
        return periods[0]
    last = periods[-1]
    costs = [period.cost_usd for period in periods if period.cost_usd is not None]
    return Period(
        end=last.end,
        seconds=last.end - periods[0].begin,
        done=sum(period.done for period in periods),
        failed=sum(period.failed for period in periods),
        in_flight=last.in_flight,
        requests=sum(period.requests for period in periods),
        tokens=sum(period.tokens for period in periods),
        rpm=last.rpm,
        tpm=last.tpm,
        bound_by_s=summed(period.bound_by_s for period in periods),
        refused={name: int(count) for name, count in summed(period.refused for period in periods).items()},
        retried={name: int(count) for name, count in summed(period.retried for period in periods).items()},
        cost_usd=sum(costs) if costs else None,
        outages={name: text for period in periods for name, text in period.outages.items()},
        notices=tuple(notice for period in periods for notice in period.notices),
        in_flight_by_worker=last.in_flight_by_worker,
        lost_workers=last.lost_workers,
    )


def summed(mappings: Iterator[Mapping[str, float]]) -> dict[str, float]:
    """Return the sums by name."""
    sums: Counter[str] = Counter()
    for mapping in mappings:
        for name, value in mapping.items():
            sums[name] += value  # type: ignore[assignment]
    return dict(sums)


# ---------------------------------------------------------------- lines


def _run(line: JSON) -> RunRecord:
    return RunRecord(
        started_at=unix_time_of(line.get("started_at")) or 0.0,
        command=str(line.get("command") or ""),
        version=str(line.get("version") or ""),
        settings=fields_of(line.get("settings")),
        limits=fields_of(line.get("limits")),
        process=_whole(line.get("process")),
        host=str(line.get("host") or ""),
    )


def _period(line: JSON) -> Period | None:
    end = unix_time_of(line.get("time"))
    if end is None:
        return None
    limits = [fields_of(limit) for limit in fields_of(line.get("limits")).values()]
    workers = fields_of(line.get("workers"))
    return Period(
        end=end,
        seconds=max(_number(line.get("seconds")), 0.001),
        done=int(_number(line.get("done"))),
        failed=int(_number(line.get("failed"))),
        in_flight=int(_number(line.get("in_flight"))),
        requests=int(_number(line.get("requests"))),
        tokens=int(_number(fields_of(line.get("tokens")).get("reserved"))),
        rpm=_limit(limits, "rpm"),
        tpm=_limit(limits, "tpm"),
        bound_by_s=_numbers(line.get("bound_by_s")),
        refused={name: int(count) for name, count in _numbers(line.get("refused")).items()},
        retried={name: int(count) for name, count in _numbers(line.get("retried")).items()},
        cost_usd=None if line.get("cost_usd") is None else _number(line.get("cost_usd")),
        outages={name: str(text) for name, text in fields_of(line.get("outages")).items()},
        notices=tuple(str(notice) for notice in notices) if isinstance(notices := line.get("notices"), list) else (),
        in_flight_by_worker={name: int(_number(count)) for name, count in fields_of(workers.get("in_flight")).items()},
        lost_workers=int(_number(workers.get("lost"))),
    )


def _limit(limits: Sequence[JSON], name: str) -> float | None:
    values = [_number(limit.get(name)) for limit in limits]
    return sum(values) if values and all(values) else None


def _number(value: Any) -> float:
    return number_of(value) or 0.0


def _whole(value: Any) -> int | None:
    return value if type(value) is int and 0 <= value < 1 << 31 else None


def _numbers(value: Any) -> dict[str, float]:
    return {name: _number(number) for name, number in fields_of(value).items() if _number(number)}
