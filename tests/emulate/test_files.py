"""A filesystem's files are a plain directory, and snapshots do not change with them."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tests.emulate.conftest import Pools
from tests.support.trees import read_tree


def restored(pools: Pools, snapshot: str, *, source: str = "") -> dict[str, bytes]:
    """What a snapshot holds, by way of a replica."""
    words = ["-i", source, snapshot] if source else [snapshot]
    pools.run("destroy", "-r", "tank/restored") if not source else None
    pools.zfs("recv", "tank/restored@x" + snapshot.partition("@")[2], stdin=pools.send(*words))
    return read_tree(pools.path("tank/restored"))


def test_mountpoints(pools: Pools) -> None:
    pools.zfs("create", "tank/a")
    pools.zfs("create", "tank/a/b")
    assert pools.path("tank") == pools.directory / "tank"
    assert pools.path("tank/a/b") == pools.directory / "tank/a/b"
    assert (pools.directory / "tank/a/b").is_dir()
    pools.zfs("create", "-o", "mountpoint=/else/where", "tank/c")
    assert (pools.directory / "else/where").is_dir()
    pools.zfs("create", "-o", "mountpoint=none", "tank/d")
    assert pools.value("mounted", "tank/d") == "no"


def test_changes_in_place_do_not_reach_snapshots(pools: Pools) -> None:
    pools.zfs("create", "tank/a")
    file = pools.path("tank/a") / "f"
    file.write_bytes(b"old " * 1000)
    pools.zfs("snapshot", "tank/a@1")
    with file.open("r+b") as opened:
        opened.write(b"NEW!")
    pools.zfs("snapshot", "tank/a@2")
    with file.open("ab") as opened:
        opened.write(b"tail")
    assert restored(pools, "tank/a@1") == {"f": b"old " * 1000}
    assert restored(pools, "tank/a@2", source="tank/a@1") == {"f": b"NEW!" + b"old " * 999}
    pools.zfs("rollback", "-r", "tank/a@1")
    assert file.read_bytes() == b"old " * 1000


@pytest.mark.parametrize("how", ["same size and time", "at once"])
def test_a_change_that_stat_hardly_shows_is_found(pools: Pools, how: str) -> None:
    pools.zfs("create", "tank/a")
    file = pools.path("tank/a") / "f"
    file.write_bytes(b"1" * 100)
    before = file.stat()
    for number in range(2, 6):
        pools.zfs("snapshot", f"tank/a@{number}")
        with file.open("r+b") as opened:
            opened.write(str(number).encode() * 100)
        if how == "same size and time":
            os.utime(file, ns=(before.st_atime_ns, before.st_mtime_ns))
    pools.zfs("snapshot", "tank/a@last")
    assert restored(pools, "tank/a@last") == {"f": b"5" * 100}
    assert restored(pools, "tank/a@3") == {"f": b"2" * 100}


def test_kinds_modes_and_times_survive(pools: Pools) -> None:
    pools.zfs("create", "tank/a")
    root = pools.path("tank/a")
    (root / "dir/empty").mkdir(parents=True)
    (root / "dir/script").write_text("x")
    (root / "dir/script").chmod(0o750)
    os.utime(root / "dir/script", ns=(1, 1_000_000_000_123_456_789))
    (root / "link").symlink_to("dir/../nowhere")
    strange = os.fsdecode(b"caf\xe9\nx=y\\n")
    (root / strange).write_text("strange")
    (root / "readonly").mkdir()
    (root / "readonly/file").write_text("y")
    (root / "readonly").chmod(0o555)
    pools.zfs("snapshot", "tank/a@1")
    pools.zfs("recv", "tank/b@1", stdin=pools.send("tank/a@1"))
    copy = pools.path("tank/b")
    assert sorted(os.listdir(copy)) == sorted(os.listdir(root))
    assert (copy / "dir/empty").is_dir()
    assert (copy / "link").readlink() == Path("dir/../nowhere")
    assert (copy / strange).read_text() == "strange"
    script = (copy / "dir/script").stat()
    assert (script.st_mode & 0o777, script.st_mtime_ns) == (0o750, 1_000_000_000_123_456_789)
    assert (copy / "readonly").stat().st_mode & 0o777 == 0o555
    # nothing of it counts as a change of the replica
    (root / "dir/script").write_text("z")
    pools.zfs("snapshot", "tank/a@2")
    pools.zfs("recv", "-u", "tank/b@2", stdin=pools.send("-i", "@1", "tank/a@2"))
    assert (copy / "dir/script").read_text() == "z"


def test_a_path_that_changes_its_kind(pools: Pools) -> None:
    pools.zfs("create", "tank/a")
    root = pools.path("tank/a")
    (root / "x").mkdir()
    (root / "x/inner").write_text("1")
    (root / "y").write_text("1")
    pools.zfs("snapshot", "tank/a@1")
    (root / "x/inner").unlink()
    (root / "x").rmdir()
    (root / "x").write_text("2")
    (root / "y").unlink()
    (root / "y").mkdir()
    (root / "y/inner").write_text("2")
    pools.zfs("snapshot", "tank/a@2")
    assert restored(pools, "tank/a@1") == {"x/inner": b"1", "y": b"1"}
    assert restored(pools, "tank/a@2", source="@1") == {"x": b"2", "y/inner": b"2"}
    pools.zfs("rollback", "-r", "tank/a@1")
    assert read_tree(root) == {"x/inner": b"1", "y": b"1"}


def test_children_are_no_data_of_their_parent(pools: Pools) -> None:
    pools.zfs("create", "tank/a")
    pools.zfs("create", "tank/a/child")
    (pools.path("tank/a") / "mine").write_text("1")
    (pools.path("tank/a/child") / "its").write_text("2")
    pools.zfs("snapshot", "-r", "tank/a@1")
    assert restored(pools, "tank/a@1") == {"mine": b"1"}
    (pools.path("tank/a") / "mine").write_text("changed")
    pools.zfs("rollback", "tank/a@1")
    assert read_tree(pools.path("tank/a")) == {"mine": b"1", "child/its": b"2"}


def test_unmounting_keeps_unsaved_files(pools: Pools) -> None:
    pools.zfs("create", "tank/a")
    pools.zfs("create", "tank/a/b")
    root = pools.path("tank/a")
    (root / "f").write_text("1")
    (root / "b/g").write_text("2")
    pools.zfs("unmount", "tank/a")
    assert not root.exists()
    pools.zfs("mount", "tank/a")
    assert read_tree(root) == {"f": b"1"}
    pools.zfs("mount", "tank/a/b")
    assert read_tree(root) == {"f": b"1", "b/g": b"2"}
    pools.zfs("set", "mountpoint=/moved", "tank/a")
    assert read_tree(pools.directory / "moved") == {"f": b"1", "b/g": b"2"}
    assert not root.exists()
    assert "not empty" in _occupied(pools)
    assert pools.leftovers() == []


def test_renaming_moves_what_is_mounted(pools: Pools) -> None:
    for name in ("a", "a/b", "a/off", "to"):
        pools.zfs("create", f"tank/{name}")
    pools.zfs("create", "-o", "mountpoint=/fixed", "tank/a/fixed")
    pools.zfs("create", "-V", "1M", "tank/a/vol")
    for name in ("a", "a/b", "a/off", "a/fixed"):
        (pools.path(f"tank/{name}") / "f").write_text(name)
    (pools.directory / "dev/zvol/tank/a/vol").write_bytes(b"device" * 10)
    pools.zfs("unmount", "tank/a/off")
    pools.zfs("rename", "tank/a", "tank/to/x")
    assert not (pools.directory / "tank/a").exists()
    assert not (pools.directory / "dev/zvol/tank/a").exists()
    assert (pools.directory / "dev/zvol/tank/to/x/vol").read_bytes() == b"device" * 10
    assert read_tree(pools.directory / "tank/to/x") == {"f": b"a", "b/f": b"a/b"}
    assert read_tree(pools.directory / "fixed") == {"f": b"a/fixed"}
    pools.zfs("mount", "tank/to/x/off")
    assert read_tree(pools.directory / "tank/to/x/off") == {"f": b"a/off"}
    assert pools.leftovers() == []


def test_an_encrypted_child_stays_below_its_root(pools: Pools) -> None:
    pools.zfs("create", "-o", "encryption=on", "tank/root")
    pools.zfs("create", "tank/root/a")
    assert "outside of its encryption root" in pools.fails("rename", "tank/root/a", "tank/a")
    pools.zfs("rename", "tank/root/a", "tank/root/b")
    pools.zfs("rename", "tank/root", "tank/moved")
    assert pools.names("tank") == ["tank", "tank/moved", "tank/moved/b"]


def _occupied(pools: Pools) -> str:
    pools.zfs("create", "-o", "canmount=noauto", "-o", "mountpoint=/full", "tank/c")
    (pools.directory / "full").mkdir()
    (pools.directory / "full/file").write_text("")
    return pools.fails("mount", "tank/c")


def test_what_cannot_be_kept_is_refused(pools: Pools) -> None:
    pools.zfs("create", "tank/a")
    os.mkfifo(pools.path("tank/a") / "pipe")
    assert "files, directories and symlinks only" in pools.fails("snapshot", "tank/a@1")
    assert pools.names("tank/a") == ["tank/a"]


def test_volumes(pools: Pools) -> None:
    pools.zfs("create", "-V", "1M", "tank/vol")
    device = pools.directory / "dev/zvol/tank/vol"
    assert device.stat().st_size == 1 << 20
    with device.open("r+b") as file:
        file.write(b"block")
    pools.zfs("snapshot", "tank/vol@1")
    with device.open("r+b") as file:
        file.write(b"BLOCK")
    pools.zfs("snapshot", "tank/vol@2")
    pools.zfs("recv", "-u", "tank/copy@1", stdin=pools.send("tank/vol@1"))
    copy = pools.directory / "dev/zvol/tank/copy"
    assert (copy.read_bytes()[:5], copy.stat().st_size) == (b"block", 1 << 20)
    pools.zfs("recv", "-u", "tank/copy@2", stdin=pools.send("-i", "@1", "tank/vol@2"))
    assert copy.read_bytes()[:5] == b"BLOCK"
    assert pools.value("type", "tank/copy") == "volume"
    pools.zfs("destroy", "-r", "tank/vol")
    assert not device.exists()


def test_destroying_removes_the_data(pools: Pools) -> None:
    pools.zfs("create", "tank/a")
    (pools.path("tank/a") / "f").write_bytes(bytes(100_000))
    pools.zfs("snapshot", "tank/a@1")
    (pools.path("tank/a") / "f").write_bytes(b"x" * 100_000)
    pools.zfs("snapshot", "tank/a@2")
    data = pools.directory / ".emulated-zfs/data"

    def blobs() -> int:
        return sum(1 for path in data.rglob("b/*") if path.is_file())

    assert blobs() == 2
    pools.zfs("destroy", "tank/a@1")
    assert blobs() == 1
    pools.zfs("destroy", "-r", "tank/a")
    assert blobs() == 0
    assert not (pools.directory / "tank/a").exists()
    pools.zpool("destroy", "tank")
    assert list(data.iterdir()) == []
    assert pools.leftovers() == []


def test_snapshots_of_unchanged_files_share_their_blobs(pools: Pools) -> None:
    pools.zfs("create", "tank/a")
    (pools.path("tank/a") / "f").write_bytes(bytes(100_000))
    for number in range(5):
        pools.zfs("snapshot", f"tank/a@{number}")
    data = pools.directory / ".emulated-zfs/data"
    assert sum(path.stat().st_size for path in data.rglob("b/*")) <= 200_000
    pools.zfs("destroy", "tank/a@0,1,2,3")
    assert restored(pools, "tank/a@4") == {"f": bytes(100_000)}


def test_live_files_are_those_of_a_destroyed_snapshot(pools: Pools) -> None:
    pools.zfs("create", "tank/a")
    for number in "12":
        (pools.path("tank/a") / "f").write_text(number)
        pools.zfs("snapshot", f"tank/a@{number}")
    pools.zfs("recv", "-u", "tank/b@1", stdin=pools.send("tank/a@1"))
    pools.zfs("recv", "-u", "tank/b@2", stdin=pools.send("-i", "@1", "tank/a@2"))
    pools.zfs("destroy", "tank/b@2")
    pools.zfs("mount", "tank/b")
    assert read_tree(pools.path("tank/b")) == {"f": b"2"}
    again = pools.send("-i", "@1", "tank/a@2")
    assert "has been modified" in pools.fails("recv", "-u", "tank/b@2", stdin=again)
    pools.zfs("recv", "-F", "-u", "tank/b@2", stdin=again)


def test_quota(pools: Pools) -> None:
    pools.zfs("create", "tank/a")
    (pools.path("tank/a") / "f").write_bytes(bytes(3 << 20))
    pools.zfs("snapshot", "tank/a@1")
    pools.zfs("create", "-o", "quota=1M", "tank/small")
    stream = pools.send("tank/a@1")
    assert "space quota exceeded" in pools.fails("recv", "-s", "tank/small/b@1", stdin=stream)
    token = pools.value("receive_resume_token", "tank/small/b")
    pools.zfs("set", "quota=none", "tank/small")
    pools.zfs("recv", "-s", "tank/small/b@1", stdin=pools.send("-t", token))
    assert read_tree(pools.path("tank/small/b")) == {"f": bytes(3 << 20)}


def test_a_pool_on_a_file_holds_what_the_file_would(pools: Pools, tmp_path: Path) -> None:
    image = tmp_path / "image"
    image.write_bytes(b"")
    os.truncate(image, 1 << 20)
    pools.zpool("create", "little", str(image))
    pools.zfs("create", "tank/a")
    (pools.path("tank/a") / "f").write_bytes(bytes(3 << 20))
    pools.zfs("snapshot", "tank/a@1")
    stream = pools.send("tank/a@1")
    assert "out of space" in pools.fails("recv", "little/a@1", stdin=stream)
    assert pools.names("little") == ["little"]
