"""What a receive has left behind: looked at, completed and held, also when nobody waits for it any more."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace

import pytest
import trio

from tests.endpoint.test_receiver import LOCAL, Broken, Surplus, receive
from tests.replication.pair import MIB, Pair
from zrepl_trio.endpoint.received_properties import ReceivedProperties
from zrepl_trio.errors import (
    TransportError,
    ZfsError,
)
from zrepl_trio.zfs.argv import PLACEHOLDER
from zrepl_trio.zfs.model import ReceiveArgs, SendFlags


class Gone(Surplus):
    """A whole stream, at the end of which the peer is lost."""

    async def copy_into(self, sink: trio.abc.SendStream) -> int:
        await self._stream.copy_into(sink)
        raise TransportError("the peer has gone")


class TestWhatAReceiveLeftUndone:
    """A zfs that ignores `-o`: what matters is set afterwards."""

    @pytest.fixture
    async def forgetful(self, pair: Pair) -> Pair:
        real = pair.target.open_receive

        def without_properties(args: ReceiveArgs) -> object:
            return real(replace(args, override={}))

        setattr(pair.target, "open_receive", without_properties)  # noqa: B010
        return pair

    async def test_the_source_guid_and_the_placeholder_mark(self, forgetful: Pair) -> None:
        forgetful.target.add_filesystem(LOCAL, {PLACEHOLDER: "on", "mountpoint": "none"})
        await receive(forgetful, source_guid=42)
        dataset = await forgetful.target.dataset(LOCAL)
        assert dataset is not None
        assert dataset.source_guid == 42
        assert not dataset.is_placeholder

    @pytest.mark.parametrize("accepted", [False, True])
    async def test_a_key_location_from_the_stream(self, accepted: bool) -> None:
        pair = Pair(flags=SendFlags(encrypted=True))
        pair.source.add_filesystem("tank/a", {"encryption": "on"})
        await pair.snapshot("tank/a", "1")
        rules = ReceivedProperties(accept=frozenset({"keylocation"} if accepted else ()))
        pair.receiver._properties = rules

        async def evil(call: str, dataset: str) -> None:
            if call == "properties_of":
                pair.target.world.open(dataset).local["keylocation"] = "https://evil/key"

        pair.target.before = evil
        await receive(pair)
        found = (await pair.target.properties(LOCAL, ["keylocation"]))["keylocation"]
        assert found.value == ("https://evil/key" if accepted else "prompt")

    async def test_a_parent_that_somebody_else_makes_first_will_do(self, pair: Pair) -> None:
        async def faster(call: str, dataset: str) -> None:
            if call == "create_filesystem":
                pair.target.before = None
                pair.target.add_filesystem(dataset)

        pair.target.before = faster
        await receive(pair)
        assert pair.same("tank/a", "1")


class TestWhatCameAlthoughTheReceiveFailed:
    """What zfs has taken in is there all the same: another job that prunes here must not get hold of it
    while the hold is still on the snapshot before."""

    async def _held(self, pair: Pair) -> list[str]:
        return [hold.snapshot for hold in await pair.target.holds(LOCAL, ["1", "2"])]

    @pytest.fixture
    async def replicated(self, pair: Pair) -> Pair:
        await receive(pair)
        await pair.snapshot("tank/a", "2")
        assert await pair.target.holds(LOCAL, ["1"])
        return pair

    async def test_the_link_breaks(self, replicated: Pair) -> None:
        with pytest.raises(TransportError, match="has gone"):
            await receive(replicated, to="2", from_="1", wrap=Gone)
        await replicated.receiver.settle()
        assert await self._held(replicated) == ["2"]

    async def test_zfs_fails_afterwards(self, replicated: Pair) -> None:
        """As it does where it has taken in a stream and cannot set one of its properties."""
        real = replicated.target.open_receive

        @asynccontextmanager
        async def failing(args: ReceiveArgs) -> AsyncIterator[object]:
            async with real(args) as running:
                whole = running.finish

                async def finish() -> None:
                    await whole()
                    raise ZfsError("cannot receive compression property: out of space")

                setattr(running, "finish", finish)  # noqa: B010
                yield running

        setattr(replicated.target, "open_receive", failing)  # noqa: B010
        with pytest.raises(ZfsError, match="out of space"):
            await receive(replicated, to="2", from_="1")
        await replicated.receiver.settle()
        assert await self._held(replicated) == ["2"]

    @pytest.mark.parametrize("call", ["properties_of", "versions"])
    async def test_the_receive_is_cancelled(self, replicated: Pair, call: str) -> None:
        came = trio.CancelScope()

        async def cut(name: str, dataset: str) -> None:
            if name == call and not came.cancel_called:
                came.cancel()
                await trio.lowlevel.checkpoint()

        replicated.target.before = cut
        with came:
            await receive(replicated, to="2", from_="1")
        assert came.cancelled_caught
        await replicated.receiver.settle()
        assert await self._held(replicated) == ["2"]

    async def test_nothing_had_come(self, replicated: Pair) -> None:
        replicated.fill("tank/a", MIB, seed=1)
        await replicated.snapshot("tank/a", "3")
        with pytest.raises(TransportError):
            await receive(
                replicated,
                to="3",
                from_="1",
                wrap=lambda stream: Broken(stream, TransportError("the peer has gone")),
            )
        await replicated.receiver.settle()
        assert [hold.snapshot for hold in await replicated.target.holds(LOCAL, ["1"])] == ["1"]
