"""What `test_isolation` asks of the endpoints, over the whole wire, of a sink job that serves two clients."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
import trio

from tests.endpoint.test_isolation import (
    MINE,
    NO_NAMES,
    ON_RECEIVER,
    ON_SENDER,
    OTHER_NAMES,
    OWN,
    SECRETS,
    THEIRS,
    answer,
    foreign_snapshot,
    outside,
    serving,
    sink,
    source,
)
from tests.replication.notation import path
from tests.replication.pair import SteppingClock
from tests.rpc.pairs import PairConnecter, StreamConnection, remote
from tests.support.pools import contents
from zrepl_trio.config.load import parse_config
from zrepl_trio.endpoint.protocol import Endpoint
from zrepl_trio.jobs.build import build_jobs
from zrepl_trio.jobs.passive import PassiveJob
from zrepl_trio.jobs.world import World
from zrepl_trio.rpc.client import open_remote
from zrepl_trio.transport.base import Connection
from zrepl_trio.zfs.memory import MemoryZfs
from zrepl_trio.zfs.names import DatasetPath

JOB = """
jobs:
- name: dst
  type: sink
  root_fs: backup/sink
  serve: {type: stdinserver, client_identities: [one, two]}
  recv: {placeholder: {encryption: inherit}}
"""


@asynccontextmanager
async def served(zfs: MemoryZfs, identity: str = "one") -> AsyncIterator[Endpoint]:
    """The sink as its client sees it through the whole wire, in memory."""
    (job,) = build_jobs(parse_config(JOB).config, World(clock=SteppingClock(), zfs=zfs))
    assert isinstance(job, PassiveJob)

    async def serve(connection: Connection) -> None:
        assert isinstance(connection, StreamConnection)
        connection.client_identity = identity
        await job._serve(connection)

    async with open_remote(PairConnecter(serve)) as far:
        yield far


OVER_THE_WIRE = ["list_versions", "list_versions_of", "destroy_snapshots", "destroy_size"]
OVER_THE_WIRE += ["receive", "receive a range", "rollback", "keep_copy", "rename from", "rename to"]
OVER_THE_WIRE += ["place"]


@pytest.mark.parametrize(
    "name", [each for each in (*NO_NAMES, *OTHER_NAMES) if "\udcff" not in each]
)
async def test_over_the_wire_it_is_the_same(name: str, autojump_clock: trio.abc.Clock) -> None:
    here, there = await sink(with_theirs=True), await sink(with_theirs=False)
    known = await foreign_snapshot(here, THEIRS)
    answers: list[list[str]] = []
    for zfs in (here, there):
        before = outside(zfs)
        answers.append([])
        for call in OVER_THE_WIRE:
            async with served(zfs) as far:
                await far.list_filesystems()
                made = ON_RECEIVER[call](far, DatasetPath(name), known)
                answers[-1].append(await answer(made))
        assert outside(zfs) == before
        if name in NO_NAMES:
            assert contents(zfs).keys() == {*before, f"{MINE}/tank", f"{MINE}/{OWN}"}
            assert not [text for text in answers[-1] if "internal error" in text]
    assert answers[0] == answers[1]


@pytest.mark.parametrize("name", SECRETS)
async def test_a_source_says_the_same_over_the_wire(
    name: str, autojump_clock: trio.abc.Clock
) -> None:
    here, there = await source(with_secret=True), await source(with_secret=False)
    known = (await here.versions(path("tank/secret")))[-1]
    answers: list[list[str]] = []
    for zfs in (here, there):
        before = contents(zfs)
        async with remote(serving(zfs)) as far:
            calls = ON_SENDER.values()
            answers.append([await answer(call(far, path(name), known)) for call in calls])
        assert contents(zfs) == before
    assert answers[0] == answers[1]
    # a listing of many tells of each by itself, so that what is admitted is listed
    assert all("does not allow access" in text for text in answers[0])


async def test_each_client_of_a_sink_has_its_own(autojump_clock: trio.abc.Clock) -> None:
    zfs = await sink(with_theirs=True)
    async with served(zfs) as one, served(zfs, "two") as two:
        assert [each.path for each in await one.list_filesystems()] == ["tank", OWN]
        assert [each.path for each in await two.list_filesystems()] == ["tank", "tank/secret"]
