"""Two hosts in memory, with a sender on one and a receiver on the other."""

from __future__ import annotations

import random
from collections.abc import AsyncIterator, Callable, Collection, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import trio

from tests.replication.notation import path
from zrepl_trio.endpoint.model import Filesystem, ReceiveRequest, SendRequest
from zrepl_trio.endpoint.placeholders import PlaceholderEncryption
from zrepl_trio.endpoint.protocol import Endpoint, SendReply, StreamSource
from zrepl_trio.endpoint.receiver import Receiver
from zrepl_trio.endpoint.sender import Sender
from zrepl_trio.errors import RemoteError, TransportError, ZreplError
from zrepl_trio.pace import Pace
from zrepl_trio.replication.attempts import replicate
from zrepl_trio.replication.policy import ReplicationOptions
from zrepl_trio.replication.report import FilesystemReport, Report
from zrepl_trio.zfs.filter import FilesystemFilter
from zrepl_trio.zfs.memory import MemoryZfs
from zrepl_trio.zfs.model import DestroyResult, FilesystemVersion, SendFlags
from zrepl_trio.zfs.names import DatasetPath, Identity
from zrepl_trio.zfs.targets import WHOLE, TargetRules

__all__ = ["ROOT", "Cable", "Pair", "SteppingClock"]

ROOT = path("backup/sink")
MIB = 1 << 20


class SteppingClock:
    """Each look at it is a second later, so that creation times differ."""

    def __init__(self) -> None:
        self._now = datetime(2024, 5, 6, 12, tzinfo=UTC)

    def now(self) -> datetime:
        self._now += timedelta(seconds=1)
        return self._now


class Cable:
    """An endpoint at the other end of a link that can be cut; errors lose their classes on it.

    `cut_after` bytes of the next stream the link breaks, once. While `down`, nothing gets
    through. `lose` names calls that are carried out but whose answer is lost, once each. It moves
    ranges if `moves_ranges` is set, as one between two of ours does.
    """

    def __init__(self, end: Endpoint) -> None:
        self.end = end
        self.cut_after: int | None = None
        self.down = False
        self.lose: set[str] = set()
        self.calls: list[str] = []
        self.moved = 0
        self._then: tuple[int, Callable[[], None]] | None = None
        self.moves_ranges = False

    def at(self, moved: int, action: Callable[[], None]) -> None:
        """Do `action` once, when `moved` bytes have gone through in all."""
        self._then = (moved, action)

    def count(self, size: int) -> None:
        self.moved += size
        if self._then is not None and self.moved >= self._then[0]:
            (_, action), self._then = self._then, None
            action()

    @asynccontextmanager
    async def _over(self, call: str, what: str = "") -> AsyncIterator[None]:
        self.calls.append(f"{call} {what}".rstrip())
        await trio.lowlevel.checkpoint()
        self._check()
        try:
            yield
        except (TransportError, RemoteError):
            raise
        except ZreplError as error:
            raise RemoteError(str(error)) from None
        if call in self.lose:
            self.lose.remove(call)
            raise TransportError(f"the link broke before the answer to {call}")
        self._check()

    def _check(self) -> None:
        if self.down:
            raise TransportError("the link is down")

    async def ping(self, message: str) -> str:
        async with self._over("ping"):
            return await self.end.ping(message)

    async def list_filesystems(self) -> list[Filesystem]:
        async with self._over("list_filesystems"):
            # a zrepl peer never tells a dataset's guid, ours does
            return await self.end.list_filesystems()

    async def list_versions(self, filesystem: DatasetPath) -> list[FilesystemVersion]:
        async with self._over("list_versions", filesystem):
            return await self.end.list_versions(filesystem)

    async def range_sizes(self, request: SendRequest) -> list[int | None]:
        async with self._over("range_sizes", request.filesystem):
            return await self.end.range_sizes(request)

    async def send_dry(self, request: SendRequest) -> int | None:
        async with self._over("send_dry", request.filesystem):
            return await self.end.send_dry(request)

    @asynccontextmanager
    async def send(self, request: SendRequest) -> AsyncIterator[SendReply]:
        # only its start is the sender's: what fails in the block is the receiver's own error
        async with AsyncExitStack() as stack:
            async with self._over("send", request.filesystem):
                reply = await stack.enter_async_context(self.end.send(request))
            yield replace(reply, stream=_Wire(self, reply.stream))

    async def send_completed(self, request: SendRequest) -> None:
        async with self._over("send_completed", request.filesystem):
            await self.end.send_completed(request)

    async def settle(self) -> None:
        async with self._over("settle"):
            await self.end.settle()

    async def receive(self, request: ReceiveRequest, stream: StreamSource) -> None:
        async with self._over("receive", request.filesystem):
            await self.end.receive(request, stream)

    async def replication_cursor(self, filesystem: DatasetPath) -> int | None:
        async with self._over("replication_cursor", filesystem):
            return await self.end.replication_cursor(filesystem)

    async def destroy_snapshots(
        self, filesystem: DatasetPath, snapshots: Sequence[FilesystemVersion]
    ) -> list[DestroyResult]:
        async with self._over("destroy_snapshots", filesystem):
            return await self.end.destroy_snapshots(filesystem, snapshots)


class _Wire:
    """A stream that comes over the cable: no pipe, and it may break."""

    reader = None

    def __init__(self, cable: Cable, stream: StreamSource) -> None:
        self.on_progress: Callable[[int], None] = lambda _count: None
        self.pace = Pace()
        self._cable = cable
        self._stream = stream

    async def copy_into(self, sink: trio.abc.SendStream) -> int:
        reader = self._stream.reader
        assert reader is not None
        total = 0
        while chunk := await reader.receive_some(64 * 1024):
            left = self._cable.cut_after
            if left is not None and left <= len(chunk):
                chunk = chunk[:left]
            if self._cable.down:
                raise TransportError("the link broke")
            if chunk:
                await sink.send_all(chunk)
            total += len(chunk)
            self._cable.count(len(chunk))
            self.on_progress(len(chunk))
            if left is not None:
                self._cable.cut_after = left - len(chunk)
                if not self._cable.cut_after:
                    self._cable.cut_after = None
                    raise TransportError("the link broke")
        await self._stream.finish()
        return total

    async def finish(self) -> None:
        raise AssertionError("there is no reader to drain")


class Pair:
    """`source` with `tank` and `target` with `backup/sink`; jobs `src` and `dst`."""

    def __init__(
        self,
        *,
        seed: int = 1,
        filesystems: dict[str, bool] | None = None,
        flags: SendFlags | None = None,
        identity: Identity | None = None,
        targets: TargetRules = WHOLE,
        placeholder: PlaceholderEncryption = PlaceholderEncryption.INHERIT,
    ) -> None:
        rng, self.clock = random.Random(seed), SteppingClock()
        self.source = MemoryZfs(rng=rng, clock=self.clock, pools=["tank"])
        self.target = MemoryZfs(rng=rng, clock=self.clock, pools=["backup"])
        self.target.add_filesystem(ROOT)
        self.sender = Sender(
            self.source,
            job="src",
            filesystems=FilesystemFilter.of(filesystems or {"tank<": True, "tank": False}),
            flags=flags or SendFlags(),
        )
        self.receiver = Receiver(
            self.target,
            job="dst",
            root=ROOT,
            identity=identity,
            targets=targets,
            placeholder_encryption=placeholder,
        )
        self.cable = Cable(self.sender)
        self.reports: list[Report] = []

    def fill(self, name: str, size: int = MIB, *, seed: int = 0) -> DatasetPath:
        """A filesystem on the source with `size` random bytes in a file."""
        made = path(name)
        if self.source.world.get(name) is None:
            self.source.add_filesystem(name)
        self.source.write(name, {f"data{seed}": random.Random(seed).randbytes(size)})
        return made

    async def snapshot(self, name: str, snapshot: str, size: int = 0) -> FilesystemVersion:
        """A snapshot on the source, of `size` new bytes if given."""
        if size:
            self.fill(name, size, seed=hash(snapshot) % 1000)
        await self.source.snapshot(path(name), snapshot)
        listed = await self.source.versions(path(name))
        return next(v for v in listed if v.is_snapshot and v.name == snapshot)

    async def lose(self, name: str, snapshot: str) -> None:
        """Somebody releases and destroys a snapshot of the source, unseen by `before`."""
        before, self.source.before = self.source.before, None
        await self.source.release(path(name), [snapshot], "zrepl_STEP_J_src")
        (result,) = await self.source.destroy_snapshots(path(name), [snapshot])
        assert not result.error
        self.source.before = before

    async def run(
        self,
        *,
        sender: Endpoint | None = None,
        options: ReplicationOptions | None = None,
    ) -> Report:
        return await replicate(
            sender or self.cable,
            self.receiver,
            options or ReplicationOptions(),
            report=self.reports.append,
            clock=self.clock,
            decode_token=self.target.decode_token,
        )

    async def settled(self) -> None:
        """A plain run, with nothing in its way, that must succeed."""
        report = await self.run(sender=self.sender)
        assert report.error == "", report.error

    def local(self, name: str) -> DatasetPath:
        return self.receiver.place(path(name))

    async def marks(self, name: str) -> set[str]:
        """Bookmarks and holds of a source filesystem: `#name` and `@snap=tag`."""
        return await _marks(self.source, path(name))

    async def kept(self, name: str) -> set[str]:
        """The same of its replica."""
        return await _marks(self.target, self.local(name))

    async def received(self, name: str) -> list[str]:
        """The replica's snapshots."""
        return [v.name for v in await self.target.versions(self.local(name)) if v.is_snapshot]

    def same(self, name: str, snapshot: str) -> bool:
        """Whether both sides have the same bytes in that snapshot."""
        ours = self.source.read(f"{name}@{snapshot}")
        return ours == self.target.read(f"{self.local(name)}@{snapshot}")


def the(report: Report, name: str) -> FilesystemReport:
    """One filesystem of the last attempt."""
    assert report.last is not None
    return next(fs for fs in report.last.filesystems if fs.name == name)


async def _marks(zfs: MemoryZfs, dataset: DatasetPath) -> set[str]:
    versions = await zfs.versions(dataset)
    snapshots: Collection[str] = [v.name for v in versions if v.is_snapshot]
    holds = await zfs.holds(dataset, snapshots)
    return {f"#{v.name}" for v in versions if not v.is_snapshot} | {
        f"@{hold.snapshot}={hold.tag}" for hold in holds
    }
