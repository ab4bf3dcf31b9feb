"""The snapshotter on pools in memory, by the test clock."""

from __future__ import annotations

import random
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta, timezone

import pytest
import structlog
import structlog.testing
import trio
import trio.testing

from tests.jobs.clocks import FollowingClock
from tests.replication.notation import path
from zrepl_trio.config.cron import CronSpec
from zrepl_trio.config.timestamps import SnapshotNaming
from zrepl_trio.errors import ZfsError
from zrepl_trio.snapshots.hooks import Edge, Hook, HookFailed
from zrepl_trio.snapshots.report import FilesystemState, SnapperState
from zrepl_trio.snapshots.snapper import Snapper
from zrepl_trio.zfs.filter import FilesystemFilter
from zrepl_trio.zfs.memory import MemoryZfs
from zrepl_trio.zfs.names import DatasetPath

NAMING = SnapshotNaming.checked("zrepl_", "human", "UTC")


class Host:
    def __init__(self) -> None:
        self.clock = FollowingClock()
        self.zfs = MemoryZfs(rng=random.Random(1), clock=self.clock, pools=["tank"])
        self.told: list[float] = []
        for name in ("tank/a", "tank/b", "tank/no"):
            self.zfs.add_filesystem(name)

    def snapper(self, rhythm: float | str) -> Snapper:
        return Snapper(
            self.zfs,
            filesystems=FilesystemFilter.of({"tank<": True, "tank": False, "tank/no": False}),
            naming=NAMING,
            rhythm=CronSpec.parse(rhythm) if isinstance(rhythm, str) else rhythm,
            clock=self.clock,
            local=lambda: UTC,
        )

    def taken(self) -> None:
        self.told.append(trio.current_time())

    async def names(self, dataset: str = "tank/a") -> list[str]:
        return [v.name for v in await self.zfs.versions(path(dataset))]

    @asynccontextmanager
    async def running(self, rhythm: float | str) -> AsyncIterator[Snapper]:
        snapper = self.snapper(rhythm)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(snapper.run, self.taken)
            yield snapper
            nursery.cancel_scope.cancel()
        assert state(snapper) is SnapperState.STOPPED


def state(snapper: Snapper) -> SnapperState:
    return snapper.report.state


def errors(snapper: Snapper) -> tuple[str, ...]:
    return snapper.report.errors


def broken(*datasets: str) -> Callable[[DatasetPath, str], object]:
    async def snapshot(dataset: DatasetPath, _name: str) -> None:
        if dataset in datasets:
            raise ZfsError(f"{dataset}: out of space")

    return snapshot


async def test_the_first_at_once_then_at_the_interval(autojump_clock: trio.abc.Clock) -> None:
    host = Host()
    async with host.running(600.0) as snapper:
        await trio.sleep(1500)
        assert state(snapper) is SnapperState.WAITING
        assert snapper.report.next_at == datetime(2024, 5, 6, 12, 30, tzinfo=UTC)
        assert [each.state for each in snapper.report.progress] == [FilesystemState.DONE] * 2
    assert host.told == [0, 600, 1200]
    expected = [f"zrepl_2024-05-06_12:{minute}:00" for minute in ("00", "10", "20")]
    assert await host.names("tank/a") == await host.names("tank/b") == expected
    assert await host.names("tank/no") == []


async def test_a_restart_keeps_the_rhythm(autojump_clock: trio.abc.Clock) -> None:
    host = Host()
    async with host.running(600.0):
        await trio.sleep(700)
    async with host.running(600.0) as snapper:
        await trio.testing.wait_all_tasks_blocked()
        assert snapper.report.next_at == datetime(2024, 5, 6, 12, 20, tzinfo=UTC)
        await trio.sleep(600)
    assert host.told == [0, 600, 1200]


async def test_what_fails_on_one_filesystem_leaves_the_others_alone(
    autojump_clock: trio.abc.Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    host = Host()
    monkeypatch.setattr(host.zfs, "snapshot", broken("tank/a"))
    async with host.running(600.0) as snapper:
        await trio.sleep(10)
        assert state(snapper) is SnapperState.ERROR_WAIT
        assert errors(snapper) == ("tank/a: out of space",)
        each_state = [each.state for each in snapper.report.progress]
        assert each_state == [FilesystemState.ERROR, FilesystemState.DONE]
        assert host.told == [0]
        monkeypatch.undo()
        await trio.sleep(600)
        assert errors(snapper) == ()
    assert len(await host.names("tank/a")) == 1


async def test_a_zfs_that_cannot_list_is_waited_for(
    autojump_clock: trio.abc.Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    host = Host()

    async def cannot() -> list[object]:
        raise ZfsError("no pool")

    monkeypatch.setattr(host.zfs, "datasets", cannot)
    async with host.running(600.0) as snapper:
        await trio.sleep(10)
        assert state(snapper) is SnapperState.SYNC_UP_ERROR_WAIT
        assert errors(snapper) == ("no pool",)
        await trio.sleep(600)
        assert state(snapper) is SnapperState.ERROR_WAIT
        monkeypatch.undo()
        await trio.sleep(600)
        assert state(snapper) is SnapperState.WAITING
    assert len(await host.names()) == 1


async def test_a_run_longer_than_the_interval_is_followed_at_once(
    autojump_clock: trio.abc.Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    host = Host()

    async def slow(_dataset: DatasetPath, _name: str) -> None:
        await trio.sleep(400)

    monkeypatch.setattr(host.zfs, "snapshot", slow)
    async with host.running(600.0):
        await trio.sleep(2500)
    assert host.told == [800, 1600, 2400]


async def test_a_clock_set_back_during_a_run_puts_nothing_off(
    autojump_clock: trio.abc.Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    host = Host()

    async def set_back(_dataset: DatasetPath, _name: str) -> None:
        host.clock.offset_s -= 3600

    monkeypatch.setattr(host.zfs, "snapshot", set_back)
    async with host.running(600.0):
        await trio.sleep(1500)
    assert host.told == pytest.approx([0, 600, 1200], abs=10)


async def test_a_clock_of_the_future_that_is_set_right_stops_no_cron(
    autojump_clock: trio.abc.Clock,
) -> None:
    host = Host()
    host.clock.offset_s = 10 * 86400
    async with host.running("*/15 * * * *"):
        await trio.sleep(60)
        host.clock.offset_s = 0
        await trio.sleep(1900)
    assert host.told == pytest.approx([900, 1800], abs=10)


async def test_cron_takes_them_at_its_times(autojump_clock: trio.abc.Clock) -> None:
    host = Host()
    async with host.running("*/15 * * * *") as snapper:
        await trio.testing.wait_all_tasks_blocked()
        assert snapper.report.next_at == datetime(2024, 5, 6, 12, 15, tzinfo=UTC)
        await trio.sleep(1900)
    assert host.told == [900, 1800]


async def test_times_that_pass_during_a_run_are_left_out_counted_and_no_error(
    autojump_clock: trio.abc.Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    host = Host()

    async def slow(_dataset: DatasetPath, _name: str) -> None:
        await trio.sleep(1000)

    monkeypatch.setattr(host.zfs, "snapshot", slow)
    with structlog.testing.capture_logs() as log:
        async with host.running("*/15 * * * *") as snapper:
            await trio.sleep(3000)
            assert snapper.report.skipped == 2
            assert snapper.report.next_at == datetime(2024, 5, 6, 13, tzinfo=UTC)
            assert errors(snapper) == ()
            assert state(snapper) is SnapperState.WAITING
            monkeypatch.undo()
            await trio.sleep(900)
            assert snapper.report.skipped == 0
    assert host.told == [2900, 3600]
    (line,) = [line for line in log if "passed during a run" in line["event"]]
    assert (line["times"], line["first"]) == (2, "2024-05-06T12:30:00+00:00")


async def test_times_that_passed_before_a_run_are_not_told_as_passed_during_it(
    autojump_clock: trio.abc.Clock,
) -> None:
    host = Host()
    async with host.running("0 * * * *") as snapper:
        await trio.sleep(60)
        host.clock.offset_s = 5 * 3600 + 600  # a suspend
        await trio.sleep(60)
        assert len(await host.names()) == 1
        assert snapper.report.skipped == 0


def constant() -> SnapshotNaming:
    return SnapshotNaming.checked("zrepl_", "snap", "UTC")


@pytest.mark.parametrize("atomic", [True, False])
async def test_a_snapshot_whose_name_is_taken_has_that_of_a_second_later(
    autojump_clock: trio.abc.Clock, *, atomic: bool
) -> None:
    host = Host()
    await host.zfs.snapshot(path("tank/a"), NAMING.name(host.clock.now()))
    snapper = await snapped(host, atomic=atomic)
    names = {each.path: each.name[-8:] for each in snapper.report.progress}
    assert names == {"tank/a": "12:00:01", "tank/b": "12:00:01" if atomic else "12:00:00"}
    assert [len(await host.names(f"tank/{each}")) for each in "ab"] == [2, 1]
    if atomic:  # all still at one moment
        newest = [(await host.zfs.versions(path(f"tank/{each}")))[-1] for each in "ab"]
        assert len({each.createtxg for each in newest}) == 1


@pytest.mark.parametrize("atomic", [True, False])
@pytest.mark.parametrize("naming", [NAMING, constant()])
async def test_if_no_name_is_free_that_is_an_error_and_the_others_are_taken(
    autojump_clock: trio.abc.Clock, naming: SnapshotNaming, *, atomic: bool
) -> None:
    host = Host()
    for seconds in range(60):
        name = naming.name(host.clock.now() + timedelta(seconds=seconds))
        if name not in await host.names():
            await host.zfs.snapshot(path("tank/a"), name)
    before = await host.names()
    snapper = await snapped(host, atomic=atomic, naming=naming, hooks=[])
    (error,) = snapper.report.errors
    assert "tank/a" in error
    assert "already exists" in error
    assert await host.names() == before
    assert len(await host.names("tank/b")) == 1


async def test_names_go_by_the_local_zone_that_cron_goes_by(
    autojump_clock: trio.abc.Clock,
) -> None:
    host = Host()
    snapper = Snapper(
        host.zfs,
        filesystems=FilesystemFilter.of({"tank/a": True}),
        naming=SnapshotNaming.checked("zrepl_", "2006-01-02_15:04:05-0700", "Local"),
        rhythm=CronSpec.parse("30 21 * * *"),
        clock=host.clock,
        local=lambda: timezone(timedelta(hours=9)),
    )
    async with trio.open_nursery() as nursery:
        nursery.start_soon(snapper.run, host.taken)
        await trio.sleep(3600)
        nursery.cancel_scope.cancel()
    assert await host.names() == ["zrepl_2024-05-06_21:30:00_0900"]


async def test_a_day_that_comes_twice_has_its_snapshots_twice(
    autojump_clock: trio.abc.Clock,
) -> None:
    host = Host()
    async with host.running("0 * * * *") as snapper:
        await trio.sleep(86_400 + 60)
        host.clock.offset_s = -86_400
        await trio.sleep(86_400)
        assert errors(snapper) == ()
    assert len(await host.names("tank/a")) == len(await host.names("tank/b")) == 48


async def test_a_clock_that_is_set_right_by_seconds_fires_no_time_twice(
    autojump_clock: trio.abc.Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    host = Host()
    whole = host.zfs.snapshot

    async def slow(dataset: DatasetPath, name: str) -> None:
        await whole(dataset, name)
        await trio.sleep(1)
        host.clock.offset_s -= 2

    monkeypatch.setattr(host.zfs, "snapshot", slow)
    async with host.running("*/15 * * * *"):
        await trio.sleep(1000)
        monkeypatch.undo()
        await trio.sleep(900)
    assert host.told == pytest.approx([902, 1804], abs=1)


class NoDatabase:
    """A hook whose pre edge fails."""

    name = "db"
    err_is_fatal = False
    filesystems = FilesystemFilter.of({"tank/a": True})

    async def run(self, edge: Edge, filesystems: Sequence[DatasetPath], snapshot: str) -> None:
        del filesystems, snapshot
        if edge is Edge.PRE:
            raise HookFailed("db: no database")


async def test_a_hook_that_fails_is_told_beside_its_snapshot(
    autojump_clock: trio.abc.Clock,
) -> None:
    host = Host()
    snapper = Snapper(
        host.zfs,
        filesystems=FilesystemFilter.of({"tank<": True, "tank": False}),
        naming=NAMING,
        rhythm=600.0,
        clock=host.clock,
        hooks=[NoDatabase()],
    )
    await snapper._take()
    first, second, _ = snapper.report.progress
    assert (first.state, second.state) == (FilesystemState.ERROR, FilesystemState.DONE)
    assert first.error == "tank/a: pre_snapshot: db: no database; the snapshot was taken"
    assert first.hooks[0] == "pre_snapshot: error: db: no database"
    assert first.taken
    assert (first.hook_failed, len(first.hooks)) == (True, 3)
    assert len(await host.names("tank/a")) == len(await host.names("tank/b")) == 1


async def test_a_hook_whose_failure_forbids_the_snapshot_is_told_so(
    autojump_clock: trio.abc.Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(NoDatabase, "err_is_fatal", True)
    host = Host()
    snapper = await snapped(host)
    first, second = snapper.report.progress
    assert first.error == "tank/a: pre_snapshot: db: no database; no snapshot"
    assert (first.taken, second.taken) == (False, True)
    assert await host.names("tank/a") == []


async def test_a_snapshot_that_fails_beside_its_hook_is_told_once(
    autojump_clock: trio.abc.Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    host = Host()
    monkeypatch.setattr(host.zfs, "snapshot", broken("tank/a"))
    snapper = await snapped(host)
    first, second = snapper.report.progress
    assert first.error == "tank/a: pre_snapshot: db: no database; tank/a: out of space"
    assert (first.taken, second.taken) == (False, True)


async def snapped(
    host: Host,
    *,
    atomic: bool = False,
    skip_unchanged: bool = False,
    naming: SnapshotNaming = NAMING,
    hooks: Sequence[Hook] | None = None,
) -> Snapper:
    """After one run."""
    snapper = Snapper(
        host.zfs,
        filesystems=FilesystemFilter.of({"tank<": True, "tank": False, "tank/no": False}),
        naming=naming,
        rhythm=600.0,
        clock=host.clock,
        hooks=[NoDatabase()] if hooks is None else hooks,
        atomic=atomic,
        skip_unchanged=skip_unchanged,
    )
    await snapper._take()
    return snapper


async def test_atomic_takes_all_at_one_moment_with_the_hooks_around_them(
    autojump_clock: trio.abc.Clock,
) -> None:
    host = Host()
    snapper = await snapped(host, atomic=True)
    first, second = snapper.report.progress
    assert (first.state, second.state) == (FilesystemState.ERROR, FilesystemState.DONE)
    assert (len(first.hooks), len(second.hooks)) == (3, 0)
    assert first.name == second.name
    one, two = [(await host.zfs.versions(path(name)))[0] for name in ("tank/a", "tank/b")]
    assert one.createtxg == two.createtxg
    assert await host.names("tank/no") == []


async def test_what_is_not_of_one_moment_is_told_of_each(
    autojump_clock: trio.abc.Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    host = Host()

    async def fails(paths: Sequence[DatasetPath], name: str) -> None:
        del paths, name
        raise ZfsError("zfs says no", stderr="internal error: no\n")

    monkeypatch.setattr(host.zfs, "snapshot_all", fails)
    snapper = await snapped(host, atomic=True)
    assert [each.state for each in snapper.report.progress] == [FilesystemState.ERROR] * 2
    for each, text in zip("ab", snapper.report.errors, strict=True):
        assert f"tank/{each}: its snapshot is not of one moment with the others" in text
        assert len(await host.names(f"tank/{each}")) == 1


@pytest.mark.parametrize("atomic", [True, False])
async def test_what_was_not_written_to_is_left_out_and_shown(
    autojump_clock: trio.abc.Clock, *, atomic: bool
) -> None:
    host = Host()
    await snapped(host, atomic=atomic, skip_unchanged=True)
    host.zfs.write("tank/b", {"f": b"new"})
    await trio.sleep(600)
    snapper = await snapped(host, atomic=atomic, skip_unchanged=True)
    first, second = snapper.report.progress
    assert (first.state, first.name, first.unchanged) == (FilesystemState.DONE, "", True)
    assert first.hooks == ()  # no snapshot, no hooks
    assert (second.state, second.unchanged) == (FilesystemState.DONE, False)
    assert len(await host.names("tank/a")) == 1
    assert len(await host.names("tank/b")) == 2
    await trio.sleep(600)
    snapper = await snapped(host, atomic=atomic, skip_unchanged=True)
    assert [each.unchanged for each in snapper.report.progress] == [True, True]
    assert snapper.report.errors == ()
