"""The examples of docs/library.md are complete and work as they are printed."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from processor.simulator.settings import INSTANT
from tests.support.cli_world import KEY, ROOT, Server
from tests.support.packages import package

PAGE = (ROOT / "docs" / "library.md").read_text(encoding="utf-8")


def examples(heading: str) -> list[str]:
    section = PAGE.partition(f"\n## {heading}\n")[2].partition("\n## ")[0]
    return re.findall(r"^```python\n(.*?)^```$", section, flags=re.MULTILINE | re.DOTALL)


def execute(heading: str, server: Server) -> dict[str, Any]:
    """Run the only example below a heading, and return its names."""
    (example,) = examples(heading)
    names: dict[str, Any] = {"__name__": "example"}
    exec(compile(at(server, example), heading, "exec", dont_inherit=True), names)
    return names


def at(server: Server, example: str) -> str:
    """The example as it is printed, but for the address of the server."""
    settings = 'processor.Settings(model="gpt-4o-mini"'
    assert settings in example
    return example.replace(settings, f'{settings}, base_url="{server.base_url}"')


@pytest.fixture(autouse=True)
def server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    server = Server(INSTANT)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    yield server
    server.close()


def test_list(server: Server, capsys: pytest.CaptureFixture[str]) -> None:
    execute("A list", server)
    assert sorted(line.split()[0] for line in capsys.readouterr().out.splitlines()) == ["Oslo", "Paris", "Rome"]
    assert len(server.requests) == 3


def test_generator_goes_on_with_its_journal(server: Server, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "questions.txt").write_text("Why?\nHow?\n")
    execute("A generator, and a journal", server)
    (tmp_path / "questions.txt").write_text("Why?\nHow?\nWhen?\n")
    execute("A generator, and a journal", server)
    assert len(server.requests) == 3
    assert sorted(capsys.readouterr().out.split("\n")) == ["", *(f"question-{number} 1" for number in (0, 0, 1, 1, 2))]


@pytest.mark.extras
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("heading", ["pandas", "polars"])
def test_frame(heading: str, server: Server, capsys: pytest.CaptureFixture[str]) -> None:
    package(heading)
    execute(heading, server)
    printed = capsys.readouterr().out
    assert len(server.requests) == 3
    assert "french" in printed
    assert "NaN" not in printed
    assert "null" not in printed


@pytest.mark.extras
@pytest.mark.filterwarnings("ignore")
def test_fastapi(server: Server) -> None:
    package("fastapi")
    package("httpx")
    from fastapi.testclient import TestClient

    with TestClient(execute("FastAPI", server)["app"]) as client:
        answers = [client.get("/ask", params={"question": f"Question {number}?"}) for number in range(3)]
        assert [answer.status_code for answer in answers] == [200] * 3
        assert all(answer.json()["answer"] for answer in answers)
        server.provider.settings = type(INSTANT)(auth="refused")
        assert client.get("/ask", params={"question": "More?"}).status_code == 503
    assert len(server.requests) == 4


@pytest.mark.slow
@pytest.mark.process
@pytest.mark.filterwarnings("ignore")
def test_notebook(server: Server) -> None:
    nbclient, nbformat = package("nbclient"), package("nbformat")
    package("ipykernel")
    cells = [nbformat.v4.new_code_cell(at(server, cell)) for cell in examples("A notebook")]
    book = nbformat.v4.new_notebook(cells=cells)
    nbclient.NotebookClient(book, timeout=60).execute()
    text, usage = (cell["outputs"][0]["data"]["text/plain"] for cell in book["cells"])
    assert len(text) > 2
    assert "prompt_tokens" in usage
    assert len(server.requests) == 2


@pytest.mark.slow
@pytest.mark.process
def test_pyright_finds_the_types_of_a_session() -> None:
    package("pyright")
    command = [sys.executable, "-m", "pyright", "--pythonpath", sys.executable, "tests/support/typed_session.py"]
    checked = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert checked.returncode == 0, checked.stdout


def test_page_has_an_example_of_each_kind() -> None:
    headings = ["A list", "A generator, and a journal", "pandas", "polars", "FastAPI", "A notebook"]
    assert all(examples(heading) for heading in headings)
