"""What goes and what stays, by the rules: nothing that one keeps is destroyed, nothing is left that none keeps."""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence

from tests.hunt.evidence import Broken, Taken, mark_of, versions_of
from tests.hunt.faulty_zfs import FaultyZfs
from tests.hunt.rules import Listed, in_order_taken, kept_by
from tests.hunt.scenario import CYCLE_S
from tests.hunt.topology import Flow
from zrepl_trio.emulate.objects import Dataset
from zrepl_trio.endpoint.abstractions import CursorKind

__all__ = ["Retention", "waiting_in"]

_RULES_LAG = 6
"""So many snapshots may have been taken since the rules were asked about those that go."""


class Retention:
    """`arrived` gives the guids that have ever been on a flow's receiver, of a filesystem; `now` is in seconds
    from the start."""

    def __init__(
        self,
        *,
        flows: Sequence[Flow],
        hosts: Mapping[str, FaultyZfs],
        taken: Mapping[int, Taken],
        arrived: Callable[[Flow, str], set[int]],
        now: Callable[[], float],
    ) -> None:
        self._flows = flows
        self._hosts = hosts
        self._taken = taken
        self._arrived = arrived
        self._now = now
        self._removed: dict[tuple[str, str], list[tuple[float, Listed]]] = {}

    def removed(self, host: str, dataset: str, snapshots: Sequence[Listed]) -> None:
        """These went just now; the rules may still have been asked with them in the list."""
        removed = self._removed.setdefault((host, dataset), [])
        removed += [(self._now(), each) for each in snapshots]

    def check_gone(
        self, host: str, dataset: str, before: Sequence[Listed], gone: Collection[str]
    ) -> None:
        """Broken if a job destroyed one that its rules keep."""
        victims = [each for each in before if each.name in gone]
        allowed = {
            each.guid
            for each in victims
            if any(self._may_go(host, dataset, before, each, flow) for flow in self._flows)
        }
        self.removed(host, dataset, victims)
        for each in victims:
            if each.guid not in allowed:
                raise Broken(f"{host}:{dataset}@{each.name} was destroyed, which a rule keeps")

    def _may_go(
        self, host: str, dataset: str, before: Sequence[Listed], victim: Listed, flow: Flow
    ) -> bool:
        """Whether that flow's rules would let it go, now or as things were when they may have been asked."""
        original = flow.original_of(dataset) if host == flow.receiver else None
        if original is not None:
            rules, floor = flow.keep_receiver, flow.floor
        elif host == flow.sender and flow.sends(dataset):
            original, rules, floor = dataset, flow.keep_sender, flow.sender_floor
        else:
            return False
        if _is_foreign(flow, victim.name, on_sender=host == flow.sender):
            return False
        source = self._hosts[flow.sender].world.get(original)
        arrived = self._arrived(flow, original)
        cursor = _cursor_of(flow, source) if host == flow.sender else None
        for listed in self._lists(host, dataset, before, victim):
            # what has arrived, the sender may not have been told of: it goes by its cursor
            for there in (arrived, {cursor}) if host == flow.sender else (None,):
                waiting = waiting_in(listed, there) if there is not None else set()
                kept = kept_by(rules, listed, waiting=waiting, cursor=cursor)
                if victim.guid not in kept | kept_by(floor, in_order_taken(listed)):
                    return True
        return False

    def _lists(
        self, host: str, dataset: str, before: Sequence[Listed], snapshot: Listed
    ) -> Iterator[list[Listed]]:
        """The snapshots as they are, and as they may have been when they were listed, that one among
        them."""
        recent = [
            each
            for at, each in self._removed.get((host, dataset), [])
            if at > self._now() - 2 * CYCLE_S
        ]
        order = sorted({*before, *recent}, key=lambda each: each.createtxg)
        for listed in (list(before), order):
            for later in range(_RULES_LAG):
                earlier = listed[: len(listed) - later]
                if snapshot in earlier:
                    yield earlier

    def check_pruned(
        self, flow: Flow, host: str, dataset: str, original: str, told: Collection[str]
    ) -> None:
        """Broken if pruning that says it is done has left one that no rule keeps; `told` are those that it
        says it has left."""
        found = self._hosts[host].world.get(dataset)
        source = self._hosts[flow.sender].world.get(original)
        copy = self._hosts[flow.receiver].world.get(flow.replica_of(original))
        if found is None or source is None or copy is None:
            return
        common = {each.guid for each in versions_of(source)} & {
            each.guid for each in copy.snapshots.values()
        }
        if any(
            host in {other.sender, other.receiver} for other in self._flows if other is not flow
        ):
            return  # what another job held when it was asked for, stays until the next run
        cursor = _cursor_of(flow, source)
        now = self._hosts[host].listed(dataset)
        for each in now:
            if found.snapshots[each.name].holds or each.guid == cursor or each.guid in common:
                continue
            if self._taken[each.guid].at > self._now() - CYCLE_S or each.name in told:
                continue
            on_sender = host == flow.sender
            if each.name.startswith("manual") or _is_foreign(flow, each.name, on_sender=on_sender):
                continue
            if not self._may_stay(flow, host, dataset, now, each):
                raise Broken(
                    f"{host}:{dataset}@{each.name} was left by pruning, and no rule keeps it"
                )

    def _may_stay(
        self, flow: Flow, host: str, dataset: str, now: Sequence[Listed], snapshot: Listed
    ) -> bool:
        """Whether a rule keeps it, or kept it as things were when the rules may have been asked."""
        on_sender = host == flow.sender
        original = dataset if on_sender else flow.original_of(dataset)
        assert original is not None
        rules = flow.keep_sender if on_sender else flow.keep_receiver
        floor = flow.sender_floor if on_sender else flow.floor
        arrived = self._arrived(flow, original)
        cursor = _cursor_of(flow, self._hosts[flow.sender].world.get(original))
        for listed in self._lists(host, dataset, now, snapshot):
            waiting = waiting_in(listed, arrived) if on_sender else set()
            kept = kept_by(rules, listed, waiting=waiting, cursor=cursor)
            if snapshot.guid in kept | kept_by(floor, in_order_taken(listed)):
                return True
        return False


def _cursor_of(flow: Flow, source: Dataset | None) -> int | None:
    """The guid at the job's newest cursor."""
    marks = [
        each
        for each in (source.bookmarks.values() if source is not None else ())
        if (mark := mark_of(each.name, flow.sending_job)) and mark.kind is CursorKind.CURSOR
    ]
    newest = max(marks, key=lambda each: each.createtxg, default=None)
    return newest.guid if newest is not None else None


def waiting_in(listed: Sequence[Listed], arrived: Collection[int | None]) -> set[int]:
    """Those after the newest that has ever arrived."""
    newest = max((each.createtxg for each in listed if each.guid in arrived), default=0)
    return {each.guid for each in listed if each.createtxg > newest}


def _is_foreign(flow: Flow, name: str, *, on_sender: bool) -> bool:
    """Whether the job leaves it, since it did not take it and no rule is about such names. A puller takes
    none itself; where the job does, a rule about all names is about those."""
    takes = flow.active == flow.sender
    if flow.foreign != "keep" or (takes and name.startswith("zrepl_")):
        return False
    rules = flow.keep_sender if on_sender else flow.keep_receiver
    return not any(
        rule.type != "not_replicated"
        and re.search(rule.regex, name)
        and not (takes and rule.regex in {"", ".*"})
        for rule in rules
    )
