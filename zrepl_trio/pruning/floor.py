"""What a passive side keeps whatever its clients ask for. Pure.

The rules are the keep rules, but a client that sends snapshots can give them any time it likes. So their
times are taken as they can have been on this host: none earlier than that of a snapshot that was
here before, none later than now. What was here before a client turned bad so stays where it was in
a grid or a calendar; new ones only crowd each other. (A `last_n` counts, so many new ones push the
old ones out of it.)
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, tzinfo

from zrepl_trio.config.keep import KeepRule
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
        snapshots = [version for version in versions if version.is_snapshot]
        candidates: list[Candidate] = []
        latest, now = 0, int(self.now().timestamp())
        for version in snapshots:
            latest = max(latest, min(version.creation, now))
            candidates.append(Candidate(snapshot=replace(version, creation=latest)))
        return {
            verdict.snapshot.name: self._why(verdict.kept_by[0])
            for verdict in evaluate(candidates, self.rules, local=self.local)
            if not verdict.goes
        }

    def _why(self, index: int) -> str:
        return f"{FLOOR} job {self.job!r}: {rule_text(self.rules[index])}"
