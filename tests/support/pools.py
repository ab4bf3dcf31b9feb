"""All that pools in memory hold, as a value to compare."""

from __future__ import annotations

from zrepl_trio.zfs.memory import MemoryZfs

__all__ = ["contents"]


def contents(zfs: MemoryZfs) -> dict[str, object]:
    """Each dataset with its properties, snapshots, bookmarks, holds, partial state and files."""
    return {
        each.name: (
            each.guid,
            dict(each.local),
            dict(each.received),
            [(s.name, s.guid, sorted(s.holds), dict(s.props)) for s in each.snapshots.values()],
            [(b.name, b.guid) for b in each.bookmarks.values()],
            each.partial and (each.partial.snapshot, dict(each.partial.begin)),
            each.live,
        )
        for each in zfs.world.all()
    }
