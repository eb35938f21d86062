"""How it stands, in a few numbers."""

from __future__ import annotations

from processor.core.money import dollars, usd
from processor.report.data import ReportData, Section
from processor.report.html import Html, element, join
from processor.terminal.formatting import abbreviated, duration, percent, plural


def overview_section(data: ReportData) -> Section:
    return Section(name="numbers", title="Numbers", content=(join(*_state(data)), _tiles(data)))


def _state(data: ReportData) -> list[Html]:
    rows = data.rows
    if rows.rows == 0:
        return [element("p", "There are no rows yet.", class_="state warn")]
    if not rows.failed:
        return [element("p", f"All {plural(rows.replies, 'job')} with a row have their reply.", class_="state good")]
    lines = [
        element("p", f"{plural(rows.failed, 'job')} of {rows.rows:,} failed and have no reply.", class_="state warn")
    ]
    if data.command:
        lines.append(element("p", "To go on: ", command_line(data.command)))
    return lines


def command_line(command: str) -> Html:
    """A command to copy."""
    return element("span", element("code", command), class_="command")


def _tiles(data: ReportData) -> Html:
    return element("ul", *(_tile(*tile) for tile in _numbers(data)), class_="tiles")


def _tile(label: str, value: str, detail: str | None) -> Html:
    small = element("span", detail, class_="detail") if detail else None
    return element("li", element("span", label, class_="label"), " ", element("strong", value), " ", small)


def _numbers(data: ReportData) -> list[tuple[str, str, str | None]]:
    rows = data.rows
    share = percent(rows.replies / rows.rows) if rows.rows else None
    tiles: list[tuple[str, str, str | None]] = [
        ("Replies", f"{rows.replies:,}", f"{share} of {plural(rows.rows, 'row')}" if share else None),
        ("Failed", f"{rows.failed:,}", _failures(data)),
    ]
    if rows.first_start is not None and rows.last_end is not None:
        seconds = rows.last_end - rows.first_start
        tiles.append(("From first to last request", duration(seconds), _speed(rows.replies, seconds)))
    prompt = sum(counts.prompt_tokens for counts in rows.by_model.values())
    completion = sum(counts.completion_tokens for counts in rows.by_model.values())
    for label, tokens in (("Prompt tokens", prompt), ("Reply tokens", completion)):
        shown, exact = abbreviated(tokens), f"{tokens:,}"
        tiles.append((label, shown, exact if exact != shown else None))
    tiles.append(("Cost", *_cost(data)))
    extra = rows.attempts - rows.rows
    tiles.append(("Requests", f"{rows.attempts:,}", f"{extra:,} beyond one for each job" if extra > 0 else None))
    if rows.simulated:
        tiles.append(("Simulated", f"{rows.simulated:,}", "made up by the simulator"))
    return tiles


def _failures(data: ReportData) -> str | None:
    codes = data.rows.failures_by_code.most_common(3)
    return ", ".join(f"{count:,} {code}" for code, count in codes) or None


def _speed(replies: int, seconds: float) -> str | None:
    return f"{replies / seconds * 60:,.1f} replies a minute" if seconds > 0 else None


def _cost(data: ReportData) -> tuple[str, str | None]:
    rows = data.rows
    unknown = sorted({model for (model, _), counts in rows.by_model.items() if counts.unknown_cost})
    details = []
    if rows.cost_usd is not None and unknown:
        details.append(f"without {', '.join(unknown[:3])}{' and others' if len(unknown) > 3 else ''}")
    if rows.unconfirmed_cost_pico_usd:
        details.append(f"at most {dollars(usd(rows.unconfirmed_cost_pico_usd))} more for requests that broke off")
    shown = "unknown" if rows.cost_usd is None else dollars(rows.cost_usd)
    return shown, "; ".join(details) or None
