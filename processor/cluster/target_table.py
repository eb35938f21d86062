"""The targets of a run by number, and which of them a worker has been told of."""

from __future__ import annotations

import secrets
from collections.abc import Mapping
from dataclasses import replace

from processor.cluster.link import WorkerLink
from processor.cluster.messages import NumberedTarget, decode, encode, numbered_target
from processor.core.models import Target


class TargetTable:
    """``variables``: the environment variable of the key of each target that has one."""

    def __init__(self, variables: Mapping[Target, str]) -> None:
        self._variables = variables
        self._salt = secrets.token_bytes(16)
        self._targets: list[Target] = []
        self._numbers: dict[Target, int] = {}
        self.changes = 0
        """How often the table has changed: a worker must be told before it gets further requests."""

    def number_of(self, target: Target) -> int:
        """Return the number of a target; a new one is added."""
        number = self._numbers.get(target)
        if number is None:
            number = self._numbers[target] = len(self._targets)
            self._targets.append(target)
            self.changes += 1
        return number

    def replace_key(self, before: Target, after: Target) -> None:
        """Let the number of ``before`` stand for ``after``, which differs in its key."""
        number = self._numbers.pop(before, None)
        if number is not None:
            self._numbers[after] = number
            self._targets[number] = after
            self.changes += 1

    async def announce(self, link: WorkerLink) -> int:
        """Tell a worker of all targets, and of those keys that it lacks. Return what ``changes`` was.

        Raises WorkerLost.
        """
        changes, targets = self.changes, list(self._targets)
        numbered = [
            numbered_target(number, target, self._variables.get(target), self._salt)
            for number, target in enumerate(targets)
        ]
        if missing := decode(await link.set_targets(encode(numbered))):
            await link.set_targets(encode([_with_key(numbered[number], targets[number]) for number in missing]))
        return changes


def _with_key(numbered: NumberedTarget, target: Target) -> NumberedTarget:
    assert target.key is not None, "a worker lacks keys only where there is one"
    return replace(numbered, key=target.key.value)
