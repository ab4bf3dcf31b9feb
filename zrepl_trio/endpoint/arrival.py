"""What a receive has left behind: looked at once, completed, and refused if it is not what it should be."""

from __future__ import annotations

from zrepl_trio.endpoint.placeholders import NO_LONGER
from zrepl_trio.endpoint.readback import (
    SNAPSHOT_PROPERTIES,
    Received,
    check_guid,
    check_received,
    is_encrypted,
    properties_to_read,
    read_back,
)
from zrepl_trio.endpoint.received_properties import HARMLESS_KEY_LOCATIONS, KEY_LOCATION
from zrepl_trio.errors import DatasetNotFound, ZfsError
from zrepl_trio.zfs.argv import PLACEHOLDER, SOURCE_GUID
from zrepl_trio.zfs.model import FilesystemVersion, Property, PropertySource
from zrepl_trio.zfs.names import DatasetPath
from zrepl_trio.zfs.placeholders import is_placeholder
from zrepl_trio.zfs.port import Zfs

__all__ = ["look_at_arrival"]


async def look_at_arrival(
    zfs: Zfs, path: DatasetPath, to: FilesystemVersion, what: Received, *, root: DatasetPath
) -> FilesystemVersion:
    """Read back what is there, by one command; set what of our own `zfs recv -o` left undone,
    and raise unless the snapshot is the announced one (a peer may have sent something else) and
    all else is as the job and the stream demand (PolicyBreach). Gives the snapshot; `root` is the job's."""
    snapshot = f"{path}@{to.name}"
    paths = dict.fromkeys((path, path.ancestors()[-1], root, snapshot))
    names = dict.fromkeys((*properties_to_read(what.args), *SNAPSHOT_PROPERTIES))
    try:
        found = await zfs.properties_of(list(paths), list(names))
    except DatasetNotFound as error:
        raise ZfsError(
            f"{snapshot} does not exist although `zfs recv` succeeded: the stream held another "
            f"snapshot ({error})",
            dataset=path,
        ) from error
    received = read_back(to.name, found[snapshot])
    check_guid(path, received, to)
    ours = found[path]
    missing: dict[str, str] = {}
    guid = what.args.override.get(SOURCE_GUID)
    if guid is not None and ours[SOURCE_GUID] != Property(guid, PropertySource.LOCAL):
        missing[SOURCE_GUID] = guid
    mark = ours[PLACEHOLDER]
    if is_placeholder(path, mark.value, mark.source):
        missing[PLACEHOLDER] = NO_LONGER
    if (
        is_encrypted(ours)
        and ours[KEY_LOCATION].value not in HARMLESS_KEY_LOCATIONS
        and not what.rules.takes(KEY_LOCATION)
    ):
        missing[KEY_LOCATION] = "prompt"
    if missing:
        await zfs.set_properties(path, missing)
    check_received(path, what, found, root=root)
    return received
