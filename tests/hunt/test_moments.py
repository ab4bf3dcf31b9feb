"""What waits for its moment strikes there, and where it cannot, at the next one."""

from __future__ import annotations

from collections.abc import Collection, Sequence

import pytest
import trio
import trio.testing

from tests.hunt.faulty_zfs import FaultyZfs
from tests.hunt.moments import Moments
from tests.hunt.rules import Listed
from tests.hunt.world import START
from zrepl_trio.simulate.determinism import SimulatedClock
from zrepl_trio.zfs.model import FilesystemVersion, ReceiveArgs, SendArgs
from zrepl_trio.zfs.names import DatasetPath

SOURCE, TARGET = DatasetPath("tank/f0"), DatasetPath("tank/copy")


class Unseen:
    """A witness who does not care."""

    def changed(self, host: str, dataset: str, *, call: str, by: str) -> None: ...

    def snapshots_gone(
        self, host: str, dataset: str, before: Sequence[Listed], gone: Collection[str]
    ) -> None: ...

    def rolled_back(self, host: str, dataset: str, gone: Collection[str]) -> None: ...


@pytest.fixture
async def zfs(autojump_clock: trio.testing.MockClock) -> FaultyZfs:
    zfs = FaultyZfs("app", seed=1, clock=SimulatedClock(START), witness=Unseen())
    zfs.add_pool("tank")
    zfs.add_filesystem(SOURCE)
    zfs.write(SOURCE, {"a": b"a" * 2_000, "b": b"b" * 2_000})
    return zfs


async def move(
    zfs: FaultyZfs, version: FilesystemVersion, from_: FilesystemVersion | None = None
) -> None:
    """Send it into a copy."""
    async with (
        zfs.open_send(SendArgs(dataset=SOURCE, to=version, from_=from_)) as send,
        zfs.open_receive(ReceiveArgs(dataset=TARGET, snapshot=version.name)) as receive,
    ):
        while data := await send.reader.receive_some():
            await receive.writer.send_all(data)
        await send.finish()
        await receive.finish()


async def test_a_daemon_dies_when_so_many_bytes_of_a_receive_have_come(zfs: FaultyZfs) -> None:
    """What came until then stays, though all of the stream was in one write."""
    await zfs.snapshot(SOURCE, "1")
    (version,) = await zfs.versions(SOURCE)
    with trio.CancelScope() as scope:
        async with (
            zfs.open_send(SendArgs(dataset=SOURCE, to=version)) as send,
            zfs.open_receive(ReceiveArgs(dataset=TARGET, snapshot="1")) as receive,
        ):
            stream = bytes(await send.reader.receive_some())

            def kill() -> bool:
                scope.cancel()
                return True

            zfs.moments.wait(kill, moved=len(stream) - 1_000)
            await receive.writer.send_all(stream)
    assert scope.cancelled_caught
    copy = zfs.world.open(TARGET)
    assert not copy.snapshots
    assert copy.partial is not None
    (token,) = (await zfs.properties(TARGET, ["receive_resume_token"])).values()
    assert 2_000 <= int((await zfs.decode_token(token.value)).bytes_received or 0) < len(stream)


def test_what_waits_for_a_stream_strikes_at_the_next_opening() -> None:
    struck: list[str] = []
    moments = Moments()

    def strike() -> bool:
        struck.append("")
        return True

    moments.wait(strike, calls=2, opening=True)
    for call in ("open_send", "hold", "hold"):
        moments.called(call)
        assert not struck
    moments.called("open_receive")
    moments.called("open_receive")
    assert len(struck) == 1


def test_what_cannot_strike_yet_tries_again_at_each_command() -> None:
    tried = 0

    def strike() -> bool:
        nonlocal tried
        tried += 1
        return tried == 3

    moments = Moments()
    moments.wait(strike, moved=100)
    moments.called("hold")
    assert (moments.left(0), tried) == (100, 0)
    moments.moved(100)
    for _ in range(5):
        moments.called("hold")
    assert tried == 3
    assert moments.left(0) is None


async def test_a_watched_stream_is_the_stream(zfs: FaultyZfs) -> None:
    """In whatever pieces moments cut it."""
    await zfs.snapshot(SOURCE, "1")
    for moved in (1, 70, 2_100):
        zfs.moments.wait(lambda: True, moved=moved)
    (version,) = await zfs.versions(SOURCE)
    await move(zfs, version)
    assert zfs.read(TARGET) == zfs.read(SOURCE)
