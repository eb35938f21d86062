"""Refused and repeated requests by kind: how many, and when. From the history."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from processor.core.text import one_line
from processor.report.chart import COLOURS, Chart, base
from processor.report.columns_chart import columns_layer
from processor.report.data import ReportData, Section
from processor.report.html import Html
from processor.report.run_history import Period, periods_of, summed
from processor.report.table import number, table, text

MAX_KINDS = len(COLOURS)
MAX_KIND_CHARS = 40


def refusals_section(data: ReportData) -> Section | None:
    periods = periods_of(data.runs)
    refused = summed(period.refused for period in periods)
    retried = summed(period.retried for period in periods)
    if not refused and not retried:
        return None
    content: list[Html | Chart] = []
    for caption, heading, sums in (
        ("Responses that were no reply, by status code", "status", refused),
        ("Requests sent again, by the error before", "error", retried),
    ):
        if sums:
            kinds = sorted(sums, key=lambda kind: (-sums[kind], kind))
            rows = [(one_line(kind, MAX_KIND_CHARS), int(sums[kind])) for kind in kinds]
            content.append(table(caption, (text(heading), number("requests")), rows))
    if retried and len(periods) > 1:
        content.append(_over_time(periods, retried, lambda period: period.retried))
    return Section(name="refusals", title="Refusals and retries", content=tuple(content))


def _over_time(
    periods: Sequence[Period], sums: Mapping[str, float], choose: Callable[[Period], Mapping[str, int]]
) -> Chart:
    title = "Requests sent again, by the reason"
    kinds = sorted(sums, key=lambda kind: -sums[kind])[:MAX_KINDS]
    total = int(sum(sums.values()))
    message = f"{total:,} in all, most of them {one_line(kinds[0], MAX_KIND_CHARS)} ({int(sums[kinds[0]]):,})."
    colours = {one_line(kind, MAX_KIND_CHARS): COLOURS[at] for at, kind in enumerate(kinds)}
    amounts = [
        {one_line(kind, MAX_KIND_CHARS): float(count) for kind, count in choose(period).items()} for period in periods
    ]
    layer = columns_layer(periods, amounts, colours, what="requests", number_format=",d")
    spec = {**base(title, message, [], height=120), **layer}
    rows = [(one_line(kind, MAX_KIND_CHARS), int(sums[kind])) for kind in kinds]
    columns = (text("reason"), number("requests"))
    return Chart(name="retries", title=title, message=message, spec=spec, table=table(title, columns, rows))
