"""What must hold, whatever went wrong."""

from __future__ import annotations

from collections.abc import Mapping

from tests.hunt.scenario import CYCLE_S
from zrepl_trio.emulate.objects import Bookmark, Snapshot
from zrepl_trio.endpoint.abstractions import parse_cursor, parse_last_received_tag, parse_step_tag
from zrepl_trio.zfs.memory import MemoryZfs

__all__ = ["Broken", "check_at_rest", "check_content"]


class Broken(Exception):
    """An invariant does not hold."""


def check_content(backup: MemoryZfs, contents: Mapping[int, Mapping[str, bytes]]) -> None:
    """Each replicated snapshot holds what the one of its guid held."""
    for dataset in backup.world.all():
        for snapshot in dataset.snapshots.values():
            expected = contents.get(snapshot.guid)
            if expected is None:
                continue
            found = dict(backup.read(f"{dataset.name}@{snapshot.name}"))
            if found != expected:
                raise Broken(f"{dataset.name}@{snapshot.name} holds something else than was sent")


def check_at_rest(
    app: MemoryZfs,
    backup: MemoryZfs,
    name: str,
    replica: str,
    *,
    now: float,
    disturbed: bool,
) -> None:
    """Some cycles after the last fault, one filesystem is replicated up to date and tidy. One that somebody
    laid hands on may be in a conflict instead."""
    source, copy = app.world.get(name), backup.world.get(replica)
    assert source is not None
    versions: list[Snapshot | Bookmark] = [
        *source.snapshots.values(),
        *source.bookmarks.values(),
    ]
    if not versions:
        if disturbed:
            return
        raise Broken(f"{name} has neither snapshot nor bookmark any more")
    guids = {snapshot.guid for snapshot in copy.snapshots.values()} if copy is not None else set()
    common = [version for version in versions if version.guid in guids]
    newest = max(common, key=lambda version: version.createtxg, default=None)
    # what was taken since the last run, comes with the next
    if newest is None or newest.creation < now - 2 * CYCLE_S:
        if disturbed:
            return
        had = newest.name if newest is not None else "nothing"
        raise Broken(f"{name}: {had} is the newest that both have, cycles after the last fault")
    assert copy is not None
    if copy.partial is not None:
        raise Broken(f"{replica} has partly received state left")
    cursors = [mark for mark in source.bookmarks if parse_cursor(mark) is not None]
    expected = {f"zrepl_CURSOR_G_{newest.guid:016x}"}
    if {mark.partition("_J_")[0] for mark in cursors} != expected:
        raise Broken(f"{name} has the cursors {cursors}, and its newest is {newest.guid:016x}")
    held = [
        f"@{snapshot.name}={tag}"
        for snapshot in source.snapshots.values()
        for tag in snapshot.holds
        if parse_step_tag(tag) is not None
    ]
    if held:
        raise Broken(f"{name} has step holds left: {held}")
    kept = [
        snapshot.guid
        for snapshot in copy.snapshots.values()
        for tag in snapshot.holds
        if parse_last_received_tag(tag) is not None
    ]
    if kept != [newest.guid]:
        raise Broken(f"{replica} is held at {kept}, and the newest is {newest.guid}")
