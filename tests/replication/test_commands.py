"""Whole runs on `zfs` commands: the emulated ones everywhere, the real ones where there are any."""

from __future__ import annotations

import os
import signal
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import psutil
import pytest

from tests.replication.hosts import Hosts, open_hosts
from tests.replication.notation import path
from tests.replication.pair import MIB, the
from tests.support.resources import nothing_left_behind
from zrepl_trio.endpoint.aside import copy_around
from zrepl_trio.endpoint.model import GuaranteeKind, Protection
from zrepl_trio.endpoint.sender import Sender
from zrepl_trio.replication.policy import DivergencePolicy, ReplicationOptions
from zrepl_trio.replication.report import Outcome
from zrepl_trio.zfs.filter import FilesystemFilter
from zrepl_trio.zfs.model import SendFlags

pytestmark = pytest.mark.slow

ONCE = ReplicationOptions(attempts=1)
LAST = "zrepl_last_received_J_dst"
STEP = "zrepl_STEP_J_src"
# a real token sets in where a transaction ended, up to some MiB before the cut
SLACK = 3 * MIB


@pytest.fixture(params=["emulated", pytest.param("real", marks=pytest.mark.zfs)])
async def hosts(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Hosts]:
    async with open_hosts(request.param, tmp_path) as opened:
        yield opened


async def test_full_incremental_cut_and_resumed(hosts: Hosts) -> None:
    await hosts.create("ztsrc/a")
    await hosts.fill("ztsrc/a", 2 * MIB)
    await hosts.snapshot("ztsrc/a", "1")
    with nothing_left_behind():
        report = await hosts.run()
    assert report.outcome is Outcome.DONE, report.error
    assert await hosts.marks(hosts.local("ztsrc/a")) == {f"@1={LAST}"}
    source = await hosts.zfs.dataset(path("ztsrc/a"))
    replica = await hosts.zfs.dataset(hosts.local("ztsrc/a"))
    assert source is not None
    assert replica is not None
    assert replica.source_guid == source.guid
    assert (await hosts.value(replica.path, "mounted"))[0] == "no"

    await hosts.fill("ztsrc/a", 16 * MIB, seed=2)
    two = await hosts.snapshot("ztsrc/a", "2")
    hosts.cable.moved, hosts.cable.cut_after = 0, 8 * MIB
    with nothing_left_behind():
        report = await hosts.run(ONCE)
    assert "the next run resumes it" in report.error
    assert hosts.cable.moved == 8 * MIB
    assert f"@2={STEP}" in await hosts.marks(path("ztsrc/a"))
    hosts.cable.moved = 0
    report = await hosts.run(ONCE)
    assert report.outcome is Outcome.DONE, report.error
    assert the(report, "ztsrc/a").steps[0].resumed
    assert hosts.cable.moved < 8 * MIB + SLACK
    assert await hosts.received("ztsrc/a") == ["1", "2"]
    assert await hosts.marks(path("ztsrc/a")) == {f"#zrepl_CURSOR_G_{two.guid:016x}_J_src"}
    assert await hosts.marks(hosts.local("ztsrc/a")) == {f"@2={LAST}"}
    assert await hosts.same("ztsrc/a", "2")


async def test_placeholders_are_filled_and_a_cut_there_resumes(hosts: Hosts) -> None:
    await hosts.create("ztsrc/a")
    await hosts.create("ztsrc/a/b")
    await hosts.fill("ztsrc/a/b", MIB)
    await hosts.snapshot("ztsrc/a/b", "1")
    report = await hosts.run()
    assert "does not have any versions" in report.error
    parent = await hosts.zfs.dataset(hosts.local("ztsrc/a"))
    assert parent is not None
    assert parent.is_placeholder
    await hosts.zfs.snapshot(parent.path, "recursive")
    await hosts.fill("ztsrc/a", 16 * MIB)
    await hosts.snapshot("ztsrc/a", "1")
    hosts.cable.moved, hosts.cable.cut_after = 0, 8 * MIB
    report = await hosts.run(ONCE)
    assert report.outcome is Outcome.FILESYSTEMS_FAILED
    hosts.cable.moved = 0
    report = await hosts.run(ONCE)
    assert report.outcome is Outcome.DONE, report.error
    assert the(report, "ztsrc/a").steps[0].resumed
    assert hosts.cable.moved < 8 * MIB + SLACK
    parent = await hosts.zfs.dataset(parent.path)
    source = await hosts.zfs.dataset(path("ztsrc/a"))
    assert parent is not None
    assert source is not None
    assert not parent.is_placeholder
    assert parent.source_guid == source.guid
    assert await hosts.received("ztsrc/a") == ["1"]
    assert await hosts.received("ztsrc/a/b") == ["1"]


async def test_nothing_new_costs_four_processes_whatever_the_number(hosts: Hosts) -> None:
    for number in range(6):
        await hosts.create(f"ztsrc/f{number}")
        await hosts.snapshot(f"ztsrc/f{number}", "1")
    assert (await hosts.run()).outcome is Outcome.DONE
    hosts.commands.clear()
    report = await hosts.run()
    assert report.outcome is Outcome.DONE, report.error
    assert [fs.steps for fs in report.attempts[-1].filesystems] == [()] * 6
    assert len(hosts.commands) <= 4, hosts.commands


async def test_a_sender_lists_the_roots_of_its_filter_alone(hosts: Hosts) -> None:
    for name in ("a", "a/x", "b", "other", "alone", "alone/unasked"):
        await hosts.create(f"ztsrc/{name}")
        await hosts.snapshot(f"ztsrc/{name}", "1")
    unmatched: list[int] = []
    entries = {
        "ztsrc/a<": True,
        "ztsrc/b<": True,
        "ztsrc/missing<": True,
        "nosuchpool/x": True,
        "ztsrc/alone": True,
    }
    hosts.cable.end = Sender(
        hosts.zfs,
        job="src",
        filesystems=FilesystemFilter.of(entries),
        on_unmatched=unmatched.append,
    )
    hosts.commands.clear()
    report = await hosts.run()
    assert report.outcome is Outcome.DONE, report.error
    wanted = ["ztsrc/a", "ztsrc/a/x", "ztsrc/alone", "ztsrc/b"]
    assert sorted(fs.name for fs in report.attempts[-1].filesystems) == wanted
    assert set(unmatched) == {2}
    listings = [
        words for words in hosts.commands if words.startswith("get -Hp") and "ztsrc" in words
    ]
    shown = " -t filesystem,volume -o name,property,value,source guid,zrepl:placeholder,encryption "
    assert listings[:2] == [
        f"get -Hp -r{shown}ztsrc/a ztsrc/b ztsrc/missing",
        f"get -Hp{shown}nosuchpool/x ztsrc/alone",
    ]
    assert not [words for words in hosts.commands if "other" in words or "unasked" in words]


@pytest.mark.parametrize(
    ("kind", "each", "without_library"),
    [
        # hold, send; recv, get; and what is put off to the end. Without: bookmark, destroy
        (GuaranteeKind.RESUMABILITY, 4, 6),
        # bookmark, send; recv, get; likewise. Without: bookmark, destroy, destroy
        pytest.param(GuaranteeKind.INCREMENTAL, 4, 7, marks=pytest.mark.thorough),
        # send; recv, get
        pytest.param(GuaranteeKind.NOTHING, 3, 3, marks=pytest.mark.thorough),
    ],
)
async def test_a_new_snapshot_costs_few_processes(
    hosts: Hosts, kind: GuaranteeKind, each: int, without_library: int
) -> None:
    count = 8
    if not await hosts.zfs.bookmarks_in_bulk():
        each = without_library
    options = ReplicationOptions(
        protection=Protection(initial=kind, incremental=kind), size_estimates=0
    )
    for number in range(count):
        await hosts.create(f"ztsrc/f{number}")
    for name in ("1", "2"):
        for number in range(count):
            await hosts.snapshot(f"ztsrc/f{number}", name)
        hosts.commands.clear()
        report = await hosts.run(options)
        assert report.outcome is Outcome.DONE, report.error
    assert len(hosts.commands) <= each * count + 10, hosts.commands
    for number in range(count):
        dataset = path(f"ztsrc/f{number}")
        (newest,) = [v for v in await hosts.zfs.versions(dataset) if v.relative == "@2"]
        cursor = {f"#zrepl_CURSOR_G_{newest.guid:016x}_J_src"}
        wanted = cursor if kind is not GuaranteeKind.NOTHING else set()
        assert await hosts.marks(dataset) == wanted


@pytest.mark.zfs
async def test_openzfs_has_the_library_for_it(tmp_path: Path) -> None:
    async with open_hosts("real", tmp_path) as hosts:
        assert await hosts.zfs.bookmarks_in_bulk()


async def test_a_diverged_replica_is_rolled_back_or_set_aside(hosts: Hosts) -> None:
    for name in ("ztsrc/a", "ztsrc/a/b"):
        await hosts.create(name)
        await hosts.fill(name, MIB)
        await hosts.snapshot(name, "1")
    assert (await hosts.run()).outcome is Outcome.DONE
    for policy, kept in (
        (DivergencePolicy.ROLLBACK, ["1", "2"]),
        (DivergencePolicy.KEEP_COPY, ["3"]),
    ):
        await hosts.zfs.snapshot(hosts.local("ztsrc/a"), "own")
        for name in ("ztsrc/a", "ztsrc/a/b"):
            await hosts.snapshot(name, "2" if policy is DivergencePolicy.ROLLBACK else "3")
        assert (await hosts.run()).outcome is Outcome.FILESYSTEMS_FAILED
        report = await hosts.run(ReplicationOptions(divergence=policy))
        assert report.outcome is Outcome.DONE, report.error
        assert await hosts.received("ztsrc/a") == kept
    copies = [d.path for d in await hosts.zfs.datasets() if copy_around(d.path) is not None]
    assert len(copies) == 1
    await hosts.command("destroy", "-r", copies[0])
    assert await hosts.received("ztsrc/a/b") == ["1", "2", "3"]
    assert await hosts.same("ztsrc/a/b", "3")
    assert (await hosts.run()).outcome is Outcome.DONE


async def test_a_stream_cannot_act_by_its_properties(hosts: Hosts) -> None:
    evil = hosts.directory / "evil"
    await hosts.create(
        "ztsrc/a", "-o", f"mountpoint={evil}", "-o", "exec=off", "-o", "readonly=off"
    )
    await hosts.command("set", "compression=off", "zrepl:placeholder=off", "ztsrc/a")
    await hosts.fill("ztsrc/a", MIB)
    hosts.send_with(SendFlags(properties=True))
    for name in "12":
        await hosts.snapshot("ztsrc/a", name)
        report = await hosts.run()
        assert report.outcome is Outcome.DONE, report.error
        local = hosts.local("ztsrc/a")
        assert (await hosts.value(local, "mountpoint"))[1] != "received"
        assert (await hosts.value(local, "mountpoint"))[0] != str(evil)
        assert (await hosts.value(local, "exec"))[0] == "on"
        assert (await hosts.value(local, "readonly"))[1] != "received"
        # what does not act is the sender's
        assert await hosts.value(local, "compression") == ("off", "received")


async def test_volumes(hosts: Hosts) -> None:
    await hosts.create("ztsrc/v", "-V", "8M")
    hosts.send_with(SendFlags(properties=True))
    for name in "12":
        await hosts.snapshot("ztsrc/v", name)
        report = await hosts.run()
        assert report.outcome is Outcome.DONE, report.error
    replica = await hosts.zfs.dataset(hosts.local("ztsrc/v"))
    assert replica is not None
    assert replica.is_volume
    assert await hosts.received("ztsrc/v") == ["1", "2"]
    assert (await hosts.value(replica.path, "refreservation"))[0] in {"0", "none"}


async def test_a_volume_cannot_act_by_what_it_inherits_from_a_received_parent(
    hosts: Hosts,
) -> None:
    await hosts.create("ztsrc/a")
    await hosts.create("ztsrc/a/v", "-V", "8M")
    hosts.send_with(SendFlags(properties=True))
    for snapshot in "12":
        for name in ("ztsrc/a", "ztsrc/a/v"):
            await hosts.snapshot(name, snapshot)
        report = await hosts.run()
        assert report.outcome is Outcome.DONE, report.error
        for name in ("ztsrc/a", "ztsrc/a/v"):
            assert (await hosts.value(hosts.local(name), "volmode"))[0] == "default"
            assert (await hosts.value(hosts.local(name), "snapdev"))[0] == "hidden"
        await hosts.command("set", "volmode=full", "snapdev=visible", "ztsrc/a")


@pytest.mark.parametrize("incremental", [False, True])
async def test_a_partial_state_whose_snapshot_is_gone_heals(
    hosts: Hosts, incremental: bool
) -> None:
    await hosts.create("ztsrc/a")
    await hosts.fill("ztsrc/a", MIB)
    if incremental:
        await hosts.snapshot("ztsrc/a", "0")
        await hosts.run()
    await hosts.fill("ztsrc/a", 8 * MIB, seed=1)
    await hosts.snapshot("ztsrc/a", "1")
    hosts.cable.cut_after = 4 * MIB
    await hosts.run(ONCE)
    await hosts.zfs.release(path("ztsrc/a"), ["1"], STEP)
    (result,) = await hosts.zfs.destroy_snapshots(path("ztsrc/a"), ["1"])
    assert not result.error
    await hosts.snapshot("ztsrc/a", "2")
    report = await hosts.run(ONCE)
    assert report.outcome is Outcome.DONE, report.error
    assert "no longer has the snapshot @1" in the(report, "ztsrc/a").note
    assert (await hosts.received("ztsrc/a"))[-1] == "2"


async def test_the_cursor_bookmark_is_a_base(hosts: Hosts) -> None:
    await hosts.create("ztsrc/a")
    await hosts.fill("ztsrc/a", MIB)
    await hosts.snapshot("ztsrc/a", "1")
    await hosts.run()
    await hosts.zfs.destroy_snapshots(path("ztsrc/a"), ["1"])
    await hosts.fill("ztsrc/a", MIB, seed=1)
    await hosts.snapshot("ztsrc/a", "2")
    report = await hosts.run()
    assert report.outcome is Outcome.DONE, report.error
    assert the(report, "ztsrc/a").steps[0].from_.startswith("#zrepl_CURSOR_G_")
    assert await hosts.received("ztsrc/a") == ["1", "2"]


async def test_a_diverged_replica_is_left_alone(hosts: Hosts) -> None:
    await hosts.create("ztsrc/a")
    await hosts.snapshot("ztsrc/a", "1")
    await hosts.run()
    await hosts.zfs.snapshot(hosts.local("ztsrc/a"), "own")
    await hosts.snapshot("ztsrc/a", "2")
    report = await hosts.run()
    assert "the receiver has snapshots of its own since the common @1" in report.error
    assert await hosts.received("ztsrc/a") == ["1", "own"]


def _kill(command: str, word: str) -> None:
    """Kill -9 our child whose arguments hold both words."""
    for child in psutil.Process().children(recursive=True):
        words = child.cmdline()
        if word in words and any(command in part for part in words):
            os.kill(child.pid, signal.SIGKILL)
            return
    raise AssertionError(f"no {command} {word} runs")


@pytest.mark.parametrize(("victim", "incremental"), [("send", False), ("recv", True)])
async def test_a_killed_command_is_resumed_within_the_run(
    hosts: Hosts, victim: str, incremental: bool
) -> None:
    await hosts.create("ztsrc/a")
    await hosts.fill("ztsrc/a", MIB)
    if incremental:
        await hosts.snapshot("ztsrc/a", "0")
        assert (await hosts.run()).outcome is Outcome.DONE
    await hosts.fill("ztsrc/a", 32 * MIB, seed=1)
    await hosts.snapshot("ztsrc/a", "1")
    hosts.cable.moved = 0
    hosts.cable.at(16 * MIB, _killer(victim))
    with nothing_left_behind():
        report = await hosts.run()
    assert report.outcome is Outcome.DONE, report.error
    first, second = report.attempts
    assert first.failed
    assert second.filesystems[0].steps[0].resumed
    # a killed `zfs recv` loses what of the stream lay in its pipe and its buffers
    assert hosts.cable.moved < 33 * MIB + 16 * MIB
    assert await hosts.same("ztsrc/a", "1")
    assert STEP not in str(await hosts.marks(path("ztsrc/a")))


def _killer(victim: str) -> Callable[[], None]:
    return lambda: _kill("zfs", victim)


@pytest.mark.zfs
async def test_a_raw_stream_keeps_its_encryption_and_no_key_location(tmp_path: Path) -> None:
    key = tmp_path / "key"
    key.write_text("12345678\n")
    async with open_hosts("real", tmp_path) as hosts:
        await hosts.create(
            "ztsrc/e",
            *("-o", "encryption=on", "-o", "keyformat=passphrase"),
            *("-o", f"keylocation=file://{key}", "-o", "pbkdf2iters=100000"),
        )
        await hosts.fill("ztsrc/e", MIB)
        hosts.send_with(SendFlags(encrypted=True, properties=True))
        for name in "12":
            await hosts.snapshot("ztsrc/e", name)
            report = await hosts.run()
            assert report.outcome is Outcome.DONE, report.error
            local = hosts.local("ztsrc/e")
            assert (await hosts.value(local, "encryption"))[0] == "aes-256-gcm"
            assert (await hosts.value(local, "keylocation"))[0] == "prompt"
            assert (await hosts.value(local, "keystatus"))[0] == "unavailable"
        # resumed raw, and refused in clear text when the job demands encryption
        await hosts.fill("ztsrc/e", 8 * MIB, seed=1)
        await hosts.snapshot("ztsrc/e", "3")
        hosts.cable.cut_after = 4 * MIB
        await hosts.run(ONCE)
        hosts.send_with(SendFlags())
        report = await hosts.run(ONCE)
        assert "it resumes a raw send, which the job forbids" in report.error
        hosts.send_with(SendFlags(encrypted=True))
        report = await hosts.run(ONCE)
        assert report.outcome is Outcome.DONE, report.error
        assert the(report, "ztsrc/e").steps[0].resumed


@pytest.mark.zfs
async def test_a_raw_stream_takes_the_place_of_its_placeholder(tmp_path: Path) -> None:
    key = tmp_path / "key"
    key.write_text("12345678\n")
    async with open_hosts("real", tmp_path) as hosts:
        await hosts.create(
            "ztsrc/e",
            *("-o", "encryption=on", "-o", "keyformat=passphrase"),
            *("-o", f"keylocation=file://{key}", "-o", "pbkdf2iters=100000"),
        )
        await hosts.create("ztsrc/e/f")
        hosts.send_with(SendFlags(encrypted=True))
        await hosts.snapshot("ztsrc/e/f", "1")
        await hosts.run()
        await hosts.snapshot("ztsrc/e", "1")
        before = await hosts.zfs.dataset(hosts.local("ztsrc/e/f"))
        report = await hosts.run()
        assert report.outcome is Outcome.DONE, report.error
        parent = await hosts.zfs.dataset(hosts.local("ztsrc/e"))
        assert parent is not None
        assert not parent.is_placeholder
        assert parent.encrypted
        # what was below it is the same as before
        assert await hosts.received("ztsrc/e/f") == ["1"]
        after = await hosts.zfs.dataset(hosts.local("ztsrc/e/f"))
        assert before is not None
        assert after is not None
        assert after.guid == before.guid
