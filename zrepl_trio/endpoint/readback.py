"""What must hold of a dataset that we made or received into, read back: zfs may have done otherwise.

Pure. zrepl once made placeholders that were not encrypted, and what was received below them lay on
another's disk in clear text (zrepl#504). Each check raises PolicyBreach.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from zrepl_trio.endpoint.placeholders import PlaceholderEncryption
from zrepl_trio.endpoint.received_properties import KEY_LOCATION, ReceivedProperties
from zrepl_trio.errors import PolicyBreach, ZfsError
from zrepl_trio.values import valueclass
from zrepl_trio.zfs.argv import PLACEHOLDER, SOURCE_GUID
from zrepl_trio.zfs.model import (
    FilesystemVersion,
    Property,
    PropertySource,
    ReceiveArgs,
    VersionKind,
)
from zrepl_trio.zfs.names import DatasetPath
from zrepl_trio.zfs.placeholders import is_placeholder

__all__ = [
    "ENCRYPTION",
    "ENCRYPTION_PROPERTIES",
    "ORIGIN",
    "SNAPSHOT_PROPERTIES",
    "Received",
    "check_guid",
    "check_placeholder",
    "check_range",
    "check_received",
    "is_clone",
    "is_encrypted",
    "properties_to_read",
    "read_back",
]

ENCRYPTION, _ROOT = "encryption", "encryptionroot"

ORIGIN = "origin"
"""The snapshot that a clone was made from. A stream may name any of the pool, by its guid alone."""

ENCRYPTION_PROPERTIES = (ENCRYPTION, _ROOT)
"""What `check_placeholder` wants to know of the parent."""

_NOT_INHERITED = frozenset(
    {
        "canmount",
        "context",
        "defcontext",
        "filesystem_limit",
        "fscontext",
        "quota",
        "refquota",
        "refreservation",
        "reservation",
        "rootcontext",
        "snapshot_limit",
        "volsize",
        KEY_LOCATION,
    }
)
"""zfsprops(7): what an earlier receive set of these, `-x` leaves."""

_ONE_SPELLING = frozenset(
    {"off", "noauto", "legacy", "always", "disabled", "hidden", "visible", "full", "geom", "dev"}
)
"""Values that zfs shows as they were set; others it may show otherwise, as 10G or gzip-6."""

Properties = Mapping[str, Property]


@valueclass(frozen=True, slots=True, kw_only=True)
class Received:
    """What a receive was to do: its arguments, the job's rules, whether the dataset was `fresh` (or
    a placeholder before), whether its `first` snapshot came, and whether the stream was `raw` (None:
    unknown)."""

    args: ReceiveArgs
    rules: ReceivedProperties
    encryption: PlaceholderEncryption
    fresh: bool
    first: bool
    raw: bool | None


def properties_to_read(args: ReceiveArgs) -> list[str]:
    """The names of all that is looked at after that receive."""
    names = (PLACEHOLDER, SOURCE_GUID, KEY_LOCATION, ORIGIN, *ENCRYPTION_PROPERTIES)
    return list(dict.fromkeys((*names, *args.exclude, *args.override)))


SNAPSHOT_PROPERTIES = ("guid", "createtxg", "creation", "userrefs")
"""What `read_back` takes."""


def read_back(name: str, found: Properties) -> FilesystemVersion:
    """A snapshot as its properties say; ZfsError when they make none."""
    try:
        guid, createtxg, creation, userrefs = (
            int(found[each].value) for each in SNAPSHOT_PROPERTIES
        )
    except ValueError as error:
        raise ZfsError(f"zfs does not tell of snapshot {name} what it is: {error}") from None
    return FilesystemVersion(
        kind=VersionKind.SNAPSHOT,
        name=name,
        guid=guid,
        createtxg=createtxg,
        creation=creation,
        userrefs=userrefs,
    )


def check_guid(
    path: DatasetPath, received: FilesystemVersion, announced: FilesystemVersion
) -> None:
    """ZfsError unless it is the snapshot that the sender announced."""
    if received.guid != announced.guid:
        raise ZfsError(
            f"{path}@{received.name} was received with guid {received.guid:#x}, but the sender "
            f"announced {announced.guid:#x}; it is left as it is: look at both sides",
            dataset=path,
        )


def check_range(
    path: DatasetPath,
    announced: Sequence[FilesystemVersion],
    before: Sequence[FilesystemVersion],
    after: Sequence[FilesystemVersion],
) -> None:
    """ZfsError unless all that came in a range was announced. Less is fine: a snapshot may have been
    destroyed on the sender just before zfs sent it."""
    by_name = {version.name: version for version in announced}
    known = {version.guid for version in before}
    for version in after:
        if version.is_snapshot and version.guid not in known:
            if version.name not in by_name:
                raise ZfsError(
                    f"{path}@{version.name} came in a range in which the sender had not announced it; "
                    "it is left as it is: look at both sides",
                    dataset=path,
                )
            check_guid(path, version, by_name[version.name])


def is_encrypted(found: Properties) -> bool:
    """Whether the dataset is."""
    return found[ENCRYPTION].value not in {"off", "-"}


def is_clone(found: Properties) -> bool:
    """Whether the dataset is."""
    return found[ORIGIN].value not in {"-", ""}


def check_placeholder(
    path: DatasetPath, found: Properties, *, wanted: Mapping[str, str], parent: Properties
) -> None:
    """A placeholder as it is against `wanted`, with which it was created; without an `encryption`
    there it must have its parent's."""
    for name, value in wanted.items():
        actual = found[name]
        if name == ENCRYPTION:
            if value == "off" and is_encrypted(found):
                raise _breach(path, name, actual, value, "`recv.placeholder.encryption`", _NEW)
        elif actual.value != value or actual.source is not PropertySource.LOCAL:
            raise _breach(path, name, actual, value, "a placeholder's creation", _NEW)
    if ENCRYPTION not in wanted:
        for name in ENCRYPTION_PROPERTIES:
            if found[name].value != parent[name].value:
                value = f"{parent[name].value} as its parent"
                raise _breach(path, name, found[name], value, "`recv.placeholder.encryption`", _NEW)


def check_received(
    path: DatasetPath,
    what: Received,
    found: Mapping[str, Properties],
    *,
    root: DatasetPath,
) -> None:
    """The dataset after a receive; `found` tells of it, of its parent, and of `root`, the job's."""
    ours = found[path]
    if what.first and is_clone(ours):
        # which snapshot it is, is not the sender's to know
        raise PolicyBreach(
            f"{path}: the stream made it a clone of a snapshot that is here, which cannot be destroyed as "
            f"long as it has one; nothing is ever sent so: destroy {path}, and see who sends there"
        )
    if not is_encrypted(ours) and ENCRYPTION not in what.rules.override:
        _check_clear_text(path, what, found, root)
    parent = path.parent
    if what.fresh and what.raw is False and parent is not None and is_encrypted(found[parent]):
        # zfs encrypts it by the key of what it lies below, unless told otherwise
        key, wanted = ours[_ROOT], found[parent][_ROOT].value
        if ENCRYPTION not in what.rules.override and key.value != wanted:
            action = "see by whose key it is encrypted, and destroy it if that is not what you want"
            raise _breach(path, _ROOT, key, wanted, "a stream that is not raw", action)
    for name, wanted in what.rules.override.items():
        if not _in_force(name, wanted, ours[name]):
            action = f"run `zfs set {name}={wanted} {path}` and find out what keeps it from that"
            raise _breach(path, name, ours[name], wanted, "`recv.properties.override`", action)
    for name in what.args.exclude:
        stays = not what.fresh and name in _NOT_INHERITED
        if ours[name].source is PropertySource.RECEIVED and not stays and name != KEY_LOCATION:
            why = (
                "`recv.properties.inherit`"
                if name in what.rules.inherit
                else "what is left out by default (`recv.properties.accept` takes it)"
            )
            action = f"run `zfs inherit {name} {path}`"
            raise _breach(path, name, ours[name], "no value of the sender", why, action)


def _check_clear_text(
    path: DatasetPath, what: Received, found: Mapping[str, Properties], root: DatasetPath
) -> None:
    """What lies in clear text must be meant to."""
    actual = found[path][ENCRYPTION]
    if what.raw:
        raise _breach(path, ENCRYPTION, actual, "that of the raw stream", "the sender", _LEAKED)
    parent = path.parent
    if parent is None:
        return
    if is_encrypted(found[parent]):
        wanted = f"{found[parent][ENCRYPTION].value} as its parent"
        raise _breach(path, ENCRYPTION, actual, wanted, "an encrypted parent", _LEAKED)
    mark = found[parent][PLACEHOLDER]
    if (
        what.encryption is PlaceholderEncryption.INHERIT
        and is_encrypted(found[root])
        and is_placeholder(parent, mark.value, mark.source)
    ):
        wanted = f"{found[root][ENCRYPTION].value} as {root}"
        action = (
            f"{_LEAKED}; its placeholder {parent} is not encrypted either, so make that anew too, or "
            "set `recv.placeholder.encryption: off` if clear text is meant"
        )
        raise _breach(path, ENCRYPTION, actual, wanted, "`recv.placeholder.encryption`", action)


def _in_force(name: str, wanted: str, actual: Property) -> bool:
    """Whether the override is what counts; a value that zfs may spell otherwise is not compared."""
    if ":" in name:
        return actual == Property(wanted, PropertySource.LOCAL)
    if name == ENCRYPTION:
        return (actual.value in {"off", "-"}) == (wanted == "off")
    if actual.source in {PropertySource.NONE, PropertySource.TEMPORARY}:
        return True  # not of this type of dataset, or hidden by how it is mounted just now
    if actual.source is not PropertySource.LOCAL:
        return False
    if wanted == "on":
        return actual.value != "off"
    if wanted.startswith("/"):
        return actual.value.endswith(wanted)  # shown behind the pool's altroot
    return wanted not in _ONE_SPELLING or actual.value == wanted


_NEW = (
    "nothing was received into it; see whether somebody else changes datasets there, and try again"
)
_LEAKED = (
    "what was received lies there in clear text: destroy the replica if it must not, and have it sent "
    "again to where it is encrypted"
)


def _breach(
    path: DatasetPath, name: str, actual: Property, wanted: str, demanded_by: str, action: str
) -> PolicyBreach:
    return PolicyBreach(
        f"{path}: {name} is {actual.value!r} ({actual.source.value}), but {wanted!r} is demanded by "
        f"{demanded_by}: {action}"
    )
