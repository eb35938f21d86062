"""A process that checks what may take long, and is killed where it does.

The checks hold Python's global lock: in a thread of the run they would stop all of it.
"""

from __future__ import annotations

import signal
import subprocess
from collections import OrderedDict
from contextlib import suppress
from multiprocessing.connection import Connection, Pipe
from threading import Lock
from typing import TYPE_CHECKING, Any

import orjson

from processor.core import platform
from processor.core.import_path import module_command
from processor.validation.problem import InvalidSchema, Problem
from processor.validation.schema import CompiledSchema

if TYPE_CHECKING:
    from collections.abc import Callable

MAX_CHECK_S = 10.0
"""A schema that is not ready within this time is not used; an output that is not checked counts as not valid."""
_MAX_SCHEMAS = 16
_UNKNOWN = None
"""The answer where the process does not have the schema (any more)."""

_GAVE_UP = Problem(pointer="", message=f"cannot be checked: that takes more than {MAX_CHECK_S:g} s", is_undecided=True)


class _Lost(Exception):
    """The process did not answer in time, or has died."""


class CheckingProcess:
    """Starts the process when it is needed. Calls take turns. Where none can be started, the work is done here."""

    def __init__(self) -> None:
        self._lock = Lock()
        self._process: subprocess.Popen[bytes] | None = None
        self._connection: Connection[Any, Any] | None = None
        self._own_answers = Answers()

    def check_schema(self, digest: str, canonical: bytes) -> None:
        """Raises InvalidSchema."""
        try:
            answer = self._ask(digest, canonical, None)
        except _Lost:
            raise InvalidSchema(f"it cannot be made ready within {MAX_CHECK_S:g} s") from None
        if isinstance(answer, str):
            raise InvalidSchema(answer)

    def check(self, digest: str, canonical: bytes, value: bytes) -> tuple[Problem, ...]:
        """Return what is wrong with a value, given as JSON."""
        try:
            answer = self._ask(digest, None, value)
            if answer is _UNKNOWN:
                answer = self._ask(digest, canonical, value)
        except _Lost:
            return (_GAVE_UP,)
        assert isinstance(answer, tuple), "the schema was valid before"
        return answer

    def stop(self) -> None:
        if self._connection is not None:
            self._connection.close()
        if self._process is not None:
            self._process.kill()
            self._process.wait()
        self._connection = self._process = None

    def _ask(self, digest: str, canonical: bytes | None, value: bytes | None) -> Any:
        with self._lock:
            if self._connection is None and not self._start():
                return self._own_answers.answer(digest, canonical, value)
            connection = self._connection
            assert connection is not None
            try:
                connection.send((digest, canonical, value))
                if connection.poll(MAX_CHECK_S):
                    return connection.recv()
            except (OSError, EOFError):
                pass
            self.stop()
            raise _Lost

    def _start(self) -> bool:
        if not platform.can_inherit_files():
            return False
        connection, remote = Pipe()
        with remote:
            try:
                self._process = subprocess.Popen(  # noqa: S603
                    module_command(__name__, str(remote.fileno()), str(MAX_CHECK_S)),
                    stdin=subprocess.DEVNULL,
                    stdout=subprocess.DEVNULL,
                    stderr=subprocess.DEVNULL,
                    start_new_session=True,  # Ctrl-C is handled by the main process alone
                    **platform.inherit_files([remote.fileno()]),
                )
            except OSError:
                connection.close()
                return False
        self._connection = connection
        return True


class Answers:
    """What the process does."""

    def __init__(self) -> None:
        self._schemas: OrderedDict[str, CompiledSchema] = OrderedDict()

    def answer(self, digest: str, canonical: bytes | None, value: bytes | None) -> Any:
        """Return the problems of a value; why the schema is invalid, as text; or _UNKNOWN."""
        schema = self._schemas.get(digest)
        if schema is None:
            if canonical is None:
                return _UNKNOWN
            try:
                schema = self._schemas[digest] = CompiledSchema(orjson.loads(canonical))
            except InvalidSchema as error:
                return str(error)
            if len(self._schemas) > _MAX_SCHEMAS:
                self._schemas.popitem(last=False)
        self._schemas.move_to_end(digest)
        return () if value is None else schema.problems(orjson.loads(value))


def main(file_descriptor: str, max_check_s: str) -> None:
    """Answer requests until the connection is closed. A check during which the other process dies has an end, too."""
    time_limit_s = 2 * float(max_check_s)
    answer: Callable[..., Any] = Answers().answer
    with Connection(int(file_descriptor)) as connection, suppress(EOFError, OSError):
        while True:
            request = connection.recv()
            signal.setitimer(signal.ITIMER_REAL, time_limit_s)  # a signal that nothing handles ends the process
            connection.send(answer(*request))
            signal.setitimer(signal.ITIMER_REAL, 0)
