"""A `local` job of 0.0.x as a push and a sink of today that keep the target paths."""

from __future__ import annotations

from zrepl_trio.config.legacy_job import RECV, OldJob, built, mapping_pairs
from zrepl_trio.config.legacy_mapping import UnmappableError, push_targets
from zrepl_trio.config.nodes import Entry, MapNode, Node

__all__ = ["OldLocalJob"]

_REQUIRED = ("mapping", "snapshot_prefix", "interval", "prune_lhs", "prune_rhs")


class OldLocalJob(OldJob):
    """Source and pull in one, on one host."""

    def today(self) -> list[Node]:
        place = self.node.place
        for key in _REQUIRED:
            if key not in self.entries:
                self.refuse(place, key, "required in a job of type local (a form of 0.0.x)")
        if self.was_refused():
            return []
        self.debug()
        prefix = self.snapshotting()
        self.initial_replication()
        pruning: dict[str, object] = {}
        for old, today, bookmarks in (
            ("prune_lhs", "keep_sender", True),
            ("prune_rhs", "keep_receiver", False),
        ):
            entry = self.entries.pop(old)
            pruning[today] = self.rules(entry, old, prefix, bookmarks=bookmarks)
        mapping = self.entries.pop("mapping")
        try:
            root, identity, filesystems = push_targets(mapping_pairs(mapping.value))
        except UnmappableError as error:
            self.refuse(mapping.key_place, "mapping", str(error), error.accepted)
            return []
        if self.was_refused():
            return []
        name = self.node.text("name") or ""
        sink = {
            "name": f"{name}_sink",
            "type": "sink",
            "serve": {"type": "local", "listener_name": name or "local"},
            "root_fs": root,
            "recv": RECV,
        }
        connect = {
            "type": "local",
            "listener_name": name or "local",
            "client_identity": identity,
        }
        self.put("connect", place, connect)
        self.put("filesystems", mapping.key_place, filesystems)
        self.put("pruning", place, pruning)
        kind = self.entries["type"]
        self.entries["type"] = Entry(kind.key_place, built(kind.value.place, "push"))
        push = MapNode(place, self.entries)
        message = "a job of type local is two today; the received datasets keep their places:"
        self.note(kind, "type", message, [push, sink])
        return [push, built(place, sink)]
