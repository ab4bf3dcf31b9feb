"""Datasets that the sender has renamed: which replicas are theirs, and how those follow. Pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence

from zrepl_trio.endpoint.aside import PLACEHOLDER_ASIDE, SET_ASIDE
from zrepl_trio.endpoint.model import Filesystem, ResolveRequest, Way
from zrepl_trio.zfs.model import FilesystemVersion
from zrepl_trio.zfs.names import DatasetPath

__all__ = ["Followers", "left_behind", "renamed"]


def renamed(
    sender: Iterable[Filesystem], receiver: Iterable[Filesystem]
) -> dict[DatasetPath, DatasetPath]:
    """The sender's filesystems that the receiver has under another name, and that name: the guid of
    the sender's dataset is noted on the replica, and nothing on the sender has its name any more.

    Copies that were set aside are no such replicas, and of two with the same guid neither is; nor is
    one with a replica below it that still has the right name, and would be taken along.
    """
    ours = {each.path: each.dataset_guid for each in sender}
    theirs = {each.path: each.dataset_guid for each in receiver}
    orphans = [
        (path, guid)
        for path, guid in theirs.items()
        if guid is not None and path not in ours and SET_ASIDE not in path
    ]
    if not orphans:
        return {}
    times = Counter(guid for _, guid in orphans)
    stay = {above for path in ours.keys() & theirs.keys() for above in path.ancestors()}
    old_names = {guid: path for path, guid in orphans if times[guid] == 1 and path not in stay}
    return {
        path: old_names[guid]
        for path, guid in ours.items()
        if guid is not None and guid in old_names and path not in theirs
    }


def left_behind(
    sender: Iterable[Filesystem], receiver: Iterable[Filesystem]
) -> dict[DatasetPath, DatasetPath]:
    """The sender's filesystems whose replica is inside a copy that was set aside, and where: the one
    above was renamed, and who did it was killed before he brought this one back."""
    sender = list(sender)
    ours = {each.path for each in sender}
    theirs = {each.path: each.dataset_guid for each in receiver}
    found: dict[DatasetPath, DatasetPath] = {}
    for path in theirs:
        if SET_ASIDE not in path or path in ours:
            continue
        parts = path.components
        right = "/".join([*(part.partition(SET_ASIDE)[0] for part in parts[:-1]), parts[-1]])
        if right != path and SET_ASIDE not in parts[-1]:
            found[DatasetPath(right)] = path
    if not found:
        return {}
    return {
        each.path: found[each.path]
        for each in sender
        if each.path in found
        and each.path not in theirs
        and _is_its_own(each, found[each.path], theirs[found[each.path]])
    }


def _is_its_own(ours: Filesystem, inside: DatasetPath, noted: int | None) -> bool:
    """Whether what lies inside a copy is the replica of `ours`. In a placeholder that stepped aside
    nobody but us has put anything, so that the name proves it where no guid is noted."""
    if noted is None:
        return PLACEHOLDER_ASIDE in inside
    return noted == ours.dataset_guid


class Followers:
    """The replicas that follow, in the order in which they do: parents first."""

    def __init__(self) -> None:
        self._moves: list[tuple[DatasetPath, DatasetPath]] = []

    def follow(
        self, old: DatasetPath, new: DatasetPath, replica: Sequence[FilesystemVersion]
    ) -> tuple[ResolveRequest, DatasetPath | None]:
        """What to ask of the receiver, and the filesystem whose renaming must have gone well before,
        since it takes this one along.

        `replica` are its versions. It is then under `old`, or where those before it have brought it.
        """
        at = old
        after: DatasetPath | None = None
        for source, target in self._moves:
            if at.is_below(source):
                at = target.child(at.relative_to(source))
                after = target
        self._moves.append((at, new))
        request = ResolveRequest(
            filesystem=new,
            way=Way.RENAME,
            expected=tuple(version for version in replica if version.is_snapshot),
            old=tuple(dict.fromkeys((at, old))),
        )
        return request, after
