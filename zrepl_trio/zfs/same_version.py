"""Whether the bookmark that is in the way is the very one that was wanted. Pure."""

from __future__ import annotations

from collections.abc import Sequence

from zrepl_trio.errors import DatasetExists
from zrepl_trio.zfs.model import FilesystemVersion, VersionKind
from zrepl_trio.zfs.names import DatasetPath

__all__ = ["another_by_now", "check_existing_bookmark"]


def another_by_now(path: DatasetPath, name: str, wanted: FilesystemVersion) -> DatasetExists:
    """The error when a bookmark was made of a snapshot by its name, and that was not the one that is `wanted`."""
    return DatasetExists(
        f"{path}#{name}: cannot be made, since {wanted.full(path)} with guid {wanted.guid:#x} is gone, and another "
        "snapshot has its name; give snapshots names that are never used again",
        dataset=path,
    )


def check_existing_bookmark(
    path: DatasetPath,
    wanted: FilesystemVersion,
    name: str,
    versions: Sequence[FilesystemVersion],
) -> None:
    """DatasetExists unless `path#name` is among `versions` and is the same version as `wanted`."""
    for version in versions:
        if version.kind is VersionKind.BOOKMARK and version.name == name:
            if version.guid == wanted.guid:
                return
            raise DatasetExists(
                f"{path}#{name}: exists with guid {version.guid:#x}, not {wanted.guid:#x}"
                f" of {wanted.full(path)}; destroy that bookmark if nothing needs it",
                dataset=path,
            )
    raise DatasetExists(
        f"{path}#{name}: cannot be made of {wanted.full(path)}, which is a bookmark itself",
        dataset=path,
    )
