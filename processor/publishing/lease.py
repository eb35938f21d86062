"""The lease: the object that says which machine may publish to a folder.

Leases are numbered, and the one with the highest number counts. A machine takes over by creating the next number, which
only one can do; the holder of a lower one notices when it renews its own. A lease is never removed by its holder, but
marked as released, so that numbers only grow.
"""

from __future__ import annotations

import json
import os
import socket
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import field

from processor.core.errors import ConfigError, OutputError
from processor.core.fast_dataclass import dataclass
from processor.core.json_reading import fields_of, parsed
from processor.core.models import JSON
from processor.core.text import setting_name
from processor.publishing.part_names import contents_of, lease_name
from processor.remote.object_folder import ObjectFolder

RENEWALS_PER_TERM = 6
"""So many times a lease is renewed before it would expire: five may fail."""


class LeaseLost(OutputError):
    """Another machine has taken over the output."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LeaseTerms:
    """How leases are held. The functions stand for the machine's own in tests."""

    holder: str = ""
    """The name of the work folder: a random word that is kept there, so that a killed run finds its own lease again."""
    term_s: float = 120.0
    """A lease that was not renewed for so long has expired."""
    wall_clock: Callable[[], float] = time.time
    sleep: Callable[[float], None] = time.sleep
    say: Callable[[str], None] = field(default=lambda text: None)
    """Called with a sentence for the user while ``acquire_lease`` waits."""

    @property
    def renewal_interval_s(self) -> float:
        return self.term_s / RENEWALS_PER_TERM


class Lease:
    """A lease that this run holds."""

    def __init__(self, folder: ObjectFolder, terms: LeaseTerms, number: int) -> None:
        self._folder = folder
        self._terms = terms
        self._number = number
        self.renewed_at = terms.wall_clock()
        """Unix time."""

    @property
    def renewal_interval_s(self) -> float:
        return self._terms.renewal_interval_s

    @property
    def may_have_expired(self) -> bool:
        """Whether other machines may take it for expired: this one was suspended, or could not reach the store."""
        return self._terms.wall_clock() - self.renewed_at >= self._terms.term_s - self._terms.renewal_interval_s

    def renew(self) -> None:
        """Say that this run is at work. Raises LeaseLost, OSError."""
        now = self._terms.wall_clock()
        self.confirm()
        self._folder.put(lease_name(self._number), _content(self._terms, now))
        self.renewed_at = now

    def confirm(self) -> None:
        """Raise LeaseLost where another machine has taken over. Raises OSError."""
        newest = max(contents_of(self._folder.list()).leases, default=0)
        if newest > self._number:
            holder = fields_of(parsed(self._folder.read(lease_name(newest))))
            raise LeaseLost(f"{_host(holder)} has taken over {self._folder.name}: wait for its run to end")

    def release(self) -> None:
        """Say that this run has ended, so that the next one need not wait. Raises OSError."""
        self._folder.put(lease_name(self._number), _content(self._terms, self._terms.wall_clock(), is_released=True))


def acquire_lease(folder: ObjectFolder, terms: LeaseTerms) -> Lease:
    """Take the lease of a folder, for a run that holds the lock of its work folder.

    A lease that the last run of the same work folder left is continued. Where the clock says that another one has
    expired, this waits a while to see whether it is renewed, since clocks differ. Raises ConfigError where another
    machine is at work, or the store does not support exclusive creation; OSError.
    """
    leases = contents_of(folder.list()).leases
    newest = max(leases, default=0)
    if newest:
        held = fields_of(parsed(folder.read(lease_name(newest))))
        if held.get("holder") == terms.holder and held.get("host") == socket.gethostname():
            lease = Lease(folder, terms, newest)
            lease.renew()
            return lease
        _refuse_if_held(folder, terms, newest, held)
    name, content = lease_name(newest + 1), _content(terms, terms.wall_clock())
    if not folder.create(name, content) and (found := folder.read(name)) != content:
        raise _is_held(folder, terms, fields_of(parsed(found)))
    lease = Lease(folder, terms, newest + 1)
    if folder.create(name, content):
        raise ConfigError(
            f"the store of {folder.name} overwrites files that should only be created: give "
            f"{setting_name('out', 'FILE')}, and then "
            f"process export FILE --out {folder.name}"
        )
    with suppress(OSError):  # without the right to delete they stay, and do not count
        for number in leases:
            folder.remove(lease_name(number))
    return lease


def _refuse_if_held(folder: ObjectFolder, terms: LeaseTerms, number: int, found: JSON) -> None:
    """Raise ConfigError where a lease of another machine, or of another work folder, is in force."""
    if found.get("released"):
        return
    renewed_at = found.get("renewed_at")
    term_s = found.get("term_s")
    if isinstance(renewed_at, (int, float)) and isinstance(term_s, (int, float)):
        if terms.wall_clock() < renewed_at + term_s:
            raise _is_held(folder, terms, found)
        watched_s = 1.5 * term_s / RENEWALS_PER_TERM
        terms.say(
            f"the run of {_host(found)} on {folder.name} has ended without a word: waiting {watched_s:.0f} s "
            "to see whether it is still at work"
        )
        terms.sleep(watched_s)
        again = contents_of(folder.list()).leases
        if max(again, default=0) != number or fields_of(parsed(folder.read(lease_name(number)))) != found:
            raise _is_held(folder, terms, found)


def _is_held(folder: ObjectFolder, terms: LeaseTerms, found: JSON) -> ConfigError:
    until = f"{terms.term_s:.0f} s"
    return ConfigError(
        f"{_host(found)} is writing to {folder.name}: wait for its run to end ({until} after it was killed), or give "
        f"another {setting_name('out')}"
    )


def _host(found: JSON) -> str:
    """Name the holder of a lease."""
    host, process = found.get("host"), found.get("process")
    if not isinstance(host, str):
        return "another machine"
    same = "another work folder of this machine" if host == socket.gethostname() else f"the machine {host}"
    return f"{same} (process {process})"


def _content(terms: LeaseTerms, now: float, *, is_released: bool = False) -> bytes:
    return json.dumps(
        {
            "holder": terms.holder,
            "host": socket.gethostname(),
            "process": os.getpid(),
            "renewed_at": round(now, 3),
            "term_s": terms.term_s,
            "released": is_released,
        }
    ).encode()
