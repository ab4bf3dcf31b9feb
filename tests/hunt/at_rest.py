"""What must hold two cycles after the last fault: all is up to date and tidy, or its conflict is told."""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping, Sequence

from tests.hunt.evidence import Broken, Taken, mark_of, versions_of
from tests.hunt.excuses import SETTLED, UNPROMISED
from tests.hunt.faulty_zfs import FaultyZfs
from tests.hunt.scenario import CYCLE_S, FAULTY_S
from tests.hunt.topology import Flow
from zrepl_trio.emulate.objects import Bookmark, Dataset, Snapshot
from zrepl_trio.endpoint.abstractions import CursorKind, last_received_tag, step_tag
from zrepl_trio.endpoint.aside import PLACEHOLDER_ASIDE, SET_ASIDE
from zrepl_trio.jobs.base import Outcome
from zrepl_trio.pruning.plan import PruneSide
from zrepl_trio.pruning.report import PruneReport, PruneState
from zrepl_trio.replication.report import Report

__all__ = ["BY_HAND", "Rest"]

BY_HAND = "legal"
"""An admin's hold."""

_TAKEN_WITHIN_S = 1.6 * CYCLE_S


class Rest:
    """`excused` are the filesystems, by a flow's job, that somebody laid hands on; `runs` how each run of a job
    ended, `reports` what its last one told, `pruned` each job's last pruning of a side; `now` in seconds.
    `lazy` are the hosts that take no snapshot of what was not written to."""

    def __init__(
        self,
        *,
        flows: Sequence[Flow],
        hosts: Mapping[str, FaultyZfs],
        taken: Mapping[int, Taken],
        excused: Mapping[tuple[str, str], str],
        runs: Mapping[str, Sequence[Outcome]],
        reports: Mapping[str, Report],
        pruned: Mapping[tuple[str, PruneSide], PruneReport],
        now: float,
        unsaved: Mapping[tuple[str, str], float],
        lazy: Collection[str],
    ) -> None:
        self._unsaved = unsaved
        self._lazy = lazy
        self._pruned = pruned
        self._now = now
        self._flows = flows
        self._hosts = hosts
        self._taken = taken
        self._excused = excused
        self._runs = runs
        self._reports = reports

    def check(self) -> None:
        """Broken for the first thing that has not come right. What somebody laid hands on may be in a conflict
        that its job tells of; else it has to have come right, too."""
        for flow in self._flows:
            troubled = []
            for dataset in self._sent(flow):
                excused = (flow.job, dataset.name) in self._excused
                behind = self._behind(flow, dataset)
                if behind and excused and not self._settles(flow, dataset):
                    # without a promise, the base may have gone since the last run
                    if self._excused[flow.job, dataset.name] != UNPROMISED:
                        troubled.append(dataset.name)
                elif behind:
                    raise Broken(behind)
                else:
                    self._check_tidy(flow, dataset, excused=excused)
                if flow.follows and not excused:
                    self._check_once(flow, dataset)
            self._check_last_run(flow, troubled)
            self._check_pruned(flow)
        for flow in self._flows:
            if self._is_first(flow):
                for dataset in self._sent(flow):
                    self._check_taken(flow, dataset)
        for zfs in self._hosts.values():
            if in_use := zfs.in_use():
                raise Broken(f"{zfs.host} is at rest and has {in_use[0]} open")
            for dataset in zfs.world.all():
                if SET_ASIDE in dataset.name and not self._keeps(zfs, dataset):
                    raise Broken(f"{zfs.host}:{dataset.name} was left")
                self._check_strays(zfs.host, dataset)

    def _check_taken(self, flow: Flow, dataset: Dataset) -> None:
        """What was written is in a snapshot a cycle later."""
        lately = sum(
            each.by_job and each.at > self._now - 2 * CYCLE_S
            for each in self._taken.values()
            if (each.host, each.name) == (flow.sender, dataset.name)
        )
        if lately < 2 and flow.sender not in self._lazy:
            raise Broken(f"{flow.sender}:{dataset.name} has {lately} snapshots of two cycles")
        since = self._now - self._unsaved.get((flow.sender, dataset.name), math.inf)
        if since > _TAKEN_WITHIN_S:
            raise Broken(
                f"{flow.sender}:{dataset.name} was written to {since:.0f} s ago, and no snapshot taken since"
            )

    def _check_strays(self, host: str, dataset: Dataset) -> None:
        """No hold and no bookmark but those that its jobs make."""
        tags = {step_tag(flow.sending_job) for flow in self._flows if flow.sender == host}
        tags |= {last_received_tag(f.receiving_job) for f in self._flows if f.receiver == host}
        jobs = {flow.sending_job for flow in self._flows if flow.sender == host}
        for snapshot in dataset.snapshots.values():
            if strays := snapshot.holds.keys() - tags - {BY_HAND}:
                raise Broken(f"{host}:{dataset.name}@{snapshot.name} is held by {sorted(strays)}")
        for name in dataset.bookmarks:
            if not any(mark_of(name, job) for job in jobs):
                raise Broken(f"{host}:{dataset.name}#{name} is none of any job's")

    def _settles(self, flow: Flow, dataset: Dataset) -> bool:
        """Whether its job is told to settle what somebody did to its copy, and can: a hold, a floor and the cursor of the
        next host are in the way of a rollback."""
        why = self._excused[flow.job, dataset.name]
        copy = self._hosts[flow.receiver].world.get(flow.replica_of(dataset.name))
        if copy is None or not why.startswith(SETTLED):
            return False
        held = any("legal" in each.holds for each in copy.snapshots.values())
        kept = held or flow.floor or copy.bookmarks
        return flow.divergence == "keep_copy" or (flow.divergence == "rollback" and not kept)

    def _keeps(self, zfs: FaultyZfs, dataset: Dataset) -> bool:
        """Whether a job was told to keep such a copy."""
        kept = any(
            flow.divergence == "keep_copy" and flow.receiver == zfs.host for flow in self._flows
        )
        return kept and PLACEHOLDER_ASIDE not in dataset.name

    def _check_once(self, flow: Flow, dataset: Dataset) -> None:
        """Its copy has come along with each new name, unless somebody's own snapshots made it useless."""
        own = {each.guid for each in versions_of(dataset)}
        copies = [
            each.name
            for each in self._hosts[flow.receiver].world.all()
            if each.name.startswith(f"{flow.place}/")
            and each.newest is not None
            and each.newest.guid in own
        ]
        if len(copies) > 1:
            raise Broken(f"{flow.job}: {dataset.name} has more than one copy: {copies}")

    def _sent(self, flow: Flow) -> list[Dataset]:
        zfs = self._hosts[flow.sender]
        return [each for each in zfs.world.all() if flow.sends(each.name)]

    def _is_first(self, flow: Flow) -> bool:
        """Whether what it sends is written there, and not received."""
        return all(other.receiver != flow.sender for other in self._flows)

    def _behind(self, flow: Flow, dataset: Dataset) -> str:
        """What is wrong with its copy, if anything is."""
        hops = 1 if self._is_first(flow) else 2
        wanted_at = FAULTY_S - (hops - 1) * CYCLE_S
        versions = list(dataset.snapshots.values())
        common = self._newest_common(flow, dataset)
        if not versions and common is None:
            return f"{flow.sender}:{dataset.name} has no snapshot at all"
        if common is None:
            return f"{flow.job}: {dataset.name} and its copy have nothing in common"
        newer = [each for each in versions if each.createtxg > common.createtxg]
        was = self._taken[common.guid]
        # one that was pruned meanwhile is due all the same
        due = [
            each
            for each in self._taken.values()
            if (each.host, each.name) == (was.host, was.name)
            and was.at < each.at < wanted_at + 1.5 * CYCLE_S
        ]
        if newer and due:
            return (
                f"{flow.job}: {dataset.name}@{newer[0].name} has not arrived, cycles after the last "
                f"fault; its copy is at {common.name}"
            )
        return ""

    def _newest_common(self, flow: Flow, dataset: Dataset) -> Snapshot | Bookmark | None:
        copy = self._hosts[flow.receiver].world.get(flow.replica_of(dataset.name))
        guids = {each.guid for each in copy.snapshots.values()} if copy is not None else set()
        common = [each for each in versions_of(dataset) if each.guid in guids]
        return max(common, key=lambda each: each.createtxg, default=None)

    def _check_tidy(self, flow: Flow, dataset: Dataset, *, excused: bool) -> None:
        replica = flow.replica_of(dataset.name)
        copy = self._hosts[flow.receiver].world.get(replica)
        newest = self._newest_common(flow, dataset)
        assert copy is not None
        assert newest is not None
        where = f"{flow.job}: {flow.sender}:{dataset.name}"
        if copy.partial is not None:
            raise Broken(f"{flow.job}: {flow.receiver}:{replica} has a partly received state left")
        marks = [mark for each in dataset.bookmarks if (mark := mark_of(each, flow.sending_job))]
        # where two pulls share a source, the cursor is at what one of them has
        sharing = [
            each
            for each in self._flows
            if (each.sender, each.sending_job) == (flow.sender, flow.sending_job)
        ]
        had = [self._newest_common(each, dataset) for each in sharing]
        wanted = {(CursorKind.CURSOR, each.guid) for each in had if each is not None}
        one = len(marks) == 1 and (marks[0].kind, marks[0].guid) in wanted
        # an admin who takes it away, or a snapshot, gets it back with the next step; where nothing is promised, there is none
        none = excused or not all(each.promises for each in sharing)
        if not one and (marks or not none):
            raise Broken(
                f"{where} has the cursors {list(dataset.bookmarks)}, its newest is {newest.guid:016x}"
            )
        tag = step_tag(flow.sending_job)
        held = [each.name for each in dataset.snapshots.values() if tag in each.holds]
        if held:
            raise Broken(f"{where} has step holds left on {held}")
        tag = last_received_tag(flow.receiving_job)
        kept = [each.guid for each in copy.snapshots.values() if tag in each.holds]
        # a receiver killed before it moved the hold moves it with the next step: there may be nothing to send
        waits = isinstance(newest, Bookmark) and len(kept) == 1
        if kept != [newest.guid] and not waits and not (none and not kept):
            names = [each.name for each in copy.snapshots.values() if tag in each.holds]
            raise Broken(f"{flow.job}: {replica} is held at {names}, the newest is {newest.name}")

    def _check_last_run(self, flow: Flow, troubled: Sequence[str]) -> None:
        outcome = self._runs[flow.job][-1]
        report = self._reports.get(flow.job)
        attempt = report.last if report is not None else None
        failed = {each.name: each.error for each in (attempt.failed if attempt else ())}
        if outcome not in {Outcome.DONE, Outcome.FILESYSTEM_ERRORS}:
            raise Broken(f"{flow.job} still ends as {outcome.value}")
        there = {each.name for each in self._sent(flow)}
        for name in failed:
            if name in there and (flow.job, name) not in self._excused:
                raise Broken(f"{flow.job} still fails for {name}: {failed[name]}")
        for name in troubled:
            if outcome is Outcome.DONE:
                raise Broken(f"{flow.job} says it is done, and {name} is not replicated")
            if name not in failed:
                raise Broken(f"{flow.job} does not say what is wrong with {name}")

    def _check_pruned(self, flow: Flow) -> None:
        """Both sides have looked at each filesystem, and said what came of it."""
        there = {each.name for each in self._sent(flow)}
        copied = {
            each
            for each in there
            if self._hosts[flow.receiver].world.get(flow.replica_of(each)) is not None
        }
        for side, wanted, rules in (
            (PruneSide.SENDER, there, flow.keep_sender),
            (PruneSide.RECEIVER, copied, flow.keep_receiver),
        ):
            report = self._pruned.get((flow.job, side))
            if any(rule.type == "regex" and rule.regex == ".*" for rule in rules):
                continue  # nothing can go
            if report is None:
                raise Broken(f"{flow.job} has never pruned its {side.value}")
            told = {str(each.path) for each in report.completed}
            if report.state is PruneState.DONE and (missing := wanted - told):
                raise Broken(f"{flow.job} has not pruned {min(missing)} of its {side.value}")
