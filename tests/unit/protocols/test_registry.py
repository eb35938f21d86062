"""The table of protocols, whose files are imported when they are used."""

from __future__ import annotations

import subprocess
import sys

import pytest

from processor.protocols.registry import PROTOCOLS


@pytest.mark.parametrize("path", PROTOCOLS)
def test_path_of_a_line_is_that_of_its_class(path: str) -> None:
    assert PROTOCOLS[path].path == path
    assert PROTOCOLS[path] is PROTOCOLS[path]


@pytest.mark.process
def test_run_of_chat_jobs_imports_no_other_protocol() -> None:
    code = "import sys, processor.app.run; print(*sys.modules)"
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    package = "processor.protocols."
    loaded = {name.removeprefix(package) for name in run.stdout.split() if name.startswith(package)}
    assert "chat" in loaded
    assert loaded.isdisjoint({"completions", "embeddings", "moderations", "responses", "messages", "typed_events"})
