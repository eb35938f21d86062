"""The first lines: what is about to happen."""

from __future__ import annotations

from dataclasses import dataclass

from processor.terminal.formatting import plural
from processor.terminal.label_table import BLANK, LabelRow

NAMED_LINES = 5


@dataclass(frozen=True, slots=True, kw_only=True)
class Damage:
    """Lines of a file of ours that were no rows."""

    file: str
    count: int
    numbers: tuple[int, ...]
    """The first of them."""
    kept_aside: str
    """Where they are now."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Banner:
    source: str
    """The job file as it was named; ``-`` is stdin."""
    jobs: int | None
    """Jobs in it, within ``--limit``; None where it cannot be known."""
    done: int
    """Of these, how many have their reply already."""
    results: str
    """``-`` is stdout."""
    endpoint: str
    key_from: str | None
    """The variable the key came from."""
    concurrency: int | None
    """At most so many requests in flight, where somebody said so."""
    rpm: float | None = None
    tpm: float | None = None
    """The limits configured for jobs in general."""
    own_limits: tuple[str, ...] = ()
    """Models with limits of their own."""
    simulated: bool = False
    damage: tuple[Damage, ...] = ()
    maybe_billed: int = 0
    """Requests that were in flight when an earlier run ended without a word."""
    warnings: tuple[str, ...] = ()


def rows(opening: Banner) -> list[LabelRow]:
    return [
        LabelRow("jobs", _jobs(opening)),
        LabelRow("to", _endpoint(opening)),
        LabelRow("limits", _limits(opening)),
        _results(opening),
        *(LabelRow("warning", text, "warning") for text in _warnings(opening)),
        BLANK,
    ]


def _jobs(opening: Banner) -> str:
    source = "stdin" if opening.source == "-" else opening.source
    if opening.jobs is None:
        return source + (f", {opening.done:,} done already" if opening.done else "")
    counted = f"{source}: {plural(opening.jobs, 'job')}"
    if not opening.done:
        return counted
    left = opening.jobs - opening.done
    return f"{counted}, {opening.done:,} done already, {f'{left:,}' if left else 'nothing'} to do"


def _endpoint(opening: Banner) -> str:
    if opening.simulated:
        return "the simulator: nothing leaves this machine, nobody is billed"
    key = f"key from {opening.key_from}" if opening.key_from else "without a key"
    return f"{opening.endpoint}, {key}"


def _limits(opening: Banner) -> str:
    limits = [
        f"{limit:,.0f} {of}" for limit, of in ((opening.rpm, "requests"), (opening.tpm, "tokens")) if limit is not None
    ]
    minute = " and ".join(limits) + " a minute" if limits else "none configured, the server's are found out"
    own = f", apart from {', '.join(opening.own_limits)}" if opening.own_limits else ""
    in_flight = f"; at most {opening.concurrency:,} in flight" if opening.concurrency else ""
    return f"{minute}{own}{in_flight}"


def _results(opening: Banner) -> LabelRow:
    if opening.results == "-":
        return LabelRow("results", "stdout, without a journal: a run that stops cannot go on", "warning")
    return LabelRow("results", opening.results)


def _warnings(opening: Banner) -> list[str]:
    warnings = list(opening.warnings)
    warnings += [_damaged(damage) for damage in opening.damage]
    if opening.maybe_billed:
        requests = plural(opening.maybe_billed, "request")
        warnings.append(f"{requests} of an earlier run may have been billed without a reply")
    return warnings


def _damaged(damage: Damage) -> str:
    named = damage.numbers[:NAMED_LINES]
    more = ", ..." if damage.count > len(named) else ""
    where = f"{'line' if damage.count == 1 else 'lines'} {', '.join(map(str, named))}{more}"
    what = plural(damage.count, "damaged line")
    return f"{what} in {damage.file} ({where}), kept in {damage.kept_aside}: what had these rows is done again"
