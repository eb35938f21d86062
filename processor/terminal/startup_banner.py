"""The banner: what a run is about to do."""

from __future__ import annotations

from processor.core.fast_dataclass import dataclass
from processor.terminal.formatting import plural
from processor.terminal.label_table import BLANK, LabelRow

MAX_LINE_NUMBERS_SHOWN = 5


@dataclass(frozen=True, slots=True, kw_only=True)
class Damage:
    """Lines of an output file that are not rows."""

    file: str
    count: int
    line_numbers: tuple[int, ...]
    """The first of them."""
    kept_in: str
    """The file that they were moved to."""


@dataclass(frozen=True, slots=True, kw_only=True)
class EndpointShown:
    """Where requests go."""

    name: str | None = None
    """None where the run has only one endpoint."""
    address: str
    key_from: str | None
    """The environment variable that holds the key, with what is to be known of it."""
    address_from: str | None = None
    """The file of the working folder that chose the address."""
    local_model: str | None = None
    """The file of a model that the run serves itself."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Banner:
    """What the banner says. ``rpm``, ``tpm``, ``concurrency``: as configured, None where they are not."""

    source: str
    """Path of the job file; ``-`` is stdin."""
    jobs: int | None
    """Jobs in it, within ``--limit``; None where the number is unknown."""
    done: int | None = None
    """Of these, how many have a reply that is kept; None where the file was not compared with the results."""
    failed_permanently: int = 0
    """Of these, how many have a failed row that stands."""
    not_jobs: int = 0
    """Of these, how many lines are no job."""
    to_send: int | None = None
    """Of these, how many will be sent; None as for ``done``."""
    earlier_replies: int = 0
    """Replies in the results file."""
    results: str
    """Path or address of the results; ``-`` is stdout."""
    journal: str | None = None
    """Path of the results file that is published at the address; None where there is none."""
    endpoints: tuple[EndpointShown, ...]
    concurrency: int | None
    rpm: float | None = None
    tpm: float | None = None
    own_limits: tuple[str, ...] = ()
    """Models with limits of their own."""
    in_batches: bool = False
    """The jobs are sent through a batch API, to which the limits do not apply."""
    simulated: bool = False
    is_awaited: bool = False
    """The jobs are to be typed: stdin is a terminal."""
    damage: tuple[Damage, ...] = ()
    possibly_billed: int = 0
    """Requests that an earlier run had in flight when it was killed."""
    warnings: tuple[str, ...] = ()
    workers: str | None = None
    """The workers that send the requests; None where the run does it itself."""


def warning_rows(banner: Banner) -> list[LabelRow]:
    """The rows that ``--quiet`` leaves."""
    return [LabelRow("warning", text, "warning") for text in _warnings(banner)]


def banner_rows(banner: Banner) -> list[LabelRow]:
    return [
        LabelRow("jobs", _jobs(banner)),
        *_endpoints(banner),
        *([LabelRow("workers", banner.workers)] if banner.workers else []),
        LabelRow("limits", _limits(banner)),
        *_results(banner),
        *warning_rows(banner),
        BLANK,
    ]


def _jobs(banner: Banner) -> str:
    source = "stdin" if banner.source == "-" else banner.source
    if banner.is_awaited:
        return f"{source}: type or paste jobs, one a line, and end with Ctrl-D"
    counted = source if banner.jobs is None else f"{source}: {plural(banner.jobs, 'job')}"
    if banner.to_send is None:
        return counted + (f", {_earlier_replies(banner)}" if banner.earlier_replies else "")
    parts = [
        counted,
        f"{banner.done:,} already done" if banner.done else "",
        f"{banner.failed_permanently:,} failed permanently" if banner.failed_permanently else "",
        f"{banner.not_jobs:,} invalid" if banner.not_jobs else "",
        f"{banner.to_send or 'nothing':{',' if banner.to_send else ''}} to do",
    ]
    return ", ".join(part for part in parts if part)


def _earlier_replies(banner: Banner) -> str:
    replies = plural(banner.earlier_replies, "reply", "replies")
    return f"{replies} of earlier runs; to do: not known yet"


def _endpoints(banner: Banner) -> list[LabelRow]:
    if banner.simulated:
        return [LabelRow("endpoint", "built-in simulator: no data leaves this machine, nothing is billed")]
    several = len(banner.endpoints) > 1
    return [
        LabelRow(("endpoints" if several else "endpoint") if at == 0 else "", _endpoint(endpoint))
        for at, endpoint in enumerate(banner.endpoints)
    ]


def _endpoint(endpoint: EndpointShown) -> str:
    if endpoint.local_model:
        return f"{endpoint.local_model} on this machine, nothing is billed; the model names of the jobs are ignored"
    name = f"{endpoint.name}: " if endpoint.name else ""
    key = f"key from {endpoint.key_from}" if endpoint.key_from else "no key"
    chosen_by = f" (chosen by {endpoint.address_from})" if endpoint.address_from else ""
    return f"{name}{endpoint.address}{chosen_by}, {key}"


def _limits(banner: Banner) -> str:
    if banner.in_batches:
        return "those of the provider for batches"
    limits = [
        f"{limit:,.0f} {unit}"
        for limit, unit in ((banner.rpm, "requests"), (banner.tpm, "tokens"))
        if limit is not None
    ]
    per_minute = " and ".join(limits) + " a minute" if limits else "none configured, the server's are detected"
    own_limits = f"; own limits for {', '.join(banner.own_limits)}" if banner.own_limits else ""
    in_flight = f"; at most {banner.concurrency:,} in flight" if banner.concurrency else ""
    return f"{per_minute}{own_limits}{in_flight}"


def _results(banner: Banner) -> list[LabelRow]:
    if banner.results == "-":
        return [LabelRow("results", "stdout, so a stopped run cannot be resumed", "warning")]
    journal = [] if banner.journal is None else [LabelRow("journal", banner.journal)]
    return [LabelRow("results", banner.results), *journal]


def _warnings(banner: Banner) -> list[str]:
    warnings = [*banner.warnings, *(_damaged(damage) for damage in banner.damage)]
    if banner.possibly_billed:
        requests = plural(banner.possibly_billed, "request")
        warnings.append(f"{requests} of an earlier run may have been billed without a reply")
    return warnings


def _damaged(damage: Damage) -> str:
    shown = damage.line_numbers[:MAX_LINE_NUMBERS_SHOWN]
    more = ", ..." if damage.count > len(shown) else ""
    numbers = f"{'line' if damage.count == 1 else 'lines'} {', '.join(map(str, shown))}{more}"
    lines = plural(damage.count, "damaged line")
    return f"{lines} in {damage.file} ({numbers}), moved to {damage.kept_in}; these jobs will be sent again"
