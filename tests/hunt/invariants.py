"""What must hold whatever goes wrong, looked at after each change of any host, each run and at the end."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Concatenate, ParamSpec

import trio

from tests.hunt.at_rest import Rest
from tests.hunt.evidence import Broken, Taken, listed_in, versions_of
from tests.hunt.excuses import UNPROMISED, Excuses
from tests.hunt.faulty_zfs import FaultyZfs
from tests.hunt.retention import Retention, waiting_in
from tests.hunt.rules import Listed
from tests.hunt.scenario import Scenario
from tests.hunt.topology import Flow
from zrepl_trio.emulate.objects import Dataset
from zrepl_trio.jobs.base import Invocation, Outcome
from zrepl_trio.pruning.plan import PruneSide
from zrepl_trio.pruning.report import PruneReport, PruneState
from zrepl_trio.replication.report import Report
from zrepl_trio.snapshots.report import SnapperReport
from zrepl_trio.zfs.memory_streams import MemoryReceive

__all__ = ["LONGEST_RUN_S", "Judge"]

LONGEST_RUN_S = 1800.0
"""No run takes longer on a link that is neither silent nor slow; streams here are small."""


@dataclass(slots=True)
class _Pair:
    """A filesystem and its copy, by one flow."""

    arrived: set[int] = field(default_factory=set)
    partial: tuple[int, int] | None = None
    """The guid on its way, and how many bytes of it are there."""


_P = ParamSpec("_P")


def _noting(
    method: Callable[Concatenate[Judge, _P], None],
) -> Callable[Concatenate[Judge, _P], None]:
    """Called from within a daemon, which would take Broken for an error of its own: it is noted."""

    def call(self: Judge, /, *args: _P.args, **kwargs: _P.kwargs) -> None:
        try:
            method(self, *args, **kwargs)
        except Broken as broken:
            self.broken.append(f"at {self._now():.1f} s: {broken}")
            self.fallen.set()

    return call


class Judge:
    """`broken` is what did not hold; `fallen` is set then. An admin's hand on a filesystem excuses its
    copies (`excuse`), nothing else does."""

    def __init__(self, scenario: Scenario, now: Callable[[], float] = trio.current_time) -> None:
        self._flows = scenario.topology.flows
        self._scenario = scenario
        self._now = now
        self.broken: list[str] = []
        self.fallen = trio.Event()
        self.hosts: dict[str, FaultyZfs] = {}
        self.taken: dict[int, Taken] = {}
        self._pairs: dict[tuple[str, str], _Pair] = {}
        self._retention = Retention(
            flows=self._flows,
            hosts=self.hosts,
            taken=self.taken,
            arrived=lambda flow, original: self._pair(flow, original).arrived,
            now=now,
        )
        self._excuses = Excuses(self._flows)
        self._seen: set[tuple[str, str, int]] = set()
        self._held: set[tuple[str, int, str]] = set()
        self._gone: set[tuple[str, str]] = set()
        self._unsaved: dict[tuple[str, str], float] = {}
        self._began: dict[str, float] = {}
        self._reports: dict[str, Report] = {}
        self._pruned: dict[tuple[str, PruneSide], PruneReport] = {}
        self._waits_until: dict[str, float] = {}
        self.runs: dict[str, list[Outcome]] = {flow.job: [] for flow in self._flows}

    # -- what is told to it -----------------------------------------------------------------

    def excuse(self, host: str, dataset: str, why: str) -> None:
        """An admin did something to a filesystem that its copies may not get over."""
        self._excuses.note(host, dataset, why)

    def excused(self, flow: Flow, dataset: str) -> bool:
        """Whether somebody laid hands on it or its copy."""
        return (flow.job, dataset) in self._excuses.why

    def patience(self, job: str, seconds: float) -> None:
        """Its link keeps its runs waiting for so long from now."""
        until = self._now() + seconds
        self._waits_until[job] = max(self._waits_until.get(job, 0.0), until)

    def held(self, host: str, guid: int, tag: str) -> None:
        """An admin wants it kept."""
        self._held.add((host, guid, tag))

    def let_go(self, host: str, dataset: Dataset) -> None:
        """The admin has released all holds of it."""
        guids = {each.guid for each in dataset.snapshots.values()}
        self._held = {each for each in self._held if each[0] != host or each[1] not in guids}

    def admin_destroyed(self, host: str, dataset: str, snapshots: Sequence[Listed]) -> None:
        """By hand; the rules may still have been asked with them in the list."""
        self._retention.removed(host, dataset, snapshots)

    def gone(self, host: str, datasets: Iterable[str]) -> None:
        """An admin has destroyed them, or given them other names."""
        self._gone |= {(host, each) for each in datasets}

    def renamed(self, host: str, old: str, new: str) -> None:
        """By an admin."""
        self.gone(host, [old])
        self._excuses.renamed(host, old, new)

    # -- the witness of each host -----------------------------------------------------------

    @_noting
    def changed(self, host: str, dataset: str, *, call: str, by: str) -> None:
        self._check_whose(host, dataset, call=call, by=by)
        if call in {"snapshot", "snapshot_all"}:
            self.note_taken(host, dataset)
        for flow in self._flows:
            if host == flow.sender and flow.sends(dataset):
                self._check_pair(flow, dataset)
            original = flow.original_of(dataset) if host == flow.receiver else None
            if original is not None:
                self._check_pair(flow, original)

    def note_written(self, host: str, name: str) -> None:
        """From now on at the latest it has what is in no snapshot."""
        self._unsaved.setdefault((host, name), self._now())

    def note_taken(self, host: str, name: str) -> None:
        """Its newest snapshot has just been taken."""
        self._unsaved.pop((host, name), None)
        zfs = self.hosts[host]
        dataset = zfs.world.open(name)
        newest = dataset.newest
        assert newest is not None
        self.taken[newest.guid] = Taken(
            host,
            name,
            dict(zfs.read(f"{name}@{newest.name}")),
            self._now(),
            by_job=not newest.name.startswith("manual"),
        )

    def _check_whose(self, host: str, dataset: str, *, call: str, by: str) -> None:
        """7: a client changes what is its own."""
        if by == host:
            return
        for flow in self._flows:
            concerns = host == flow.receiver and f"{dataset}/".startswith(f"{flow.root}/")
            if host == flow.sender and flow.sends(dataset):
                concerns = True
            if concerns and by == flow.active:
                return
        raise Broken(f"{call} of {host}:{dataset} by {by}, whose it is not")

    @_noting
    def seen(self, host: str, client: str, paths: Collection[str]) -> None:
        """7: a client is told of what is its own. `paths` are as it has them."""
        for flow in self._flows:
            if flow.active != client or host == client:
                continue
            if host == flow.receiver:
                own = {each.name for each in self.hosts[host].world.all()}
                # what the place leaves out of the names stands for itself
                local = {each: flow.replica_of(each) for each in paths if f"{each}/" != flow.strips}
            else:
                own = {each.name for each in self.hosts[host].world.all() if flow.sends(each.name)}
                local = {each: each for each in paths}
            for path, where in local.items():
                # an admin may have moved it since the answer was made
                if where not in own and (host, where) not in self._gone:
                    raise Broken(f"{client} was told of {path} by {host}, which is not its own")

    # -- 1, 2: what is there, and what can go on ------------------------------------------------

    def _pair(self, flow: Flow, original: str) -> _Pair:
        return self._pairs.setdefault((flow.job, original), _Pair())

    def _check_pair(self, flow: Flow, original: str) -> None:
        source = self.hosts[flow.sender].world.get(original)
        replica = flow.replica_of(original)
        copy = self.hosts[flow.receiver].world.get(replica)
        if copy is None:
            return
        pair = self._pair(flow, original)
        self._check_contents(flow, copy)
        self._check_encryption(flow, copy)
        pair.arrived |= {each.guid for each in copy.snapshots.values()}
        excused = self.excused(flow, original)
        before, pair.partial = pair.partial, _progress(copy, original)
        if excused or source is None:
            return
        newest = copy.newest
        if newest is None and pair.arrived:
            if not flow.promises and any(each.sender == flow.receiver for each in self._flows):
                # no hold keeps what the next host of a chain has got, and wants destroyed
                self.excuse(flow.sender, original, UNPROMISED)
                return
            raise Broken(
                f"{flow.job}: {flow.receiver}:{replica} has lost all it had: no increment is possible"
            )
        if newest is not None and newest.guid not in {each.guid for each in versions_of(source)}:
            if not flow.promises:
                self.excuse(flow.sender, original, UNPROMISED)
                return
            raise Broken(
                f"{flow.job}: {flow.sender}:{original} has no version of @{newest.name}, the newest "
                f"of {flow.receiver}:{replica}: no increment is possible"
            )
        if flow.resumes and before is not None:
            self._check_progress(flow, replica, before, pair)
        if flow.resumes and pair.partial is not None:
            guid = pair.partial[0]
            if guid not in {each.guid for each in source.snapshots.values()}:
                raise Broken(
                    f"{flow.job}: {flow.sender}:{original} has lost the snapshot of which "
                    f"{replica} has a part"
                )

    def _check_progress(
        self, flow: Flow, replica: str, before: tuple[int, int], pair: _Pair
    ) -> None:
        guid, offset = before
        if guid in pair.arrived:
            return
        if pair.partial is None or pair.partial[0] != guid or pair.partial[1] < offset:
            raise Broken(
                f"{flow.job}: {offset} bytes that {flow.receiver}:{replica} had of {guid:x} are lost, "
                f"it has {pair.partial} now"
            )

    def _check_contents(self, flow: Flow, copy: Dataset) -> None:
        for snapshot in copy.snapshots.values():
            key = (flow.receiver, copy.key, snapshot.guid)
            taken = self.taken.get(snapshot.guid)
            if key in self._seen or taken is None:
                continue
            self._seen.add(key)
            where = f"{flow.receiver}:{copy.name}@{snapshot.name}"
            if snapshot.content != taken.content:
                raise Broken(f"{where} holds something else than was taken of {taken.name}")
            if taken.host not in self._upstream(flow):
                raise Broken(f"{where} was taken on {taken.host}")

    def _upstream(self, flow: Flow) -> set[str]:
        """Where what it moves may have been taken: an admin may take snapshots of copies."""
        before = (other for other in self._flows if other.receiver == flow.sender)
        return {flow.receiver, flow.sender}.union(*map(self._upstream, before))

    def _origin_of(self, flow: Flow) -> Flow:
        """The first hop, whose sender is written to."""
        for other in self._flows:
            if other.receiver == flow.sender:
                return self._origin_of(other)
        return flow

    def _check_encryption(self, flow: Flow, copy: Dataset) -> None:
        """What lies below an encrypted root is encrypted."""
        inherits = flow.placeholders == "inherit"
        if flow.receiver == "backup" and self._scenario.encrypted and inherits:
            for each in (copy.name, copy.name.rpartition("/")[0]):
                found = self.hosts[flow.receiver].world.get(each)
                if found is not None and not found.local.get("encryption"):
                    raise Broken(f"{flow.receiver}:{each} is in clear text below an encrypted root")

    # -- 3: what stays ----------------------------------------------------------------------

    @_noting
    def snapshots_gone(
        self, host: str, dataset: str, before: Sequence[Listed], gone: Collection[str]
    ) -> None:
        self._retention.check_gone(host, dataset, before, gone)

    @_noting
    def rolled_back(self, host: str, dataset: str, gone: Collection[str]) -> None:
        """No job does so that is not told to, and then only over what somebody did to its replica."""
        for flow in self._flows:
            original = flow.original_of(dataset) if host == flow.receiver else None
            if original is None or flow.divergence != "rollback":
                continue
            if self.excused(flow, original):
                return
        raise Broken(f"{host}:{dataset} was rolled back unasked, over {', '.join(gone)}")

    # -- 5: each run ends -------------------------------------------------------------------

    def replicating(self, job: str, report: Report) -> None:
        self._began.setdefault(job, self._now())
        self._reports[job] = report

    @_noting
    def pruned(self, job: str, report: PruneReport) -> None:
        """3, the other way round: pruning that says it is done has left nothing that no rule keeps."""
        self._pruned[job, report.side] = report
        if report.state is not PruneState.DONE:
            return
        (flow,) = (each for each in self._flows if each.job == job)
        for done in report.completed:
            original = str(done.path)
            if done.skipped or self.excused(flow, original):
                continue
            on_sender = report.side is PruneSide.SENDER
            host = flow.sender if on_sender else flow.receiver
            dataset = original if on_sender else flow.replica_of(original)
            told = {each.name for each in done.left_alone}
            self._retention.check_pruned(flow, host, dataset, original, told)

    def refused(self, job: str, client: str, count: int) -> None:
        del job, client, count

    def unmatched(self, job: str, count: int) -> None:
        del job, count

    def snapshotted(self, job: str, report: SnapperReport) -> None:
        del job, report

    @_noting
    def run_ended(self, job: str, run: Invocation) -> None:
        began = self._began.pop(job, None)
        assert run.outcome is not None
        if job not in self.runs:
            return
        self.runs[job].append(run.outcome)
        if run.outcome is not Outcome.DONE:
            self._check_told(job, run)
            return
        if began is not None:
            self._check_done(job, began)

    def _check_told(self, job: str, run: Invocation) -> None:
        """What went wrong is said, and of what: of a filesystem, of the link, or of the daemon's end."""
        assert run.outcome is not None
        if not run.error:
            raise Broken(f"a run of {job} ended as {run.outcome.value} without a word")
        report = self._reports.get(job)
        attempt = report.last if report is not None else None
        errors = [each.error.text for each in (attempt.failed if attempt else ()) if each.error]
        pruned = [
            error
            for side in PruneSide
            if (job, side) in self._pruned
            for error in self._pruned[job, side].errors
        ]
        told = {
            Outcome.FILESYSTEM_ERRORS: [*errors, *pruned],
            Outcome.FAILED: [attempt.plan_error.text] if attempt and attempt.plan_error else [],
        }.get(run.outcome, [run.error])
        if not any(each and each in run.error for each in told):
            raise Broken(f"a run of {job} ended as {run.outcome.value}, with {run.error!r}")

    @_noting
    def check_duration(self) -> None:
        """No run goes on for ever."""
        for job, began in self._began.items():
            since = max(began, self._waits_until.get(job, 0.0))
            if self._now() > since + LONGEST_RUN_S:
                raise Broken(f"a run of {job} goes on since {began:.0f} s")

    def _check_done(self, job: str, began: float) -> None:
        """A run that says it is done has replicated what was there when it began."""
        (flow,) = (each for each in self._flows if each.job == job)
        # under whatever name: it may have been renamed since
        arrived = {
            guid
            for (other, _), pair in self._pairs.items()
            if other == job
            for guid in pair.arrived
        }
        for dataset in self.hosts[flow.sender].world.all():
            if not flow.sends(dataset.name) or self.excused(flow, dataset.name):
                continue
            before = [
                each
                for each in dataset.snapshots.values()
                if each.guid in self.taken and self.taken[each.guid].at < began
            ]
            # in a chain, what was taken before may come to the sender only meanwhile
            if flow.sender not in self._scenario.topology.written:
                continue
            # the newest of all may have been enough
            if before and before[-1].guid in waiting_in(listed_in(dataset), arrived):
                raise Broken(
                    f"a run of {job} says it is done, and @{before[-1].name} of {dataset.name}, which "
                    "was there when it began, has not arrived"
                )

    # -- 4, 6: at the end ---------------------------------------------------------------------

    def check_at_rest(self) -> None:
        """Two cycles after the first one without faults: Broken for what has not come right."""
        Rest(
            flows=self._flows,
            hosts=self.hosts,
            taken=self.taken,
            excused=self._excuses.why,
            runs=self.runs,
            reports=self._reports,
            pruned=self._pruned,
            now=self._now(),
            unsaved=self._unsaved,
            lazy=self._scenario.topology.lazy,
        ).check()
        self._check_held()

    def _check_held(self) -> None:
        for host, guid, tag in self._held:
            if not any(
                each.guid == guid and tag in each.holds
                for dataset in self.hosts[host].world.all()
                for each in dataset.snapshots.values()
            ):
                raise Broken(f"a snapshot that an admin of {host} holds by {tag} is gone")


def _progress(copy: Dataset, original: str) -> tuple[int, int] | None:
    partial = copy.partial
    if partial is None or not isinstance(partial.content, MemoryReceive):
        return None
    if partial.begin["toname"].partition("@")[0] != original:
        return (
            None  # a token has the name from before a rename, by which zfs sends nothing any more
        )
    return int(partial.begin["toguid"]), partial.content.offset
