"""Gives each event of a run to any number of listeners."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Collection, Iterable
from typing import get_args

from processor.core.events import Listener, Notice, RunEvent

logger = logging.getLogger("processor")


class FanOut:
    """Its method ``emit`` is a listener that calls others in order: those of the program, then those from outside.

    A listener must return quickly, because it is called from the event loop. An exception in a listener of the program
    is a bug and ends the run as an internal error. A listener from outside that raises an exception is not called
    again, and the run goes on: the other listeners get a Notice, and the traceback goes to the logger ``processor``.

    A listener of the program that names its event types in an attribute ``event_types`` gets no others. One that has a
    method ``handler_of`` is asked once for each type of event what to call for it, if anything. A listener that has
    neither gets three events of each job.
    """

    def __init__(self, listeners: Iterable[Listener], *, external: Iterable[Listener] = ()) -> None:
        own, self._external = tuple(listeners), tuple(external)
        calls_external = (self._call_external,) if self._external else ()
        self._by_type = {kind: _as_one((*_handlers(own, kind), *calls_external)) for kind in get_args(RunEvent)}

    def emit(self, event: RunEvent) -> None:
        self._by_type[type(event)](event)

    def _call_external(self, event: RunEvent) -> None:
        for listener in self._external:
            try:
                listener(event)
            except Exception as error:  # noqa: BLE001 - what a library user's code may raise is unknown
                self._drop(listener, error)

    def _drop(self, listener: Listener, error: Exception) -> None:
        self._external = tuple(other for other in self._external if other is not listener)
        name = getattr(listener, "__qualname__", type(listener).__qualname__)
        text = f"listener {name} raised {type(error).__name__}: {error}; it is not called again"
        logger.error(text, exc_info=error)
        self.emit(Notice(at=asyncio.get_running_loop().time(), text=text))


def _as_one(handlers: tuple[Listener, ...]) -> Listener:
    """Return a listener that calls these. Often there is one: the statistics take all events of a job."""
    if len(handlers) == 1:
        return handlers[0]

    def call_each(event: RunEvent) -> None:
        for handle in handlers:
            handle(event)

    return call_each


def _handlers(listeners: Iterable[Listener], kind: type[RunEvent]) -> tuple[Listener, ...]:
    """What is called with events of this type."""
    handlers = (_handler(listener, kind) for listener in listeners)
    return tuple(handler for handler in handlers if handler is not None)


def _handler(listener: Listener, kind: type[RunEvent]) -> Listener | None:
    handler_of: Callable[[type[RunEvent]], Listener | None] | None = getattr(listener, "handler_of", None)
    if handler_of is not None:
        return handler_of(kind)
    event_types: Collection[type[RunEvent]] | None = getattr(listener, "event_types", None)
    return listener if event_types is None or kind in event_types else None
