"""The config of zrepl 0.0.x, rewritten as today's before it is checked.

Works on the tree, key by key, so that a job may stand in either generation's words and every
remaining fault keeps its place. What has a meaning today is rewritten and noted with today's
lines; what has none is refused with the reason; nothing is dropped without a note.
"""

from __future__ import annotations

from zrepl_trio.config.legacy_job import OldJob, Outcome
from zrepl_trio.config.legacy_local import OldLocalJob
from zrepl_trio.config.legacy_pull import OldPullJob
from zrepl_trio.config.legacy_source import OldSourceJob
from zrepl_trio.config.nodes import Entry, MapNode, Node, SeqNode

__all__ = ["translate"]

_KINDS: dict[str, type[OldJob]] = {
    "source": OldSourceJob,
    "pull": OldPullJob,
    "local": OldLocalJob,
}


def translate(root: MapNode) -> tuple[MapNode, tuple[int, ...], Outcome]:
    """The file's tree in today's form, for each of its jobs the index in the file, and the notes
    and problems on the way. A tree without anything of 0.0.x comes back unchanged.
    """
    outcome = Outcome()
    entries = dict(root.entries)
    origins: list[int] = []
    jobs = root.get("jobs")
    if isinstance(jobs, SeqNode):
        items: list[Node] = []
        for index, item in enumerate(jobs.items):
            today = _today(item, index, outcome)
            items += today
            origins += [index] * len(today)
        entries["jobs"] = Entry(entries["jobs"].key_place, SeqNode(jobs.place, tuple(items)))
    section = root.get("global")
    if isinstance(section, MapNode):
        entries["global"] = Entry(entries["global"].key_place, _outlets(section, outcome))
    return MapNode(root.place, entries), tuple(origins), outcome


def _today(item: Node, index: int, outcome: Outcome) -> list[Node]:
    kind = _KINDS.get(item.text("type") or "") if isinstance(item, MapNode) else None
    if kind is None or not isinstance(item, MapNode):
        return [item]
    return kind(item, ("jobs", index), outcome).today()


def _outlets(section: MapNode, outcome: Outcome) -> MapNode:
    """`logging[].outlet` is `logging[].type` today."""
    outlets = section.get("logging")
    if not isinstance(outlets, SeqNode):
        return section
    items: list[Node] = []
    for index, item in enumerate(outlets.items):
        outlet = item.entries.get("outlet") if isinstance(item, MapNode) else None
        if outlet is None or not isinstance(item, MapNode) or "type" in item.entries:
            items.append(item)
            continue
        items.append(
            MapNode(
                item.place,
                {"type" if key == "outlet" else key: entry for key, entry in item.entries.items()},
            )
        )
        loc = ("global", "logging", index, "outlet")
        outcome.note(outlet.key_place, loc, "of 0.0.x; today:", {"type": outlet.value})
    logging = Entry(section.entries["logging"].key_place, SeqNode(outlets.place, tuple(items)))
    return MapNode(section.place, {**section.entries, "logging": logging})
