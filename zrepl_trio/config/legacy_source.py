"""A `source` job of 0.0.x in today's form."""

from __future__ import annotations

from zrepl_trio.config.legacy_job import OldSingleJob
from zrepl_trio.config.legacy_prune import keeps_everything
from zrepl_trio.config.nodes import Entry, MapNode, ScalarNode, SeqNode

__all__ = ["OldSourceJob"]

_VERDICTS = {"ok": "true", "!": "false"}


class OldSourceJob(OldSingleJob):
    """Serves one client, snapshots and prunes by itself; today the puller prunes both sides."""

    def translate(self) -> None:
        old = {"datasets", "snapshot_prefix", "interval", "prune", "debug"} & self.entries.keys()
        self._client_identity()
        self._filesystems()
        if not old:
            return
        self.debug()
        named = self.entries.get("snapshot_prefix")
        prefix = self.snapshotting()
        if named is not None and prefix is not None:
            self.note(
                named,
                "snapshot_prefix",
                "offered only snapshots of this prefix then; today all snapshots of the "
                "filesystems are replicated, and no key changes that",
            )
        if "filesystems" not in self.entries:
            nothing = {"<": False}
            self.put("filesystems", self.node.place, nothing)
            message = "0.0.x offers nothing without `filesystems`, and so does today's form:"
            self.outcome.note(self.node.place, self.loc, message, {"filesystems": nothing})
        prune = self.take("prune")
        if prune is not None:
            self._prune(prune, prefix)

    def _client_identity(self) -> None:
        """`serve.client_identity` is a list today."""
        serve = self.entries.get("serve")
        if serve is None or not isinstance(serve.value, MapNode):
            return
        entry = serve.value.entries.get("client_identity")
        if entry is None or serve.value.text("type") != "stdinserver":
            return
        key = "serve.client_identity"
        if "client_identities" in serve.value.entries:
            message = "stands beside `client_identities`; keep one of the two"
            self.refuse(entry.key_place, key, message)
            return
        if not isinstance(entry.value, ScalarNode) or not entry.value.text:
            self.refuse(entry.key_place, key, "must be a text that is not empty")
            return
        many = Entry(entry.key_place, SeqNode(entry.value.place, (entry.value,)))
        entries = {
            "client_identities" if name == "client_identity" else name: (
                many if name == "client_identity" else other
            )
            for name, other in serve.value.entries.items()
        }
        self.entries["serve"] = Entry(serve.key_place, MapNode(serve.value.place, entries))
        self.note(entry, key, "of 0.0.x; today:", {"client_identities": many.value})

    def _filesystems(self) -> None:
        """`datasets` is `filesystems` today, and `ok` and `!` are true and false."""
        datasets = self.take("datasets")
        if datasets is not None and self.put("filesystems", datasets.key_place, datasets.value):
            self.note(datasets, "datasets", "is called `filesystems` today")
        entry = self.entries.get("filesystems")
        if entry is None or not isinstance(entry.value, MapNode):
            return
        verdicts: dict[str, Entry] = {}
        for pattern, verdict in entry.value.entries.items():
            value = verdict.value
            if isinstance(value, ScalarNode) and value.text in _VERDICTS:
                value = ScalarNode(value.place, _VERDICTS[value.text], plain=True)
            verdicts[pattern] = Entry(verdict.key_place, value)
        if verdicts == entry.value.entries:
            return
        value = MapNode(entry.value.place, verdicts)
        self.entries["filesystems"] = Entry(entry.key_place, value)
        self.note(entry, "filesystems", "of 0.0.x; today:", {"filesystems": value})

    def _prune(self, prune: Entry, prefix: str | None) -> None:
        rules = self.rules(prune, "prune", prefix, bookmarks=True)
        if rules is None or keeps_everything(rules):
            return
        self.note(
            prune,
            "prune",
            "a source does not prune today, so this is left out here and nothing is destroyed; "
            "the puller prunes both sides, by such lines in its job:",
            {"pruning": {"keep_sender": [{"type": "not_replicated"}, *rules]}},
        )
