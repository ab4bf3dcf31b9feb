"""Exact argument lists: what zrepl 0.7 runs, and what we run in its place."""

from __future__ import annotations

import pytest

from zrepl_trio.zfs import argv
from zrepl_trio.zfs.model import (
    FilesystemVersion,
    ReceiveArgs,
    SendArgs,
    SendFlags,
    VersionKind,
)
from zrepl_trio.zfs.names import DatasetPath

FS = DatasetPath.parse("tank/a b")


def version(sign: str, name: str) -> FilesystemVersion:
    return FilesystemVersion(
        kind=VersionKind(sign), name=name, guid=1, createtxg=1, creation=1, userrefs=None
    )


TO = version("@", "2")
COLUMNS = "-o name,guid,createtxg,creation,userrefs"
GET = "-o name,property,value,source"
LISTED = (
    "guid,type,zrepl:placeholder,receive_resume_token,encryption,written,zrepl-trio:source-guid"
)

BRIEF = "guid,zrepl:placeholder,encryption"


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (argv.list_datasets(FS), f"zfs get -Hp -r -t filesystem,volume {GET} {LISTED} FS"),
        (argv.list_datasets(None), f"zfs get -Hp -r -t filesystem,volume {GET} {LISTED}"),
        (
            argv.list_briefly([FS, FS], below=True),
            f"zfs get -Hp -r -t filesystem,volume {GET} {BRIEF} FS FS",
        ),
        (
            argv.list_briefly([FS], below=False),
            f"zfs get -Hp -t filesystem,volume {GET} {BRIEF} FS",
        ),
        (argv.list_dataset(FS), f"zfs get -Hp -t filesystem,volume {GET} {LISTED} FS"),
        (
            argv.list_versions(FS),
            f"zfs list -H -p {COLUMNS} -r -d 1 -t bookmark,snapshot -s createtxg FS",
        ),
        (
            argv.list_versions_below(FS),
            f"zfs list -Hp -r -t snapshot,bookmark {COLUMNS} -s createtxg FS",
        ),
        (argv.get_properties([FS], ["a:b", "guid"]), f"zfs get -Hp {GET} a:b,guid FS"),
        (argv.get_properties([FS, FS], ["guid"]), f"zfs get -Hp {GET} guid FS FS"),
        (argv.destroy_filesystem(FS), "zfs destroy FS"),
        (argv.set_properties(FS, {"a:b": "c", "d": ""}), "zfs set a:b=c d= FS"),
        (
            argv.create_filesystem(FS, {"zrepl:placeholder": "on", "mountpoint": "none"}),
            "zfs create -o zrepl:placeholder=on -o mountpoint=none FS",
        ),
        (argv.snapshot(FS, "x"), "zfs snapshot FS@x"),
        (argv.bookmark(FS, "x", "b"), "zfs bookmark FS@x FS#b"),
        (argv.destroy_bookmark(FS, "b"), "zfs destroy FS#b"),
        (argv.destroy_snapshots(FS, ["a", "b"]), "zfs destroy FS@a,b"),
        (argv.destroy_size(FS, ["a", "b"]), "zfs destroy -nvp FS@a,b"),
        (argv.hold([f"{FS}@a", f"{FS}@b"], "tag"), "zfs hold tag FS@a FS@b"),
        (argv.list_holds([f"{FS}@a", f"{FS}@b"]), "zfs holds -H FS@a FS@b"),
        (argv.release([f"{FS}@a", f"{FS}@b"], "tag"), "zfs release tag FS@a FS@b"),
        (argv.rollback(FS, "a", destroy_newer=True), "zfs rollback -r FS@a"),
        (argv.rollback(FS, "a", destroy_newer=False), "zfs rollback FS@a"),
        (argv.rename(FS, DatasetPath.parse("tank/b")), "zfs rename FS tank/b"),
        (argv.abort_receive(FS), "zfs recv -A FS"),
        (argv.send(SendArgs(dataset=FS, to=TO)), "zfs send FS@2"),
        (
            argv.send(SendArgs(dataset=FS, to=TO, from_=version("@", "1"))),
            "zfs send -i FS@1 FS@2",
        ),
        (
            argv.send(SendArgs(dataset=FS, to=TO, from_=version("#", "1"))),
            "zfs send -i FS#1 FS@2",
        ),
        (
            argv.send(
                SendArgs(
                    dataset=FS,
                    to=TO,
                    from_=version("@", "1"),
                    flags=SendFlags(
                        raw=True,
                        properties=True,
                        backup_properties=True,
                        large_blocks=True,
                        compressed=True,
                        embedded_data=True,
                        saved=True,
                    ),
                )
            ),
            "zfs send -w -p -b -L -c -e -S -i FS@1 FS@2",
        ),
        (
            argv.send(SendArgs(dataset=FS, to=TO, flags=SendFlags(encrypted=True))),
            "zfs send -w FS@2",
        ),
        (
            argv.send(
                SendArgs(dataset=FS, to=TO, from_=TO, token="1-t", flags=SendFlags(properties=True))
            ),
            "zfs send -t 1-t",
        ),
        (argv.send_dry(SendArgs(dataset=FS, to=TO)), "zfs send -n -v -P FS@2"),
        (argv.send_dry(SendArgs(dataset=FS, to=TO, token="1-t")), "zfs send -n -v -P -t 1-t"),
        (argv.decode_token("1-t"), "zfs send -nvt 1-t"),
        (argv.receive(ReceiveArgs(dataset=FS, snapshot="2")), "zfs recv -s -u FS@2"),
        (
            argv.receive(
                ReceiveArgs(
                    dataset=FS,
                    snapshot="2",
                    force=True,
                    resumable=False,
                    unmounted=False,
                    exclude=("mountpoint", "canmount"),
                    override={"readonly": "on"},
                )
            ),
            "zfs recv -F -x mountpoint -x canmount -o readonly=on FS@2",
        ),
        (argv.usage("receive"), "zfs receive"),
        (argv.version(), "zfs version"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_argument_lists(words: tuple[str, ...], expected: str) -> None:
    assert list(words) == [word.replace("FS", FS) for word in expected.split(" ")]


def test_only_a_snapshot_is_sent() -> None:
    with pytest.raises(ValueError, match="only a snapshot"):
        argv.send(SendArgs(dataset=FS, to=version("#", "b")))
