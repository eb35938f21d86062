"""The page in Debian's Chromium: drawn, sorted, searched, and safe, also where scripts or styles are forbidden.

Needs ``pip install playwright`` and the package ``chromium`` of the system: run with ``-m browser``.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from html import escape
from pathlib import Path
from typing import Any

import pytest

from processor.report.data import ReportOptions
from processor.report.make_report import make_report
from tests.support.report_rows import failed_row, reply_row, write_rows

pytestmark = [pytest.mark.browser, pytest.mark.process]

CHROMIUM = Path("/usr/bin/chromium")
ATTACK = "<img src=x onerror=\"document.title='attacked'\">"
DRAWN = """document.querySelectorAll(".drawing").length > 5 &&
    [...document.querySelectorAll(".drawing")].every((one) => one.querySelector(".vega-embed svg") &&
        !one.querySelector(":scope > svg"))"""


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    playwright = pytest.importorskip("playwright.sync_api")
    if not CHROMIUM.exists():
        pytest.skip("there is no Chromium")
    with playwright.sync_playwright() as started:
        browser = started.chromium.launch(executable_path=str(CHROMIUM), args=["--no-sandbox"])
        yield browser
        browser.close()


@pytest.fixture(scope="module")
def page_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    pytest.importorskip("vl_convert")
    folder = tmp_path_factory.mktemp("report")
    names = {"custom_id": ATTACK, "asked_model": ATTACK, "endpoint": ATTACK}
    results = write_rows(
        folder / "r.jsonl", [*(reply_row(number) for number in range(1, 300)), reply_row(300, **names)]
    )
    failures = [failed_row(number, f"code{number % 3}", f"message {number}") for number in range(400, 450)]
    write_rows(
        folder / "r.errors.jsonl",
        [*failures, failed_row(500, ATTACK, ATTACK, **{**names, "custom_id": f"failed {ATTACK}"})],
    )
    make_report(results, folder / "page.html", ReportOptions())
    return folder / "page.html"


class Tab:
    """A page with what its console said and what it asked the network for."""

    def __init__(self, browser: Any, path: Path, **context: Any) -> None:
        self.page = browser.new_context(**context).new_page()
        self.messages: list[str] = []
        self.requests: list[str] = []
        self.page.on("console", lambda message: self.messages.append(message.text))
        self.page.on("pageerror", lambda error: self.messages.append(str(error)))
        self.page.on("request", lambda request: self.requests.append(request.url))
        self.page.goto(path.as_uri())


@pytest.mark.parametrize("colours", ["light", "dark"])
@pytest.mark.parametrize("width", [390, 1280])
def test_page_is_drawn_without_an_error_or_a_request(browser: Any, page_file: Path, width: int, colours: str) -> None:
    tab = Tab(browser, page_file, viewport={"width": width, "height": 900}, color_scheme=colours)
    tab.page.wait_for_function(DRAWN)
    assert tab.messages == []
    assert tab.requests == [page_file.as_uri()]
    assert tab.page.evaluate("document.documentElement.scrollWidth") <= width
    assert tab.page.title() == "Report on r.jsonl"
    assert tab.page.locator("img").count() == 0


def test_failed_jobs_are_searched_and_sorted(browser: Any, page_file: Path) -> None:
    page = Tab(browser, page_file, viewport={"width": 1280, "height": 900}).page
    rows = page.locator("#failed table.searched tbody tr")
    page.wait_for_selector("#failed .dt-search input")
    assert rows.count() == 10
    page.fill("#failed .dt-search input", "message 417")
    assert rows.all_inner_texts()[0].startswith("job-417")
    assert rows.count() == 1
    page.fill("#failed .dt-search input", "")
    heading = page.locator("#failed table.searched th", has_text="line")
    heading.click()
    heading.click()
    assert rows.all_inner_texts()[0].split("\t")[1] == "500"
    page.fill("#failed .dt-search input", "onerror")
    assert rows.count() == 1
    assert page.title() == "Report on r.jsonl"


def test_page_without_scripts_says_everything(browser: Any, page_file: Path) -> None:
    page = Tab(browser, page_file, java_script_enabled=False).page
    assert page.locator(".drawing > svg").count() > 5
    assert page.locator("#failed table.searched tbody tr").count() == 51
    assert "message 417" in page.locator("#failed").inner_text()


@pytest.mark.parametrize("policy", ["script-src 'none'", "default-src 'none'"])
def test_page_is_readable_where_scripts_or_styles_are_forbidden(
    browser: Any, page_file: Path, tmp_path: Path, policy: str
) -> None:
    strict = f'<meta http-equiv="Content-Security-Policy" content="{escape(policy)}">'
    copy = tmp_path / "strict.html"
    copy.write_text(page_file.read_text(encoding="utf-8").replace("<head>", f"<head>{strict}", 1), encoding="utf-8")
    tab = Tab(browser, copy)
    text = tab.page.locator("body").inner_text()
    assert "300" in text
    assert "message 417" in text
    assert tab.page.locator(".drawing > svg").count() > 5
    assert tab.requests == [copy.as_uri()]


def test_screen_reader_gets_headings_tables_and_descriptions(browser: Any, page_file: Path) -> None:
    page = Tab(browser, page_file).page
    page.wait_for_function(DRAWN)
    tree = page.locator("body").aria_snapshot()
    for part in ('heading "Report on r.jsonl" [level=1]', 'heading "Failed jobs" [level=2]', "navigation"):
        assert part in tree
    images = re.findall(r'img "([^"]+)"', tree)
    assert any(text.startswith("Seconds to the whole reply. Median") for text in images)
    assert len(images) < 50


def test_print_shows_folded_tables_and_no_controls(browser: Any, page_file: Path) -> None:
    page = Tab(browser, page_file).page
    page.wait_for_function(DRAWN)
    page.emulate_media(media="print")
    assert not page.get_by_label("Sections", exact=True).is_visible()
    assert not page.locator("#failed .dt-search").is_visible()
    assert len(page.pdf()) > 10_000
