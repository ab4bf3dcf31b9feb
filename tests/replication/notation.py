"""A tiny notation for versions: `@a,1 #b,2 @c,3,7` (name, guid, createtxg if not the guid)."""

from __future__ import annotations

from zrepl_trio.zfs.model import FilesystemVersion, VersionKind
from zrepl_trio.zfs.names import DatasetPath

__all__ = ["path", "version", "versions"]

EPOCH = 1_700_000_000


def path(text: str) -> DatasetPath:
    return DatasetPath.parse(text)


def version(text: str, *, userrefs: int = 0) -> FilesystemVersion:
    name, guid, *txg = text[1:].split(",")
    createtxg = int(txg[0]) if txg else int(guid)
    kind = VersionKind(text[0])
    return FilesystemVersion(
        kind=kind,
        name=name,
        guid=int(guid),
        createtxg=createtxg,
        creation=EPOCH + createtxg,
        userrefs=userrefs if kind is VersionKind.SNAPSHOT else None,
    )


def versions(text: str) -> list[FilesystemVersion]:
    return [version(word) for word in text.split()]
