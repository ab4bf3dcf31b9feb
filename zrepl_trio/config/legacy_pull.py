"""A `pull` job of 0.0.x in today's form."""

from __future__ import annotations

from zrepl_trio.config.legacy_job import RECV, OldSingleJob, mapping_pairs
from zrepl_trio.config.legacy_mapping import UnmappableError, only_root
from zrepl_trio.config.legacy_prune import KEEP_ALL
from zrepl_trio.config.nodes import Entry

__all__ = ["OldPullJob"]

_OLD_KEYS = {"mapping", "initial_repl_policy", "snapshot_prefix", "prune", "debug"}


class OldPullJob(OldSingleJob):
    """Pulls at start and then at an interval, into places given by a mapping."""

    def translate(self) -> None:
        if not _OLD_KEYS & self.entries.keys():
            return
        self.debug()
        self._mapping()
        self.initial_replication()
        prefix = self.text(self.take("snapshot_prefix"), "snapshot_prefix")
        prune = self.take("prune")
        if prune is not None:
            self._prune(prune, prefix)
        elif "pruning" not in self.entries:
            self.refuse(self.node.place, "prune", "required, and missing (a form of 0.0.x)")
        if "run_at_start" not in self.entries:
            self.put("run_at_start", self.node.place, value=True)
            message = (
                "0.0.x pulls also when it starts; today's form does so only by a key of zrepl-trio:"
            )
            self.outcome.note(self.node.place, self.loc, message, {"run_at_start": True})
        if "recv" not in self.entries:
            self.put("recv", self.node.place, RECV)
            message = "0.0.x gave a replica's missing parents the encryption of theirs; today:"
            self.outcome.note(self.node.place, self.loc, message, {"recv": RECV})

    def _mapping(self) -> None:
        mapping = self.take("mapping")
        if mapping is None:
            if "root_fs" not in self.entries:
                message = "missing: 0.0.x pulled nothing then, and today's form needs a root_fs"
                accepted = '`mapping: {"<": DATASET}`, or `root_fs: DATASET`'
                self.refuse(self.node.place, "mapping", message, accepted)
            return
        try:
            root = only_root(mapping_pairs(mapping.value))
        except UnmappableError as error:
            self.refuse(mapping.key_place, "mapping", str(error), error.accepted)
            # Without a place to receive into nothing else can be said about root_fs.
            self.put("root_fs", mapping.key_place, "refused")
            return
        if self.put("root_fs", mapping.key_place, root):
            self.note(mapping, "mapping", "of 0.0.x; today:", {"root_fs": root})

    def _prune(self, prune: Entry, prefix: str | None) -> None:
        rules = self.rules(prune, "prune", prefix, bookmarks=False)
        today = {"keep_sender": [KEEP_ALL], "keep_receiver": rules or [KEEP_ALL]}
        if self.put("pruning", prune.key_place, today) and rules is not None:
            message = "of 0.0.x, where a puller prunes its own side only; today:"
            self.note(prune, "prune", message, {"pruning": today})
