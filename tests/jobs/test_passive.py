from __future__ import annotations

import gc
import random
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest
import trio
import trio.testing

from tests.jobs.clocks import FollowingClock
from tests.jobs.snappers import TANK, every_ten_minutes
from tests.rpc.pairs import PairConnecter, StreamConnection
from zrepl_trio.config.load import parse_config
from zrepl_trio.endpoint.remembered import REMEMBERED_S
from zrepl_trio.errors import Refused
from zrepl_trio.jobs.base import JobType, Phase, SignalRefused
from zrepl_trio.jobs.build import build_jobs
from zrepl_trio.jobs.passive import PassiveJob
from zrepl_trio.jobs.world import World
from zrepl_trio.rpc.client import open_remote
from zrepl_trio.transport.base import Connection
from zrepl_trio.zfs.memory import MemoryZfs
from zrepl_trio.zfs.model import FilesystemVersion

Handler = Callable[[Connection], Awaitable[None]]


class MemoryConnection(Connection):
    """Nothing is ever sent on it; it stands for a client."""

    client_identity = "client"
    read_fd = None
    write_fd = None

    async def send_all(self, data: bytes | bytearray | memoryview) -> None:
        del data

    async def wait_send_all_might_not_block(self) -> None: ...

    async def receive_some(self, max_bytes: int | None = None) -> bytes:
        del max_bytes
        return b""

    async def send_eof(self) -> None: ...

    def close(self) -> None: ...

    async def aclose(self) -> None: ...


class HandListener:
    """Clients come when the test says so."""

    def __init__(self, refusal: str = "") -> None:
        self.refusal = refusal
        self.arrive, self._clients = trio.open_memory_channel[Connection](10)

    async def serve(
        self, handler: Handler, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED
    ) -> None:
        if self.refusal:
            raise Refused(self.refusal)
        task_status.started()
        async with trio.open_nursery() as nursery:
            while True:
                nursery.start_soon(handler, await self._clients.receive())


def make(
    directory: Path,
    listener: HandListener,
    serve: Handler,
    *,
    tidy: Callable[[], bool] = lambda: False,
) -> PassiveJob:
    return PassiveJob(
        name="source",
        type=JobType.SOURCE,
        listener=listener,
        serve=serve,
        runtime_dir=str(directory),
        tidy=tidy,
    )


async def test_it_serves_each_client_and_counts_them(tmp_path: Path, nursery: trio.Nursery) -> None:
    leave = trio.Event()

    async def serve(_connection: Connection) -> None:
        await leave.wait()

    listener = HandListener()
    job = make(tmp_path, listener, serve)
    assert job.status().phase is Phase.STARTING
    await nursery.start(job.run)
    assert job.status().phase is Phase.SERVING
    for _ in range(3):
        await listener.arrive.send(MemoryConnection())
    await trio.testing.wait_all_tasks_blocked()
    assert job.status().connections == 3
    leave.set()
    await trio.testing.wait_all_tasks_blocked()
    assert job.status().connections == 0
    nursery.cancel_scope.cancel()


async def test_a_listener_that_cannot_listen_fails_the_job(tmp_path: Path) -> None:
    async def serve(_connection: Connection) -> None: ...

    job = make(tmp_path, HandListener("directory is not private"), serve)
    with pytest.RaisesGroup(Refused):
        await job.run()
    assert job.status().phase is Phase.STOPPED


async def test_signals_get_zrepls_answers(tmp_path: Path) -> None:
    async def serve(_connection: Connection) -> None: ...

    job = make(tmp_path, HandListener(), serve)
    with pytest.raises(SignalRefused, match="already woken up"):
        job.wakeup()
    with pytest.raises(SignalRefused, match="already reset"):
        job.reset()


@pytest.mark.parametrize(("locked", "count"), [(True, 2), (False, 0)], ids=["run", "serve"])
async def test_a_source_takes_snapshots_while_it_runs(
    tmp_path: Path, autojump_clock: trio.testing.MockClock, *, locked: bool, count: int
) -> None:
    async def serve(_connection: Connection) -> None: ...

    clock = FollowingClock()
    snapper, zfs = every_ten_minutes(clock)
    job = PassiveJob(
        name="source",
        type=JobType.SOURCE,
        listener=HandListener(),
        serve=serve,
        runtime_dir=str(tmp_path),
        snapper=snapper,
    )
    async with trio.open_nursery() as nursery:
        await nursery.start(job.run if locked else job.serve)
        await trio.sleep(1000)
        nursery.cancel_scope.cancel()
    assert len(await zfs.versions(TANK)) == count


async def test_what_is_kept_for_clients_is_looked_after_until_nothing_is_left(
    tmp_path: Path, autojump_clock: trio.testing.MockClock
) -> None:
    leave, left, looked = trio.Event(), True, []

    async def serve(_connection: Connection) -> None:
        await leave.wait()

    def tidy() -> bool:
        looked.append(trio.current_time())
        return left

    listener = HandListener()
    job = make(tmp_path, listener, serve, tidy=tidy)
    async with trio.open_nursery() as nursery:
        await nursery.start(job.run)
        await trio.sleep(1000)
        assert looked == []  # no client came
        await listener.arrive.send(MemoryConnection())
        await trio.sleep(25)
        assert len(looked) == 2
        left = False
        await trio.sleep(100)
        assert len(looked) == 12  # the client is still there, and may list again
        leave.set()
        await trio.sleep(1000)
        assert len(looked) == 13
        nursery.cancel_scope.cancel()


SINK = """
jobs:
- {name: dst, type: sink, root_fs: backup, serve: {type: stdinserver, client_identities: [app]}}
"""


async def test_a_listing_takes_no_memory_once_it_is_too_old(
    autojump_clock: trio.testing.MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    zfs = MemoryZfs(rng=random.Random(1), clock=FollowingClock(), pools=["backup"])
    await zfs.snapshot(zfs.add_filesystem("backup/app/tank"), "listed-for-a-client")
    (job,) = build_jobs(parse_config(SINK).config, World(clock=FollowingClock(), zfs=zfs))
    assert isinstance(job, PassiveJob)
    monkeypatch.setattr(job, "_listener", HandListener())

    def in_memory() -> int:
        gc.collect()
        return sum(
            isinstance(each, FilesystemVersion) and each.name == "listed-for-a-client"
            for each in gc.get_objects()
        )

    async def arrive(connection: Connection) -> None:
        assert isinstance(connection, StreamConnection)
        connection.client_identity = "app"
        await job._handle(connection)

    async with trio.open_nursery() as nursery:
        await nursery.start(job.serve)
        async with open_remote(PairConnecter(arrive)) as far:
            tank = (await far.list_filesystems())[-1].path
            await far.list_versions(tank)
            assert in_memory() == 1
            await trio.sleep(REMEMBERED_S + 15)
            assert in_memory() == 0
            assert len(await far.list_versions(tank)) == 1
            assert in_memory() == 1
        await trio.sleep(REMEMBERED_S + 15)
        assert in_memory() == 0
        nursery.cancel_scope.cancel()
