"""Commands that print a key: real processes."""

from __future__ import annotations

import asyncio
import os
import sys
import time
from pathlib import Path

import pytest

from processor.config.key_command import run_key_command
from processor.core.errors import KeyCommandFailed
from processor.core.secrets import Secret, mask_text

pytestmark = pytest.mark.process

KEY = "printed-key-of-nobody"


def printed_by(code: str, *args: str, timeout_s: float = 30.0) -> Secret:
    return asyncio.run(run_key_command((sys.executable, "-c", code, *args), timeout_s=timeout_s))


def failure(code: str, *, timeout_s: float = 30.0) -> str:
    with pytest.raises(KeyCommandFailed) as caught:
        printed_by(code, timeout_s=timeout_s)
    return str(caught.value)


@pytest.mark.parametrize(
    "code",
    [
        f"print('{KEY}')",
        f"print('{KEY}', end='')",
        f"print('Logging in ...'); print(); print('  {KEY}  '); print(); print()",
        f"import sys; print('x' * 3_000_000); print('é'); print('{KEY}'); print('a warning', file=sys.stderr)",
        f"import sys; assert sys.stdin.read() == ''; print('{KEY}')",
    ],
)
def test_last_line_of_the_output_is_the_key(code: str) -> None:
    assert printed_by(code) == Secret(KEY)


def test_key_is_masked_from_then_on() -> None:
    assert printed_by("print('masked-key-of-' + 'nobody')").is_masked
    assert mask_text("refused: masked-key-of-nobody") == "refused: •••"


def test_arguments_are_not_read_by_a_shell() -> None:
    assert printed_by("import sys; print(len(sys.argv) * 'a' + sys.argv[1])", "$(id)&&;|", "*") == Secret(
        "aaa$(id)&&;|"
    )


@pytest.mark.parametrize(
    ("code", "message"),
    [
        (f"print('{KEY}'); raise SystemExit(3)", "failed with exit code 3; run it by hand to see why"),
        ("pass", "printed nothing; run it by hand to see why"),
        ("print(' '); print()", "printed nothing; run it by hand to see why"),
        ("print('Please log in first')", "is no key: it must be printable ASCII without spaces"),
        ("print('kéy')", "is no key: it must be printable ASCII without spaces"),
        ("print('k' * 100_000)", "is no key: it must be printable ASCII without spaces"),
    ],
)
def test_command_that_prints_no_key_has_failed_and_its_output_is_not_shown(code: str, message: str) -> None:
    said = failure(code)
    assert said.endswith(message)
    assert Path(sys.executable).name in said
    assert not any(text in said for text in (KEY, "Please", "kkkk", "print("))


def test_program_that_is_not_there_is_named() -> None:
    with pytest.raises(KeyCommandFailed, match="the key command no-such-program cannot be started: no such file"):
        asyncio.run(run_key_command(("/nowhere/no-such-program", "--password", KEY)))


def is_alive(process_id: int) -> bool:
    try:
        os.kill(process_id, 0)
    except ProcessLookupError:
        return False
    state = Path(f"/proc/{process_id}/stat")
    return not state.exists() or state.read_text().rpartition(")")[2].split()[0] != "Z"


SLEEPS = (
    "import os, subprocess, sys\n"
    "child = subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(60)'])\n"
    "open({path!r}, 'w').write(str(os.getpid()) + ' ' + str(child.pid) + ' ')\n"
    "child.wait()\n"
)


def assert_ended(pids: Path) -> None:
    until = time.monotonic() + 5
    while any(is_alive(int(text)) for text in pids.read_text().split()):
        assert time.monotonic() < until
        time.sleep(0.01)


def test_command_that_does_not_end_is_killed_with_what_it_has_started(tmp_path: Path) -> None:
    pids = tmp_path / "pids"
    assert failure(SLEEPS.format(path=str(pids)), timeout_s=1.5).endswith("did not end within 1.5 s")
    assert_ended(pids)


def test_command_is_killed_where_its_caller_is_cancelled(tmp_path: Path) -> None:
    pids = tmp_path / "pids"

    async def main() -> None:
        code = SLEEPS.format(path=str(pids))
        running = asyncio.create_task(run_key_command((sys.executable, "-c", code)))
        while not pids.exists() or pids.read_text().count(" ") < 2:
            await asyncio.sleep(0.01)
        running.cancel()
        with pytest.raises(asyncio.CancelledError):
            await running

    asyncio.run(main())
    assert_ended(pids)
