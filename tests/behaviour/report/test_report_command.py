"""``process report``: a page with all numbers, which shows no more of people's texts than was asked for."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from html import unescape
from html.parser import HTMLParser
from pathlib import Path

import pytest

from processor.report.data import ReportOptions
from processor.report.make_report import make_report
from tests.support.cli_world import ProgramResult
from tests.support.packages import package
from tests.support.report_rows import failed_row, reply_row, write_rows
from tests.support.slow_cases import slow_except

Run = Callable[..., ProgramResult]

HOSTILE = '<img src=x onerror="alert(1)">\u202e</script><script>alert(2)</script>'


class Elements(HTMLParser):
    """The elements of a page, and the text in it that a reader sees."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.found: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self._inside: list[str] = []
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found.append((tag, dict(attrs)))
        self._inside.append(tag)

    def handle_endtag(self, tag: str) -> None:
        self._inside.pop()

    def handle_data(self, data: str) -> None:
        if not {"script", "style"} & set(self._inside[-1:]):
            self.text += data + " "


@pytest.fixture
def results(tmp_path: Path) -> Path:
    write_rows(tmp_path / "r.errors.jsonl", [failed_row(number, message="secret prompt") for number in range(201, 211)])
    return write_rows(tmp_path / "r.jsonl", [reply_row(number) for number in range(1, 201)])


def report(results: Path, options: ReportOptions | None = None) -> str:
    out = results.with_name("page.html")
    make_report(results, out, options or ReportOptions())
    return out.read_text(encoding="utf-8")


@pytest.mark.usefixtures("without_charts")
def test_page_without_the_extra_has_all_numbers_and_says_how_to_get_charts(results: Path) -> None:
    page = report(results)
    text = " ".join(Elements(page).text.split())
    for part in ("200", "95% of 210 rows", "10 rejected", "20,100", "0.20 USD", "pip install 'processor[report]'"):
        assert part in text
    assert "<svg" not in page
    assert "script-src 'none'" in unescape(page)


@pytest.mark.usefixtures("without_charts")
def test_texts_of_people_stand_in_the_page_only_on_request(results: Path, tmp_path: Path) -> None:
    jobs = tmp_path / "jobs.jsonl"
    jobs.write_text("".join(f'{{"prompt": "prompt {number}"}}\n' for number in range(1, 211)))
    page = report(results)
    assert "secret prompt" in page
    assert "reply 200" not in page
    assert "prompt 200" not in page
    assert "secret prompt" not in report(results, ReportOptions(with_messages=False))
    page = report(results, ReportOptions(with_text=True, input_path=jobs))
    assert "reply 200" in page
    assert "prompt 200" in page
    assert "prompt 205" in page


@pytest.mark.usefixtures("without_charts")
def test_messages_are_cut_to_120_characters(tmp_path: Path) -> None:
    results = write_rows(tmp_path / "r.jsonl", [reply_row(1)])
    write_rows(tmp_path / "r.errors.jsonl", [failed_row(2, message="x" * 500)])
    assert max(map(len, re.findall("x+…?", report(results)))) == 120


@pytest.mark.parametrize("has_charts", slow_except([False, True], False))
def test_texts_of_strangers_are_text(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, has_charts: bool) -> None:
    if has_charts:
        package("vl_convert")
        package("itables")
    else:
        monkeypatch.setattr("processor.report.assets.find_spec", lambda name: None)
    plain = write_rows(tmp_path / "plain.jsonl", [reply_row(number) for number in range(1, 4)])
    write_rows(tmp_path / "plain.errors.jsonl", [failed_row(5)])
    names = {"custom_id": HOSTILE, "asked_model": HOSTILE, "endpoint": HOSTILE}
    hostile = write_rows(tmp_path / "hostile.jsonl", [reply_row(1), reply_row(2), reply_row(3, **names)])
    write_rows(tmp_path / "hostile.errors.jsonl", [failed_row(5, HOSTILE, HOSTILE, **names)])
    page = report(hostile)
    tags = [tag for tag, _ in Elements(page).found]
    assert "img" not in tags
    assert tags.count("script") == [tag for tag, _ in Elements(report(plain)).found].count("script")
    assert not [name for _, attributes in Elements(page).found for name in attributes if name.startswith("on")]
    assert "\u202e" not in page
    assert "\\u202e" not in page


def test_page_with_charts_loads_nothing_and_stays_small(results: Path) -> None:
    package("vl_convert")
    package("itables")
    page = report(results)
    elements = Elements(page)
    assert len(page.encode()) < 3_000_000
    assert not [tag for tag, attributes in elements.found if "src" in attributes]
    links = [attributes["href"] or "" for _, attributes in elements.found if "href" in attributes]
    assert all(link.startswith(("#", "data:,")) for link in links)
    assert page.count("<svg") >= 8
    assert "Redistribution and use" in elements.text


@pytest.mark.slow
def test_page_of_a_long_night_stays_small(tmp_path: Path) -> None:
    package("vl_convert")
    package("itables")
    begin = datetime(2026, 1, 1, tzinfo=UTC)
    rows = []
    for number in range(6000):
        started_at = (begin + timedelta(seconds=6 * number)).isoformat()
        timing = {"started_at": started_at, "queued_s": 0.1, "first_token_s": 0.2, "total_s": 1 + number % 97 / 7}
        rows.append(reply_row(1 + number, custom_id=f"{'long-id-' * 6}{number}", timing=timing))
    results = write_rows(tmp_path / "r.jsonl", rows)
    failures = [failed_row(number, f"code_{number % 9}", "long message " * 20) for number in range(6000, 9000)]
    write_rows(tmp_path / "r.errors.jsonl", failures)
    lines: list[dict[str, object]] = [{"run": "a", "started_at": begin.isoformat(), "command": "process jobs.jsonl"}]
    for number in range(1, 601):
        bound_by = {name: float(5 + number % 7) for name in ("tokens", "requests", "in_flight", "cool_down", "nothing")}
        lines.append(
            {
                "run": "a",
                "time": (begin + timedelta(minutes=number)).isoformat(),
                "seconds": 60.0,
                "requests": 400 + number % 31,
                "tokens": {"reserved": 9000 + number},
                "limits": {"g": {"rpm": 500, "tpm": 10_000}},
                "bound_by_s": bound_by,
                "retried": dict.fromkeys(("rate_limited", "server_error", "stream_truncated"), 1 + number % 5),
            }
        )
    (tmp_path / "r.history.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    assert len(report(results).encode()) < 3_000_000


@pytest.mark.usefixtures("without_charts")
@pytest.mark.parametrize("rows", [0, 1, 2])
def test_page_of_few_rows_is_written(tmp_path: Path, rows: int) -> None:
    page = report(write_rows(tmp_path / "r.jsonl", [reply_row(number) for number in range(rows)]))
    assert "<h1>Report on r.jsonl</h1>" in page


@pytest.mark.usefixtures("without_charts")
def test_command_writes_the_page_beside_the_results(tmp_path: Path, run_inside: Run) -> None:
    write_rows(tmp_path / "r.jsonl", [reply_row(1)])
    result = run_inside("report", "r.jsonl")
    assert (result.code, result.err) == (0, "")
    charts = "charts need two more packages: pip install 'processor[report]'"
    assert result.out == f"r.report.html: 1 reply, 0 failed; {charts}\n"
    assert (tmp_path / "r.report.html").stat().st_size > 3000
    for args, error in (
        (("report", "missing.jsonl"), "there is no results file missing.jsonl"),
        (("report", "r.jsonl", "--out", "none/page.html"), "cannot write the report none/page.html"),
        (("report", "r.jsonl", "--with-input", "none.jsonl"), "cannot read none.jsonl"),
        (("report", "r.report.html"), "r.report.html is not a results file"),
    ):
        result = run_inside(*args)
        assert result.code == 2
        assert error in result.error
