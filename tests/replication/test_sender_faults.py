"""What people do by hand to the sender's snapshots, holds and bookmarks, before a run and in the middle of
it: nothing is lost or left over, and where a step cannot be made, the next run does without it."""

from __future__ import annotations

import subprocess
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path

import pytest

from tests.replication.hosts import Hosts, open_hosts
from tests.replication.marks import LAST, ONCE, STEP, cursor, tentative
from tests.replication.notation import path
from tests.replication.pair import MIB, the
from zrepl_trio.endpoint.model import GuaranteeKind, Protection, SendRequest
from zrepl_trio.endpoint.protocol import SendReply
from zrepl_trio.replication.policy import ReplicationOptions
from zrepl_trio.replication.report import FilesystemState, Outcome, Report
from zrepl_trio.zfs.names import DatasetPath

thorough = pytest.mark.thorough
pytestmark = pytest.mark.slow

A, B = "ztsrc/a", "ztsrc/b"
# a dry run beside it would keep a snapshot from being destroyed
TWICE = ReplicationOptions(attempts=2, size_estimates=0)
KINDS = [GuaranteeKind.RESUMABILITY, GuaranteeKind.INCREMENTAL]


@pytest.fixture(params=["emulated", pytest.param("real", marks=pytest.mark.zfs)])
async def hosts(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Hosts]:
    async with open_hosts(request.param, tmp_path) as opened:
        yield opened


async def take(hosts: Hosts, snapshot: str, size: int = MIB) -> None:
    """A snapshot of both filesystems with something new in each."""
    for name in (A, B):
        await hosts.fill(name, size, seed=int(snapshot))
        await hosts.snapshot(name, snapshot)


@pytest.fixture
async def begun(hosts: Hosts) -> Hosts:
    """Both filesystems, replicated once."""
    for name in (A, B):
        await hosts.create(name)
    await take(hosts, "1")
    report = await hosts.run()
    assert report.outcome is Outcome.DONE, report.error
    return hosts


async def guid(hosts: Hosts, snapshot: str, name: str = A) -> int:
    value, _ = await hosts.value(f"{name}@{snapshot}", "guid")
    return int(value)


async def converges(hosts: Hosts, *, has: str) -> None:
    """All goes well, and what is left are a cursor on this side and a hold on the other."""
    report = await hosts.run(ONCE)
    assert report.outcome is Outcome.DONE, report.error
    newest = has.split()[-1]
    assert await hosts.received(A) == has.split()
    for name in (A, B):
        assert await hosts.marks(path(name)) == {cursor(await guid(hosts, newest, name))}
        assert await hosts.marks(hosts.local(name)) == {f"@{newest}={LAST}"}
        assert await hosts.same(name, newest)


async def without(hosts: Hosts, dataset: DatasetPath, mark: str) -> None:
    """Take a hold `@SNAP=TAG` or a bookmark `#NAME` away by hand."""
    assert mark in await hosts.marks(dataset)
    done = await hosts.processes.run(words_to_remove(hosts, dataset, mark))
    assert done.status == 0, done.stderr.decode()


def words_to_remove(hosts: Hosts, dataset: DatasetPath, mark: str) -> list[str]:
    if mark.startswith("#"):
        return [hosts.zfs_command, "destroy", f"{dataset}{mark}"]
    snapshot, _, tag = mark.partition("=")
    return [hosts.zfs_command, "release", tag, f"{dataset}{snapshot}"]


# --- snapshots destroyed between plan and send ---


def before_sending(hosts: Hosts, action: Callable[[], Awaitable[None]]) -> None:
    """Do it once, when A is planned and about to be sent."""
    real = hosts.cable.send

    @asynccontextmanager
    async def send(request: SendRequest) -> AsyncIterator[SendReply]:
        if request.filesystem == A:
            setattr(hosts.cable, "send", real)  # noqa: B010
            await action()
        async with real(request) as reply:
            yield reply

    setattr(hosts.cable, "send", send)  # noqa: B010


async def destroyed(hosts: Hosts, *snapshots: str) -> None:
    for result in await hosts.zfs.destroy_snapshots(path(A), snapshots):
        assert not result.error


def first_error(report: Report) -> str:
    """A's in the first attempt, after which the second, of the same run, did all."""
    assert report.outcome is Outcome.DONE, report.error
    first, _ = report.attempts
    states = {each.name: each for each in first.filesystems}
    assert states[B].state is FilesystemState.DONE
    error = states[A].error
    assert error is not None
    assert "the next attempt plans without it" in error.text
    return error.text


@pytest.mark.parametrize(
    ("gone", "then", "ranges"),
    [
        pytest.param("2", "1 3 4", False, id="the first target-steps"),
        pytest.param("2", "1 3 4", True, id="the first target-range", marks=thorough),
        pytest.param("3", "1 2 4", False, id="one between-steps", marks=thorough),
        pytest.param("3", "1 2 4", True, id="one between-range"),
        pytest.param("1", "1 2 3 4", False, id="the base-steps", marks=thorough),
        pytest.param("1", "1 2 3 4", True, id="the base-range", marks=thorough),
    ],
)
async def test_a_snapshot_destroyed_after_planning_is_named_and_done_without(
    begun: Hosts, gone: str, then: str, ranges: bool
) -> None:
    hosts = begun
    hosts.cable.moves_ranges = ranges
    for name in "234":
        await take(hosts, name)

    async def destroy() -> None:
        await destroyed(hosts, gone)

    before_sending(hosts, destroy)
    report = await hosts.run(TWICE)
    error = first_error(report)
    assert f"{A}@{gone}'" in error
    assert "does not exist" in error
    assert await hosts.received(B) == ["1", "2", "3", "4"]
    assert await hosts.received(A) == then.split()
    await converges(hosts, has=then)


async def test_a_first_snapshot_destroyed_after_planning_is_done_without(hosts: Hosts) -> None:
    for name in (A, B):
        await hosts.create(name)
    for name in "12":
        await take(hosts, name)

    async def destroy() -> None:
        await destroyed(hosts, "2")

    before_sending(hosts, destroy)
    report = await hosts.run(TWICE)
    assert f"{A}@2 does not exist (any more)" in first_error(report)
    assert await hosts.received(A) == ["1"]
    await take(hosts, "3")
    await converges(hosts, has="1 3")


# --- holds and bookmarks removed by hand between runs ---


@pytest.mark.parametrize(
    "what",
    [
        pytest.param("cursor", marks=thorough),
        pytest.param("last received", marks=thorough),
        "both",
    ],
)
async def test_marks_removed_between_runs_are_made_anew(begun: Hosts, what: str) -> None:
    hosts = begun
    if what != "last received":
        await without(hosts, path(A), cursor(await guid(hosts, "1")))
    if what != "cursor":
        await without(hosts, hosts.local(A), f"@1={LAST}")
    await take(hosts, "2")
    await converges(hosts, has="1 2")


async def test_without_cursor_and_base_it_is_said_what_is_missing(begun: Hosts) -> None:
    hosts = begun
    await without(hosts, path(A), cursor(await guid(hosts, "1")))
    await destroyed(hosts, "1")
    await take(hosts, "2")
    report = await hosts.run(ONCE)
    error = the(report, A).error
    assert error is not None
    assert "no snapshot or bookmark in common" in error.text
    assert "rename or destroy the replica" in error.text
    assert the(report, B).state is FilesystemState.DONE
    await hosts.command("rename", hosts.local(A), f"{hosts.local(A)}.old")
    await converges(hosts, has="2")


async def test_a_replica_whose_newest_snapshot_was_destroyed_goes_on_from_the_one_before(
    begun: Hosts,
) -> None:
    hosts = begun
    await take(hosts, "2")
    assert (await hosts.run(ONCE)).outcome is Outcome.DONE
    local = hosts.local(A)
    await without(hosts, local, f"@2={LAST}")
    await hosts.command("rollback", "-r", f"{local}@1")
    await take(hosts, "3")
    await converges(hosts, has="1 2 3")


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(
    "first",
    [pytest.param(True, id="full", marks=thorough), pytest.param(False, id="increment")],
)
async def test_marks_of_an_interrupted_step_removed_by_hand_are_made_anew(
    hosts: Hosts, kind: GuaranteeKind, first: bool
) -> None:
    options = replace(ONCE, protection=Protection(initial=kind, incremental=kind))
    for name in (A, B):
        await hosts.create(name)
    if not first:
        await take(hosts, "1")
        assert (await hosts.run(options)).outcome is Outcome.DONE
    await take(hosts, "2", 12 * MIB)
    hosts.cable.cut_after = 6 * MIB
    report = await hosts.run(options)
    assert the(report, A).state is FilesystemState.STEP_ERROR
    for mark in await hosts.marks(path(A)):
        await without(hosts, path(A), mark)
    assert await hosts.marks(path(A)) == set()
    report = await hosts.run(options)
    assert report.outcome is Outcome.DONE, report.error
    assert the(report, A).steps[0].resumed
    await converges(hosts, has="2" if first else "1 2")


# --- removed in mid-transfer ---


@pytest.mark.parametrize("kind", [KINDS[0], pytest.param(KINDS[1], marks=thorough)])
@pytest.mark.parametrize(
    "what",
    [
        pytest.param("step", marks=thorough),
        pytest.param("cursor", marks=thorough),
        pytest.param("last received", marks=thorough),
        "all",
    ],
)
async def test_marks_removed_in_mid_transfer_stop_nothing(
    begun: Hosts, kind: GuaranteeKind, what: str
) -> None:
    hosts = begun
    await take(hosts, "2", 12 * MIB)
    one, two = await guid(hosts, "1"), await guid(hosts, "2")
    step = {
        GuaranteeKind.RESUMABILITY: [f"@1={STEP}", f"@2={STEP}"],
        GuaranteeKind.INCREMENTAL: [tentative(two)],
    }
    local = hosts.local(A)
    marks = {
        "step": [(path(A), mark) for mark in step[kind]],
        "cursor": [(path(A), cursor(one))],
        "last received": [(local, f"@1={LAST}")],
    }
    removed = [each for of, those in marks.items() if what in {of, "all"} for each in those]
    outputs: list[str] = []

    def remove() -> None:
        for dataset, mark in removed:
            done = subprocess.run(
                words_to_remove(hosts, dataset, mark), capture_output=True, text=True, check=False
            )
            outputs.append(done.stderr)

    hosts.cable.moved = 0
    hosts.cable.at(6 * MIB, remove)
    report = await hosts.run(
        replace(ONCE, protection=Protection(initial=kind, incremental=kind), steps=1)
    )
    assert outputs == [""] * len(removed)
    assert report.outcome is Outcome.DONE, report.error
    await converges(hosts, has="1 2")


async def test_all_that_protects_a_step_removed_and_then_cut_it_is_still_resumed(
    begun: Hosts,
) -> None:
    hosts = begun
    await take(hosts, "2", 12 * MIB)
    marks = [f"@1={STEP}", f"@2={STEP}", cursor(await guid(hosts, "1"))]

    def remove() -> None:
        for mark in marks:
            subprocess.run(words_to_remove(hosts, path(A), mark), check=True)

    hosts.cable.moved = 0
    hosts.cable.at(4 * MIB, remove)
    hosts.cable.cut_after = 8 * MIB
    report = await hosts.run(ONCE)
    assert the(report, A).state is FilesystemState.STEP_ERROR
    await converges(hosts, has="1 2")
