"""What a passive side keeps whatever its clients ask for. Pure.

The rules are the keep rules, but a client that sends snapshots can give them any time it likes. So their
times are taken as they can have been on this host: none earlier than that of a snapshot that was
here before. What was here before a client turned bad so stays where it was in a grid or a calendar;
new ones only crowd each other. (A `last_n` counts, so many new ones push the old ones out of it.)
What claims to be of the future ages nothing and stays, if a rule is about its name at all: else a
clock of this host that is set back would take all for snapshots of one moment. And of what a grid
is about the newest stays, since the grid is laid back from there: else a client could have
it destroyed, and then the one that is the newest by then, until the grid has come to the oldest.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, tzinfo
from itertools import islice

from zrepl_trio.config.keep import KeepGrid, KeepRule
from zrepl_trio.endpoint.refusals import FLOOR
from zrepl_trio.pruning.plan import rule_text
from zrepl_trio.pruning.rules import Candidate, evaluate
from zrepl_trio.zfs.model import FilesystemVersion

__all__ = ["FloorRules"]


@dataclass(frozen=True, slots=True, kw_only=True)
class FloorRules:
    """The floor of `job`; `now` tells this host's time, `local` is the zone that a calendar calls Local."""

    job: str
    rules: tuple[KeepRule, ...]
    now: Callable[[], datetime]
    local: tzinfo = UTC

    def __call__(self, versions: Sequence[FilesystemVersion]) -> Mapping[str, str]:
        """See `endpoint.destroy.Floor`."""
        past: list[Candidate] = []
        kept: dict[str, int] = {}
        latest, now = 0, int(self.now().timestamp())
        for version in versions:
            if not version.is_snapshot:
                continue
            if version.creation > now:
                kept |= self._kept([Candidate(snapshot=version)])
                continue
            latest = max(latest, version.creation)
            past.append(Candidate(snapshot=replace(version, creation=latest)))
        kept |= self._edges(past) | self._kept(past)
        return {name: self._why(index) for name, index in kept.items()}

    def _kept(self, candidates: Sequence[Candidate]) -> dict[str, int]:
        """By name, with the first of the rules."""
        return {
            verdict.snapshot.name: verdict.kept_by[0]
            for verdict in evaluate(candidates, self.rules, local=self.local)
            if not verdict.goes
        }

    def _edges(self, candidates: Sequence[Candidate]) -> dict[str, int]:
        """Where each grid begins, with the grid."""
        edges: dict[str, int] = {}
        for index, rule in enumerate(self.rules):
            if isinstance(rule, KeepGrid):
                newest = (
                    each.name for each in reversed(candidates) if rule.regex.search(each.name)
                )
                edges |= dict.fromkeys(islice(newest, 1), index)
        return edges

    def _why(self, index: int) -> str:
        return f"{FLOOR} job {self.job!r}: {rule_text(self.rules[index])}"
