"""Argument lists of every zfs command that we run, as pure functions.

Every command that takes a dataset has it last, already checked by `zfs.names`, so that nothing
from outside can be taken for an option. The first word is the program; `zfs.cli` may replace it.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from zrepl_trio.zfs.model import ReceiveArgs, SendArgs, SendFlags, VersionKind
from zrepl_trio.zfs.names import DatasetPath

__all__ = [
    "BRIEF_PROPERTIES",
    "DATASET_PROPERTIES",
    "PLACEHOLDER",
    "SOURCE_GUID",
    "VERSION_COLUMNS",
    "abort_receive",
    "bookmark",
    "create_filesystem",
    "decode_token",
    "destroy_bookmark",
    "destroy_filesystem",
    "destroy_snapshots",
    "get_properties",
    "hold",
    "list_briefly",
    "list_dataset",
    "list_datasets",
    "list_holds",
    "list_versions",
    "list_versions_below",
    "receive",
    "release",
    "rename",
    "rollback",
    "send",
    "send_dry",
    "set_properties",
    "snapshot",
    "usage",
    "version",
]

Argv = tuple[str, ...]

PLACEHOLDER = "zrepl:placeholder"
"""zrepl's user property that marks a filesystem as a placeholder."""

SOURCE_GUID = "zrepl-trio:source-guid"
"""Our user property on a replica: the guid of the dataset it is a copy of."""

DATASET_PROPERTIES = (
    "guid",
    "type",
    PLACEHOLDER,
    "receive_resume_token",
    "encryption",
    "written",
    SOURCE_GUID,
)
"""What a listing of datasets asks for, in this order."""

BRIEF_PROPERTIES = ("guid", PLACEHOLDER, "encryption")
"""The same of a brief one."""

VERSION_COLUMNS = ("name", "guid", "createtxg", "creation", "userrefs")
"""What a listing of snapshots and bookmarks asks for, in this order."""

_GET_COLUMNS = "name,property,value,source"


def list_datasets(root: DatasetPath | None) -> Argv:
    """All filesystems and volumes at and below `root`, of all pools for None."""
    return (
        *("zfs", "get", "-Hp", "-r", "-t", "filesystem,volume"),
        *("-o", _GET_COLUMNS, ",".join(DATASET_PROPERTIES)),
        *((root,) if root is not None else ()),
    )


def list_briefly(paths: Sequence[DatasetPath], *, below: bool) -> Argv:
    """Those filesystems and volumes, with all `below` them or alone; no paths: of all pools.

    By `get`, since `list` does not tell a placeholder's own mark from one that it inherits.
    """
    return (
        *("zfs", "get", "-Hp", *(("-r",) if below else ()), "-t", "filesystem,volume"),
        *("-o", _GET_COLUMNS, ",".join(BRIEF_PROPERTIES), *paths),
    )


def list_dataset(path: DatasetPath) -> Argv:
    """The same of one dataset alone."""
    return (
        *("zfs", "get", "-Hp", "-t", "filesystem,volume"),
        *("-o", _GET_COLUMNS, ",".join(DATASET_PROPERTIES), path),
    )


def list_versions(path: DatasetPath) -> Argv:
    """Snapshots and bookmarks of one dataset by createtxg."""
    return (
        *("zfs", "list", "-H", "-p", "-o", ",".join(VERSION_COLUMNS), "-r", "-d", "1"),
        *("-t", "bookmark,snapshot", "-s", "createtxg", path),
    )


def list_versions_below(root: DatasetPath) -> Argv:
    """The same of `root` and all below it, in one process."""
    return (
        *("zfs", "list", "-Hp", "-r", "-t", "snapshot,bookmark"),
        *("-o", ",".join(VERSION_COLUMNS), "-s", "createtxg", root),
    )


def get_properties(paths: Sequence[str], names: Sequence[str]) -> Argv:
    """Those properties of each dataset or snapshot."""
    return ("zfs", "get", "-Hp", "-o", _GET_COLUMNS, ",".join(names), *paths)


def set_properties(path: DatasetPath, values: Mapping[str, str]) -> Argv:
    """Set all of them in one transaction."""
    return ("zfs", "set", *(f"{name}={value}" for name, value in values.items()), path)


def create_filesystem(path: DatasetPath, properties: Mapping[str, str]) -> Argv:
    """Make a filesystem below an existing parent."""
    options = [word for n, v in properties.items() for word in ("-o", f"{n}={v}")]
    return ("zfs", "create", *options, path)


def destroy_filesystem(path: DatasetPath) -> Argv:
    """Destroy a dataset; without -r, zfs refuses when it has children or snapshots."""
    return ("zfs", "destroy", path)


def snapshot(path: DatasetPath, name: str) -> Argv:
    return ("zfs", "snapshot", f"{path}@{name}")


def snapshot_all(paths: Iterable[DatasetPath], name: str) -> Argv:
    return ("zfs", "snapshot", *(f"{path}@{name}" for path in paths))


def bookmark(path: DatasetPath, source: str, name: str) -> Argv:
    """Make `path#name` of the snapshot `path@source`."""
    return ("zfs", "bookmark", f"{path}@{source}", f"{path}#{name}")


def destroy_bookmark(path: DatasetPath, name: str) -> Argv:
    return ("zfs", "destroy", f"{path}#{name}")


def destroy_snapshots(path: DatasetPath, names: Iterable[str]) -> Argv:
    """Destroy several at once by the comma form."""
    return ("zfs", "destroy", f"{path}@{','.join(names)}")


def destroy_size(path: DatasetPath, names: Iterable[str]) -> Argv:
    """What it would free to destroy them; changes nothing (zfs-destroy(8))."""
    return ("zfs", "destroy", "-nvp", f"{path}@{','.join(names)}")


def hold(snapshots: Iterable[str], tag: str) -> Argv:
    """Put `tag` on these, each with its dataset."""
    return ("zfs", "hold", tag, *snapshots)


def list_holds(snapshots: Iterable[str]) -> Argv:
    """The holds on these, each with its dataset."""
    return ("zfs", "holds", "-H", *snapshots)


def release(snapshots: Iterable[str], tag: str) -> Argv:
    return ("zfs", "release", tag, *snapshots)


def rollback(path: DatasetPath, name: str, *, destroy_newer: bool) -> Argv:
    return ("zfs", "rollback", *(("-r",) if destroy_newer else ()), f"{path}@{name}")


def rename(old: DatasetPath, new: DatasetPath) -> Argv:
    """Without -u, so that what is mounted moves to where its new name puts it."""
    return ("zfs", "rename", old, new)


def abort_receive(path: DatasetPath) -> Argv:
    return ("zfs", "recv", "-A", path)


def _flags(flags: SendFlags) -> list[str]:
    # zrepl's `encrypted` and `raw` both mean a raw stream to zfs.
    pairs = (
        ("-w", flags.encrypted or flags.raw),
        ("-p", flags.properties),
        ("-b", flags.backup_properties),
        ("-L", flags.large_blocks),
        ("-c", flags.compressed),
        ("-e", flags.embedded_data),
        ("-S", flags.saved),
    )
    return [flag for flag, wanted in pairs if wanted]


def _what_to_send(args: SendArgs) -> list[str]:
    if args.token is not None:
        return ["-t", args.token]
    words = _flags(args.flags)
    if args.from_ is not None:
        words += ["-I" if args.packed else "-i", args.from_.full(args.dataset)]
    return [*words, args.to.full(args.dataset)]


def send(args: SendArgs) -> Argv:
    """The send itself; a token replaces every other flag. zfs sends no package from a bookmark."""
    if args.to.kind is not VersionKind.SNAPSHOT:
        raise ValueError(f"only a snapshot can be sent, not {args.to.full(args.dataset)}")
    if args.packed and (args.token is not None or args.from_ is None or not args.from_.is_snapshot):
        raise ValueError(
            f"several snapshots up to {args.to.full(args.dataset)} want one to start at"
        )
    return ("zfs", "send", *_what_to_send(args))


def send_dry(args: SendArgs) -> Argv:
    """A dry run that prints the size."""
    return ("zfs", "send", "-n", "-v", "-P", *_what_to_send(args))


def decode_token(token: str) -> Argv:
    return ("zfs", "send", "-nvt", token)


def receive(args: ReceiveArgs) -> Argv:
    """Receive stdin into `dataset@snapshot`. A package goes into `dataset`: given a snapshot, zfs puts
    the first of several under that name, and refuses the second."""
    words = ["zfs", "recv"]
    for flag, wanted in (("-F", args.force), ("-s", args.resumable), ("-u", args.unmounted)):
        if wanted:
            words.append(flag)
    for name in args.exclude:
        words += ["-x", name]
    for name, value in args.override.items():
        words += ["-o", f"{name}={value}"]
    return (*words, args.dataset if args.packed else f"{args.dataset}@{args.snapshot}")


def usage(command: str) -> Argv:
    """A command without arguments, which prints its usage and fails: how features are detected."""
    return ("zfs", command)


def version() -> Argv:
    return ("zfs", "version")
