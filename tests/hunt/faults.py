"""zfs commands that are to fail; each fault waits until a command of its name comes that can fail so."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

__all__ = ["Fault", "Faults"]

_ALIKE = {"snapshot_all": "snapshot"}
"""Where a host's config decides which of two is called."""


@dataclass(frozen=True, slots=True, eq=False)
class Fault:
    """`when` is before, during or after the effect of `call`, or, for its sending of a stream, stop: after `count` bytes.
    `struck` is called once it has failed so."""

    when: str
    call: str
    struck: Callable[[], None]
    count: int = 0


class Faults:
    """Those of one host that have not struck yet."""

    def __init__(self) -> None:
        self._waiting: list[Fault] = []

    def add(self, fault: Fault) -> None:
        """It strikes after those that are there."""
        self._waiting.append(fault)

    def take(self, when: str, call: str) -> Fault | None:
        """The first that is for such a command, which it waits for no longer."""
        name = _ALIKE.get(call, call)
        for each in self._waiting:
            if each.when == when and _ALIKE.get(each.call, each.call) == name:
                self._waiting.remove(each)
                return each
        return None

    def strike(self, when: str, call: str) -> bool:
        """Whether that command is to fail so; then it has."""
        fault = self.take(when, call)
        if fault is not None:
            fault.struck()
        return fault is not None

    def forget(self) -> None:
        """Nothing fails any more."""
        self._waiting.clear()
