"""From config text to jobs: every key reaches what it is for."""

from __future__ import annotations

import os
import random
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import replace
from functools import partial

import pytest
import trio
from trio.testing import MockClock

from tests.fakes.endpoint import FakeEndpoint
from tests.jobs.clocks import FollowingClock
from tests.rpc.pairs import PairConnecter, StreamConnection, connection_pair, greet
from zrepl_trio.config.load import parse_config
from zrepl_trio.config.model import Config
from zrepl_trio.config.transport import LocalConnect, Serve
from zrepl_trio.endpoint.model import GuaranteeKind, Protection
from zrepl_trio.endpoint.placeholders import PlaceholderEncryption
from zrepl_trio.endpoint.protocol import Endpoint, PingsData
from zrepl_trio.endpoint.receiver import Receiver
from zrepl_trio.errors import ConnectFailed
from zrepl_trio.jobs.active import ActiveJob, Schedule
from zrepl_trio.jobs.base import Job, JobType, Outcome
from zrepl_trio.jobs.build import build_jobs, runtime_directory
from zrepl_trio.jobs.links import Links
from zrepl_trio.jobs.passive import PassiveJob
from zrepl_trio.jobs.replicating import Replicating
from zrepl_trio.jobs.world import World
from zrepl_trio.pace import Throttle
from zrepl_trio.replication.policy import InitialReplication, ReplicationOptions
from zrepl_trio.rpc.server import serve_connection
from zrepl_trio.rpc.shutdown import ShutdownTotals
from zrepl_trio.transport.base import Connecter, Connection, Listener
from zrepl_trio.zfs.memory import MemoryZfs
from zrepl_trio.zfs.model import SendFlags
from zrepl_trio.zfs.names import DatasetPath

PULL = """
global: {control: {sockpath: /somewhere/private/control}}
jobs:
- name: pull
  type: pull
  root_fs: backup/r
  interval: 10m
  connect:
    type: ssh+stdinserver
    host: h
    user: u
    port: 2222
    identity_file: /k
    options: ["Compression=no"]
    dial_timeout: 3s
  recv:
    properties: {inherit: [mountpoint], override: {readonly: "on"}, accept: [exec]}
    placeholder: {encryption: inherit}
    unmounted: false
  replication:
    protection: {initial: guarantee_nothing, incremental: guarantee_incremental}
    concurrency: {steps: 3, size_estimates: 7}
  conflict_resolution: {initial_replication: all}
  pruning: {keep_sender: [{type: last_n, count: 1}], keep_receiver: [{type: last_n, count: 1}]}
"""

SOURCE = """
jobs:
- name: source
  type: source
  serve: {type: stdinserver, client_identities: [one, two]}
  filesystems: {"tank<": true}
  snapshotting: {type: manual}
  send: {encrypted: false, raw: true, send_properties: true, large_blocks: true, compressed: true}
"""

SINK = """
jobs:
- name: sink
  type: sink
  root_fs: backup/r
  serve: {type: stdinserver, client_identities: [one, two]}
  recv: {bandwidth_limit: {max: 1 MiB}}
"""

LIMIT = "bandwidth_limit: {max: 80.9 Kb, bucket_capacity: 3 MB}"


def config(text: str) -> Config:
    return parse_config(text).config


def memory_world() -> World:
    clock = FollowingClock()
    return World(clock=clock, zfs=MemoryZfs(rng=random.Random(1), clock=clock))


async def built(text: str) -> list[Job]:
    return build_jobs(config(text), memory_world())


async def test_a_pull_job_gets_all_of_its_section() -> None:
    (job,) = await built(PULL)
    assert isinstance(job, ActiveJob)
    assert (job.name, job.type) == ("pull", JobType.PULL)
    assert job._schedule == Schedule(interval_s=600, at_start=False)
    assert job._runtime_dir == "/somewhere/private"
    work = job.work
    assert isinstance(work, Replicating)
    assert work.options == ReplicationOptions(
        protection=Protection(initial=GuaranteeKind.NOTHING, incremental=GuaranteeKind.INCREMENTAL),
        initial=InitialReplication.ALL,
        steps=3,
        size_estimates=7,
    )
    assert work.connecter.peer == "u@h:2222"
    assert work.pulls
    receiver = work.here
    assert isinstance(receiver, Receiver)
    assert receiver._unmounted is False
    assert receiver._placeholder_encryption is PlaceholderEncryption.INHERIT
    assert receiver._properties.inherit == ("mountpoint",)
    assert receiver._properties.override == {"readonly": "on"}
    assert receiver._properties.accept == frozenset({"exec"})
    assert receiver._throttle is None


async def test_a_host_that_takes_long_to_dial_is_given_the_time_everywhere() -> None:
    (job,) = await built(PULL.replace("dial_timeout: 3s", "dial_timeout: 1m"))
    assert isinstance(job, ActiveJob)
    work = job.work
    assert isinstance(work, Replicating)
    assert work.connect_limit_s > 60
    assert work.options.answer_s > 60


async def test_the_old_form_pulls_at_start() -> None:
    (job,) = await built(PULL.replace("interval: 10m", "interval: 10m\n  run_at_start: true"))
    assert isinstance(job, ActiveJob)
    assert job._schedule.at_start


async def test_a_manual_interval_never_ticks() -> None:
    (job,) = await built(PULL.replace("interval: 10m", "interval: manual"))
    assert isinstance(job, ActiveJob)
    assert job._schedule.interval_s is None


async def test_a_source_job_gets_all_of_its_section(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[SendFlags] = []
    real = build_jobs.__globals__["Sender"]

    def watching(*args: object, flags: SendFlags, **kwargs: object) -> object:
        seen.append(flags)
        return real(*args, flags=flags, **kwargs)

    monkeypatch.setitem(build_jobs.__globals__, "Sender", watching)
    (job,) = await built(SOURCE)
    assert isinstance(job, PassiveJob)
    assert (job.name, job.type) == ("source", JobType.SOURCE)
    assert seen == [SendFlags(raw=True, properties=True, large_blocks=True, compressed=True)]


@pytest.mark.parametrize(
    ("text", "side", "limited"),
    [
        (PULL, "Receiver", PULL.replace("  recv:\n", f"  recv:\n    {LIMIT}\n")),
        (SOURCE, "Sender", SOURCE.replace("send: {", f"send: {{{LIMIT}, ")),
    ],
    ids=["pull", "source"],
)
async def test_one_limit_holds_for_all_streams_of_a_job(
    text: str, side: str, limited: str, monkeypatch: pytest.MonkeyPatch, autojump_clock: MockClock
) -> None:
    limits: list[Throttle | None] = []
    real = build_jobs.__globals__[side]

    def watching(*args: object, throttle: Throttle | None, **kwargs: object) -> object:
        limits.append(throttle)
        return real(*args, throttle=throttle, **kwargs)

    monkeypatch.setitem(build_jobs.__globals__, side, watching)
    await built(text)
    await built(limited)
    none, throttle = limits
    assert none is None
    assert throttle is not None
    # a full bucket first; bits to whole bytes
    taken = 0
    while trio.current_time() == 0:
        taken += await throttle.take(1 << 40)
    assert taken == pytest.approx(3_000_000, abs=2000)
    while trio.current_time() < 10:
        taken += await throttle.take(1 << 40)
    assert taken == pytest.approx(3_000_000 + 101_120, abs=2100)


async def test_the_clients_of_a_sink_share_its_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    limits: dict[object, object] = {}
    real = build_jobs.__globals__["Receiver"]

    def watching(*args: object, identity: object, throttle: object, **kwargs: object) -> object:
        limits[identity] = throttle
        return real(*args, identity=identity, throttle=throttle, **kwargs)

    monkeypatch.setitem(build_jobs.__globals__, "Receiver", watching)
    (job,) = await built(SINK)
    assert isinstance(job, PassiveJob)
    for identity in ("one", "two"):
        ours, theirs = trio.testing.memory_stream_pair()
        await theirs.aclose()
        await job._serve(StreamConnection(ours, identity))
    assert limits.keys() == {"one", "two"}
    assert limits["one"] is limits["two"] is not None


@pytest.mark.parametrize("text", [PULL, SOURCE, SINK], ids=["pull", "source", "sink"])
async def test_the_ends_of_a_jobs_data_connections_are_counted(text: str) -> None:
    world = memory_world()
    (job,) = build_jobs(config(text), world)
    ours, theirs = connection_pair()
    async with trio.open_nursery() as nursery:
        if isinstance(job, PassiveJob):
            nursery.start_soon(job._serve, ours)
            await greet(theirs)
            await theirs.aclose()
        else:
            assert isinstance(job, ActiveJob)
            assert isinstance(job.work, Replicating)
            connecter = PairConnecter(partial(serve_connection, endpoint=FakeEndpoint()))
            work = replace(job.work, connecter=connecter)
            async with work._peer() as peer:
                assert isinstance(peer, PingsData)
                await peer.ping_data("x")
    assert world.shutdowns.seconds.count == 1


def test_the_runtime_directory_is_the_control_sockets() -> None:
    assert runtime_directory(config("jobs: []")) == "/var/run/zrepl"


async def test_of_jobs_that_share_a_local_listener_the_first_gets_all(
    autojump_clock: MockClock,
) -> None:
    """Also while it is down: what the second would then be sent has its place at the first."""
    del autojump_clock
    sink = (
        "{{name: {0}, type: sink, root_fs: backup/{0}, serve: {{type: local, listener_name: x}}}}"
    )
    made = config(f"jobs: [{sink.format('one')}, {sink.format('two')}]")
    links = Links(made)
    first, second = (
        links.listener(job.serve, lambda _identity: FakeEndpoint())
        for job in made.jobs
        if job.type == "sink"
    )
    connect = LocalConnect(type="local", listener_name="x", client_identity="me", dial_timeout=1)
    connecter = links.connecter(connect)
    got: list[str] = []

    def serving(name: str) -> Callable[[Connection], Awaitable[None]]:
        async def handle(connection: Connection) -> None:
            got.append(name)
            await connection.send_all(b"hello")

        return handle

    async with trio.open_nursery() as nursery:
        await nursery.start(second.serve, serving("two"))
        with pytest.raises(ConnectFailed):
            async with connecter.connect():
                pass
        await nursery.start(first.serve, serving("one"))
        for _ in range(3):
            async with connecter.connect() as connection:
                assert await connection.receive_some() == b"hello"
        nursery.cancel_scope.cancel()
    assert got == ["one"] * 3


async def test_a_world_may_have_links_and_locks_of_its_own() -> None:
    """Jobs reach the endpoints of others without a wire, and leave no lock behind."""
    offered: dict[str, Callable[[str], Endpoint]] = {}

    @asynccontextmanager
    async def open_here(
        connecter: Connecter,
        *,
        connect_limit_s: float,
        work_limit_s: float,
        shutdowns: ShutdownTotals | None,
    ) -> AsyncIterator[Endpoint]:
        del connecter, connect_limit_s, work_limit_s, shutdowns
        yield offered["local"]("me")

    class InProcess(Links):
        open_peer = staticmethod(open_here)

        def listener(self, section: Serve, endpoint_of: Callable[[str], Endpoint]) -> Listener:
            offered[section.type] = endpoint_of
            return super().listener(section, endpoint_of)

    clock = FollowingClock()
    zfs = MemoryZfs(rng=random.Random(1), clock=clock, pools=["tank", "backup"])
    zfs.add_filesystem("tank/data")
    zfs.add_filesystem("backup/r")
    await zfs.snapshot(DatasetPath("tank/data"), "one")
    world = World(clock=clock, zfs=zfs, links=InProcess, locks=False)
    text = """
jobs:
- name: source
  type: source
  serve: {type: local, listener_name: here}
  filesystems: {"tank/data": true}
  snapshotting: {type: manual}
- name: pull
  type: pull
  root_fs: backup/r
  interval: 10m
  connect: {type: local, listener_name: here, client_identity: me}
  recv: {placeholder: {encryption: inherit}}
  pruning: {keep_sender: [{type: last_n, count: 1}], keep_receiver: [{type: last_n, count: 1}]}
"""
    source, pull = build_jobs(config(text), world)
    assert isinstance(pull, ActiveJob)
    async with trio.open_nursery() as nursery:
        await nursery.start(source.run)
        run = await pull.run_once(lambda _report: None)
        nursery.cancel_scope.cancel()
    assert run.outcome is Outcome.DONE
    assert "one" in zfs.world.open("backup/r/tank/data").snapshots
    assert not os.path.exists("/var/run/zrepl/locks/pull")
