"""What a filesystem's copies need not get over, since somebody laid hands on it or nobody promised it. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from tests.hunt.topology import Flow

__all__ = ["SETTLED", "UNPROMISED", "Excuses"]

SETTLED = "a replica was "
"""What was done to it then, a job settles that is told to do so."""
UNPROMISED = "nothing was promised"


class Excuses:
    """Why, by a flow's job and the name of what it sends."""

    def __init__(self, flows: Sequence[Flow]) -> None:
        self._flows = flows
        self._why: dict[tuple[str, str], str] = {}

    @property
    def why(self) -> Mapping[tuple[str, str], str]:
        return self._why

    def note(self, host: str, dataset: str, why: str) -> None:
        """Something was done to a filesystem that its copies, and what is copied from it, may not get over."""
        for flow in self._flows:
            if host == flow.sender and flow.sends(dataset):
                self._note(flow, dataset, why)
                self.note(flow.receiver, flow.replica_of(dataset), why)
            original = flow.original_of(dataset) if host == flow.receiver else None
            if original is not None:
                self._note(flow, original, why)

    def renamed(self, host: str, old: str, new: str) -> None:
        """What holds for a name, and those of its copies, still does."""
        for flow in self._flows:
            if host == flow.sender and flow.sends(old):
                if why := self._why.get((flow.job, old)):
                    self._note(flow, new, why)
                self.renamed(flow.receiver, flow.replica_of(old), flow.replica_of(new))

    def _note(self, flow: Flow, original: str, why: str) -> None:
        """What a job can settle takes nothing from what it cannot."""
        known = self._why.get((flow.job, original), SETTLED)
        if known.startswith(SETTLED):
            self._why[flow.job, original] = why
