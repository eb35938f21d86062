"""Errors keep their type, message and attributes on the way from one process to another."""

from __future__ import annotations

import inspect
import pickle
import pkgutil
from collections.abc import Iterator
from importlib import import_module
from typing import Any

import pytest

import processor
from processor.core.errors import BadRequest, ConnectionLost, ProcessorError, ServerError, StatusError

SAMPLES: dict[str, Any] = {
    "message": "the server said no",
    "status": 503,
    "body": {"error": {"message": "no", "details": [1, None]}},
    "error_code": "overloaded",
    "retry_after_s": 1.5,
    "request_id": "req_1",
    "reused": True,
    "code": "not_utf8",
    "custom_id": "job-1",
    "scope": "model",
    "ended_by_server": True,
}
"""A value that is no default, for each parameter that an error may take."""


def error_classes(root: type[ProcessorError] = ProcessorError) -> Iterator[type[ProcessorError]]:
    yield root
    for cls in root.__subclasses__():
        yield from error_classes(cls)


def import_all_modules() -> None:
    for module in pkgutil.walk_packages(processor.__path__, "processor."):
        if not module.name.endswith("__main__"):
            import_module(module.name)


import_all_modules()
ERROR_CLASSES = [cls for cls in error_classes() if cls.__module__.startswith("processor.")]


def sample(cls: type[ProcessorError]) -> ProcessorError:
    if cls.__init__ is Exception.__init__:
        return cls("the server said no")
    names = [name for name in inspect.signature(cls).parameters if name != "args"]
    return cls(*(["the server said no"] if "message" not in names else []), **{name: SAMPLES[name] for name in names})


@pytest.mark.parametrize("cls", ERROR_CLASSES)
def test_error_equals_its_unpickled_copy(cls: type[ProcessorError]) -> None:
    error = sample(cls)
    copy = pickle.loads(pickle.dumps(error))
    assert copy == error
    assert hash(copy) == hash(error)
    assert (type(copy), str(copy), copy.code, vars(copy)) == (cls, str(error), error.code, vars(error))


@pytest.mark.parametrize("cls", ERROR_CLASSES)
def test_error_pickles_attributes_that_were_set_after_its_creation(cls: type[ProcessorError]) -> None:
    error = sample(cls)
    error.request_id = "req_2"  # type: ignore[attr-defined]
    assert pickle.loads(pickle.dumps(error)).request_id == "req_2"


def test_errors_of_different_type_message_or_attributes_differ() -> None:
    error = ServerError("no", status=500)
    assert error == ServerError("no", status=500)
    assert error != ServerError("yes", status=500)
    assert error != ServerError("no", status=503)
    assert error != StatusError("no", status=500)
    assert ConnectionLost("no") != ConnectionLost("no", reused=True)
    assert error != "no"


def test_error_equality_ignores_cause_and_traceback() -> None:
    def raised() -> BadRequest:
        try:
            raise BadRequest("no", status=400) from ValueError("cause")
        except BadRequest as error:
            return error

    assert raised() == BadRequest("no", status=400)
