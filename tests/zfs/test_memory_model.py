"""Any history of writes, snapshots, holds, sends and cuts: replicas equal sources, holds protect."""

from __future__ import annotations

import random
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from typing import TypeVar

import trio
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from zrepl_trio.errors import DatasetNotFound, ReceiveInterrupted, ReceiveRefused, ZfsError
from zrepl_trio.zfs.memory import MemoryZfs
from zrepl_trio.zfs.model import FilesystemVersion, ReceiveArgs, SendArgs
from zrepl_trio.zfs.names import DatasetPath

T = TypeVar("T")
SOURCE, REPLICA = DatasetPath.parse("tank/a"), DatasetPath.parse("tank/copy")
FILES = st.dictionaries(
    st.sampled_from(["a", "b/c", "b/d", "e f"]),
    st.one_of(st.none(), st.tuples(st.integers(0, 255), st.sampled_from([0, 1, 50, 600_000]))),
    max_size=3,
)


class Clock:
    def now(self) -> datetime:
        return datetime(2026, 1, 1, tzinfo=UTC)


class Histories(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self.zfs = MemoryZfs(rng=random.Random(1), clock=Clock(), pools=["tank"])
        self.zfs.add_filesystem(SOURCE)
        self.contents: dict[int, dict[str, bytes]] = {}
        self.held: set[str] = set()
        self.count = 0

    def do(self, call: Callable[..., Awaitable[T]], *args: object) -> T:
        return trio.run(call, *args)

    def snapshots(self, path: DatasetPath) -> list[FilesystemVersion]:
        return [v for v in self.do(self.zfs.versions, path) if v.is_snapshot]

    @rule(files=FILES)
    def write(self, files: dict[str, tuple[int, int] | None]) -> None:
        """Each file as (byte, how often)."""
        self.zfs.write(
            SOURCE, {path: what and bytes([what[0]]) * what[1] for path, what in files.items()}
        )

    @rule()
    def snapshot(self) -> None:
        self.count += 1
        name = f"s{self.count}"
        self.do(self.zfs.snapshot, SOURCE, name)
        taken = self.snapshots(SOURCE)[-1]
        assert taken.name == name
        self.contents[taken.guid] = self.zfs.read(SOURCE)

    @precondition(lambda self: self.snapshots(SOURCE))
    @rule(data=st.data())
    def hold(self, data: st.DataObject) -> None:
        name = data.draw(st.sampled_from(self.snapshots(SOURCE))).name
        self.do(self.zfs.hold, SOURCE, [name], "tag")
        self.held.add(name)

    @precondition(lambda self: self.held)
    @rule(data=st.data())
    def release(self, data: st.DataObject) -> None:
        name = data.draw(st.sampled_from(sorted(self.held)))
        self.do(self.zfs.release, SOURCE, [name], "tag")
        self.held.discard(name)

    @precondition(lambda self: self.snapshots(SOURCE))
    @rule(data=st.data())
    def destroy(self, data: st.DataObject) -> None:
        name = data.draw(st.sampled_from(self.snapshots(SOURCE))).name
        (result,) = self.do(self.zfs.destroy_snapshots, SOURCE, [name])
        assert bool(result.error) == (name in self.held)

    @precondition(lambda self: self.snapshots(SOURCE))
    @rule(data=st.data())
    def bookmark(self, data: st.DataObject) -> None:
        chosen = data.draw(st.sampled_from(self.snapshots(SOURCE)))
        self.do(self.zfs.bookmark, SOURCE, chosen, f"m{chosen.name}")

    @precondition(lambda self: self.snapshots(SOURCE))
    @rule(cut=st.one_of(st.none(), st.floats(0, 1)))
    def replicate(self, cut: float | None) -> None:
        """One step to the newest snapshot, resumed if an earlier one was cut."""
        self.do(self._replicate, cut)

    async def _replicate(self, cut: float | None) -> None:
        target = await self.zfs.dataset(REPLICA)
        sender = await self.zfs.versions(SOURCE)
        to = [v for v in sender if v.is_snapshot][-1]
        base = None
        token = target.resume_token if target is not None else None
        if target is not None and token is None:
            newest = (await self.zfs.versions(REPLICA))[-1]
            same = [v for v in sender if v.guid == newest.guid]
            if not same or newest.guid == to.guid:
                return
            base = same[0]
        if token is not None:
            decoded = await self.zfs.decode_token(token)
            found = [v for v in sender if v.is_snapshot and v.guid == decoded.to_guid]
            if not found:
                await self.zfs.abort_receive(REPLICA)
                return
            to = found[0]
        stream = bytearray()
        try:
            async with self.zfs.open_send(
                SendArgs(dataset=SOURCE, to=to, from_=base, token=token)
            ) as send:
                while chunk := await send.reader.receive_some(10_000):
                    stream += chunk
                await send.finish()
        except ZfsError:
            # its base went meanwhile
            assert token is not None
            await self.zfs.abort_receive(REPLICA)
            return
        end = len(stream) if cut is None else int(cut * len(stream))
        args = ReceiveArgs(dataset=REPLICA, snapshot=to.name)
        stopped: ReceiveInterrupted | None = None
        try:
            async with self.zfs.open_receive(args) as receive:
                await receive.writer.send_all(bytes(stream[:end]))
                await receive.finish()
        except ReceiveInterrupted as error:
            stopped = error
        except (ReceiveRefused, DatasetNotFound):
            raise
        except ZfsError:
            assert end < len(stream)
        else:
            assert (await self.zfs.versions(REPLICA))[-1].guid == to.guid
        if stopped is not None:
            assert end < len(stream)
            left = await self.zfs.dataset(REPLICA)
            assert left is not None
            assert left.resume_token == stopped.token

    @invariant()
    def replicas_equal_their_sources(self) -> None:
        if self.do(self.zfs.dataset, REPLICA) is None:
            return
        for snap in self.snapshots(REPLICA):
            assert self.zfs.read(f"{REPLICA}@{snap.name}") == self.contents[snap.guid]

    @invariant()
    def what_is_held_is_there(self) -> None:
        names = {snap.name for snap in self.snapshots(SOURCE)}
        assert self.held <= names


Histories.TestCase.settings = settings(max_examples=25, stateful_step_count=20, deadline=None)
TestHistories = Histories.TestCase
