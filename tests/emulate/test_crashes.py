"""Commands at the same time, and commands killed at any moment."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from tests.emulate.conftest import Pools
from tests.support.trees import read_tree

MIB = 1 << 20


def blob(size: int, seed: int = 1) -> bytes:
    return random.Random(seed).randbytes(size)


def test_changes_at_the_same_time_are_all_kept(pools: Pools) -> None:
    pools.zfs("create", "tank/a")

    def work(number: int) -> None:
        pools.zfs("create", f"tank/a/{number}")
        pools.zfs("snapshot", f"tank/a/{number}@s")
        pools.zfs("hold", f"t{number}", f"tank/a/{number}@s")
        pools.zfs("snapshot", f"tank/a@{number}")
        pools.zfs("set", f"n:{number}=x", "tank/a")
        assert f"tank/a/{number}@s" in pools.names("tank/a")

    with ThreadPoolExecutor(8) as threads:
        list(threads.map(work, range(16)))
    names = pools.names("tank/a")
    assert len(names) == 1 + 16 + 32
    assert (
        len(pools.zfs("holds", "-H", *(n for n in names if "/" in n[5:] and "@" in n)).splitlines())
        == 16
    )
    assert all(pools.value(f"n:{n}", "tank/a") == "x" for n in range(16))
    assert pools.leftovers() == []


def test_one_of_two_receives_into_the_same_wins(pools: Pools) -> None:
    pools.zfs("create", "tank/a")
    (pools.path("tank/a") / "f").write_bytes(blob(2 * MIB))
    pools.zfs("snapshot", "tank/a@1")
    stream = pools.send("tank/a@1")
    with ThreadPoolExecutor(4) as threads:
        ends = list(
            threads.map(lambda _: pools.run("recv", "-s", "tank/b@1", stdin=stream), range(4))
        )
    assert sorted(done.returncode for done in ends) == [0, 1, 1, 1]
    assert read_tree(pools.path("tank/b")) == {"f": blob(2 * MIB)}


def test_a_snapshot_that_is_being_sent_stays(pools: Pools) -> None:
    pools.zfs("create", "tank/a")
    (pools.path("tank/a") / "f").write_bytes(blob(2 * MIB))
    pools.zfs("snapshot", "tank/a@1")
    with pools.start("send", "tank/a@1", stdout=subprocess.PIPE) as sender:
        assert sender.stdout is not None
        sender.stdout.read(1)
        assert "dataset is busy" in pools.fails("destroy", "tank/a@1")
        assert "dataset is busy" in pools.fails("destroy", "-r", "tank/a")
        sender.kill()
    pools.zfs("destroy", "tank/a@1")


def test_a_reader_that_goes_ends_the_send_by_signal(pools: Pools) -> None:
    pools.zfs("create", "tank/a")
    (pools.path("tank/a") / "f").write_bytes(blob(2 * MIB))
    pools.zfs("snapshot", "tank/a@1")
    with pools.start("send", "tank/a@1", stdout=subprocess.PIPE, stderr=subprocess.PIPE) as sender:
        assert sender.stdout is not None
        sender.stdout.read(1)
        sender.stdout.close()
        assert sender.wait(20) == -signal.SIGPIPE


@pytest.mark.slow
def test_a_receive_killed_anywhere_is_resumed_from_there(pools: Pools) -> None:
    pools.zfs("create", "tank/a")
    files = {f"f{n}": blob(MIB + n, n) for n in range(4)} | {"empty": b"", "z": b"end"}
    for name, data in files.items():
        (pools.path("tank/a") / name).write_bytes(data)
    pools.zfs("snapshot", "tank/a@1")
    whole = pools.send("tank/a@1")
    chance = random.Random(7)
    for round_ in range(6):
        target = f"tank/b{round_}"
        rest, sent = whole, 0
        for _ in range(3):
            cut = chance.randrange(len(rest))
            with pools.start("recv", "-s", "-u", f"{target}@1", stdin=subprocess.PIPE) as receiver:
                assert receiver.stdin is not None
                receiver.stdin.write(rest[:cut])
                receiver.stdin.flush()
                time.sleep(chance.random() * 0.05)
                receiver.kill()
            sent += cut
            done = pools.run("get", "-Hp", "-o", "value", "receive_resume_token", target)
            token = done.stdout.decode().strip()
            if token not in {"", "-"}:
                rest = pools.send("-t", token)
        if pools.run("list", target).returncode:
            rest = whole
        pools.zfs("recv", "-s", "-u", f"{target}@1", stdin=rest)
        pools.zfs("mount", target)
        assert read_tree(pools.path(target)) == files
    assert pools.leftovers() == []


def test_a_killed_receive_without_s_leaves_nothing(pools: Pools) -> None:
    pools.zfs("create", "tank/a")
    (pools.path("tank/a") / "f").write_bytes(blob(2 * MIB))
    pools.zfs("snapshot", "tank/a@1")
    whole = pools.send("tank/a@1")
    with pools.start("recv", "-u", "tank/b@1", stdin=subprocess.PIPE) as receiver:
        assert receiver.stdin is not None
        receiver.stdin.write(whole[:MIB])
        receiver.stdin.flush()
        deadline = time.monotonic() + 20
        while "tank/b" not in pools.names("tank"):
            assert time.monotonic() < deadline
        receiver.kill()
    assert "tank/b" not in pools.names("tank")
    assert len(list((pools.directory / ".emulated-zfs/data").iterdir())) == 2
    pools.zfs("recv", "-u", "tank/b@1", stdin=whole)


COMMANDS = [
    ("snapshot", "tank/a@{n}"),
    ("rollback", "-r", "tank/a@base"),
    ("destroy", "tank/a@{m}"),
    ("unmount", "tank/a"),
    ("mount", "tank/a"),
    ("set", "mountpoint=/m{n}", "tank/a"),
    ("create", "tank/a/{n}"),
    ("destroy", "-r", "tank/a/{m}"),
    ("bookmark", "tank/a@base", "tank/a#{n}"),
]


@pytest.mark.slow
@pytest.mark.timeout(180)
def test_commands_killed_at_any_moment_leave_all_as_before_or_after(pools: Pools) -> None:
    """A file that no command may lose, and pools that stay readable and usable."""
    pools.zfs("create", "tank/a")
    kept = {"kept": blob(300_000), "dir/also": b"x"}
    (pools.path("tank/a") / "dir").mkdir()
    for name, data in kept.items():
        (pools.path("tank/a") / name).write_bytes(data)
    pools.zfs("snapshot", "tank/a@base")
    chance = random.Random(3)
    for number in range(80):
        words = [
            word.format(n=number, m=chance.randrange(number + 1))
            for word in chance.choice(COMMANDS)
        ]
        with pools.start(
            *words, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True
        ) as command:
            # from before the program starts to after it has ended
            killer = threading.Timer(chance.random() * 0.05, kill_group, [command.pid])
            killer.start()
            command.wait()
            killer.join()
        assert "tank/a@base" in pools.names("tank/a")
    if pools.value("mounted", "tank/a") == "yes":
        pools.zfs("unmount", "tank/a")
    pools.zfs("mount", "tank/a")
    for name, data in kept.items():
        assert (pools.path("tank/a") / name).read_bytes() == data
    pools.zfs("recv", "-u", "tank/check@base", stdin=pools.send("tank/a@base"))
    pools.zfs("mount", "tank/check")
    assert read_tree(pools.path("tank/check")) == kept
    pools.zfs("destroy", "-r", "tank/a")
    pools.zfs("destroy", "-r", "tank/check")
    assert pools.names("tank") == ["tank"]
    assert pools.leftovers() == []
    # only the pool's own data is left
    assert len(list((pools.directory / ".emulated-zfs/data").iterdir())) == 1


@pytest.mark.slow
@pytest.mark.timeout(180)
def test_a_rename_killed_at_any_moment_is_done_or_not(pools: Pools) -> None:
    pools.zfs("create", "tank/a")
    pools.zfs("create", "tank/a/below")
    pools.zfs("create", "-V", "1M", "tank/a/vol")
    for name in ("a", "a/below"):
        (pools.directory / "tank" / name / "saved").write_text(name)
    pools.zfs("snapshot", "-r", "tank/a@1")
    (pools.directory / "tank/a/unsaved").write_text("x")
    (pools.directory / "dev/zvol/tank/a/vol").write_bytes(b"device")
    chance = random.Random(5)
    now, seen = "a", set()
    for _ in range(40):
        other = "b" if now == "a" else "a"
        with pools.start(
            "rename", f"tank/{now}", f"tank/{other}", start_new_session=True
        ) as command:
            killer = threading.Timer(chance.random() * 0.08, kill_group, [command.pid])
            killer.start()
            command.wait()
            killer.join()
        pools.zfs("set", "some:change=1", "tank")  # which mends what is left
        names = pools.names("tank")
        seen.add(f"tank/{other}" in names)
        now = other if f"tank/{other}" in names else now
        assert names == [
            "tank",
            *(f"tank/{now}{rest}" for rest in ("", "@1", "/below", "/below@1", "/vol", "/vol@1")),
        ]
        assert read_tree(pools.directory / "tank") == {
            f"{now}/saved": b"a",
            f"{now}/unsaved": b"x",
            f"{now}/below/saved": b"a/below",
        }
        assert (pools.directory / f"dev/zvol/tank/{now}/vol").read_bytes() == b"device"
        assert pools.leftovers() == []
    assert seen == {True, False}


def kill_group(pid: int) -> None:
    try:
        os.killpg(pid, signal.SIGKILL)
    except ProcessLookupError:
        return
