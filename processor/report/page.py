"""Puts the page together: one HTML file that loads nothing, and that a Content-Security-Policy keeps from loading."""

from __future__ import annotations

import json
from base64 import b64encode
from collections.abc import Sequence
from hashlib import sha256
from pathlib import Path

from processor.report import assets
from processor.report.assets import HOW_TO_GET_CHARTS, Library
from processor.report.chart import Chart, clock, zone_name
from processor.report.data import ReportData, Section
from processor.report.html import Html, element, escape, join
from processor.report.sections import SECTIONS
from processor.report.table import table, text

_FOLDER = Path(__file__).parent


def page(data: ReportData) -> str:
    """Return the page. Without the libraries of the extra it has no charts, and says how to get them."""
    sections = [section for make in SECTIONS if (section := make(data)) is not None]
    charts = [part for section in sections for part in section.content if isinstance(part, Chart)]
    drawings = assets.draw([chart.spec for chart in charts])
    if drawings is None:
        return _document(data, sections, {}, (), [])
    libraries = [library for library in (assets.chart_library(), assets.table_library()) if library]
    by_name = {chart.name: drawing for chart, drawing in zip(charts, drawings, strict=True)}
    return _document(data, sections, by_name, libraries, charts)


def _document(
    data: ReportData,
    sections: Sequence[Section],
    drawings: dict[str, str],
    libraries: Sequence[Library],
    charts: Sequence[Chart],
) -> str:
    scripts = [library.script for library in libraries] + ([_own("page.js")] if libraries else [])
    styles = [library.style for library in libraries if library.style] + [_own("page.css")]
    title = f"Report on {data.paths.replies.name}"
    head = join(
        element("meta", charset="utf-8"),
        element("meta", http_equiv="Content-Security-Policy", content=_policy(scripts)),
        element("meta", name="viewport", content="width=device-width, initial-scale=1"),
        element("meta", name="referrer", content="no-referrer"),
        element("meta", name="generator", content=f"process {data.version}"),
        element("link", rel="icon", href="data:,"),
        element("title", title),
        *(element("style", Html(style)) for style in styles),
    )
    body = join(
        element("header", element("h1", title), _subtitle(data), _contents(sections)),
        element("main", _lack_of_charts(sections, drawings), *(_section(section, drawings) for section in sections)),
        _licences(libraries),
        _data_block(charts) if libraries else None,
        *(element("script", Html(script), type="module") for script in scripts),
    )
    return f"<!DOCTYPE html>\n{element('html', element('head', head), element('body', body), lang='en')}\n"


def _own(name: str) -> str:
    return (_FOLDER / name).read_text(encoding="utf-8")


def _policy(scripts: Sequence[str]) -> str:
    """Only the scripts of this page run, and nothing is loaded. Styles in the page are allowed: charts set them."""
    hashes = [f"'sha256-{b64encode(sha256(script.encode()).digest()).decode()}'" for script in scripts]
    allowed = " ".join(hashes) or "'none'"
    nothing = "default-src 'none'; base-uri 'none'; form-action 'none'"
    return f"{nothing}; script-src {allowed}; style-src 'unsafe-inline'; img-src data:"


def _subtitle(data: ReportData) -> Html:
    rows = data.rows
    parts = [f"made {clock(data.created_at, seconds=False)} ({zone_name(data.created_at)})"]
    if rows.first_start is not None and rows.last_end is not None:
        first, last = clock(rows.first_start, seconds=False), clock(rows.last_end, seconds=False)
        parts.insert(0, f"requests from {first} to {last}")
    return element("p", ", ".join(parts), class_="subtitle")


def _contents(sections: Sequence[Section]) -> Html:
    links = (element("li", element("a", section.title, href=f"#{section.name}")) for section in sections)
    return element("nav", element("ul", *links), aria_label="Sections")


def _lack_of_charts(sections: Sequence[Section], drawings: dict[str, str]) -> Html | None:
    has_charts = any(isinstance(part, Chart) for section in sections for part in section.content)
    if drawings or not has_charts:
        return None
    return element(
        "p",
        "The numbers are complete; the charts need two more packages: ",
        element("code", HOW_TO_GET_CHARTS),
        class_="note",
    )


def _section(section: Section, drawings: dict[str, str]) -> Html:
    parts = (_figure(part, drawings) if isinstance(part, Chart) else part for part in section.content)
    heading = element("h2", section.title, id=f"{section.name}-heading")
    return element("section", heading, *parts, id=section.name, aria_labelledby=f"{section.name}-heading")


def _figure(chart: Chart, drawings: dict[str, str]) -> Html:
    drawing = drawings.get(chart.name)
    description = f"{chart.title}. {chart.message}"
    return element(
        "figure",
        element("figcaption", element("h3", chart.title), element("p", chart.message, class_="message")),
        element("div", Html(drawing), class_="drawing", id=f"drawing-{chart.name}", role="img", aria_label=description)
        if drawing
        else None,
        element("details", element("summary", "The same as a table"), chart.table, open=not drawing),
    )


def _data_block(charts: Sequence[Chart]) -> Html:
    written = json.dumps({chart.name: chart.spec for chart in charts}, separators=(",", ":"), ensure_ascii=True)
    # A text with `</script>` in it would end the block.
    return element("script", Html(written.replace("<", "\\u003c")), type="application/json", id="charts")


def _licences(libraries: Sequence[Library]) -> Html | None:
    if not libraries:
        return None
    columns = (text("in this page"), text("licence"))
    rows = [(library.name, element("pre", escape(library.licence))) for library in libraries]
    inner = table("Libraries whose code stands in this page", columns, rows)
    return element("footer", element("details", element("summary", "Licences"), inner))
