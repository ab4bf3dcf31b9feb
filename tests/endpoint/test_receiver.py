from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest
import trio
from trio.testing import MockClock

from tests.endpoint.test_sender import request_for
from tests.replication.notation import path, version
from tests.replication.pair import MIB, ROOT, Pair
from zrepl_trio.endpoint.model import GuaranteeKind, Protection, ReceiveRequest
from zrepl_trio.endpoint.protocol import Endpoint, ListsInBulk, NotSupported, StreamSource
from zrepl_trio.endpoint.receiver import Receiver
from zrepl_trio.errors import (
    ReceiveInterrupted,
    ReceiveRefused,
    Refused,
    SourceFailed,
    TransportError,
    ZfsError,
)
from zrepl_trio.pace import Pace, Throttle
from zrepl_trio.zfs.argv import PLACEHOLDER
from zrepl_trio.zfs.model import ReceiveArgs
from zrepl_trio.zfs.names import DatasetPath, check_identity

A = path("tank/a")
LOCAL = path("backup/sink/tank/a")
LAST = "zrepl_last_received_J_dst"


async def receive(
    pair: Pair,
    *,
    to: str = "1",
    from_: str | None = None,
    clear: bool = True,
    wrap: Callable[[StreamSource], StreamSource] = lambda stream: stream,
    **changes: object,
) -> None:
    """One step from the pair's sender; `changes` are made to the receiver's request."""
    request = await request_for(pair, to=to, from_=from_)
    wanted = ReceiveRequest(filesystem=A, to=request.to, clear_resume_token=clear)
    wanted = replace(wanted, **changes)  # type: ignore[arg-type]
    async with pair.sender.send(request) as reply:
        await pair.receiver.receive(wanted, wrap(reply.stream))
    await pair.receiver.settle()


class Broken:
    """Half of a stream, then an error."""

    reader = None

    def __init__(self, stream: StreamSource, error: Exception) -> None:
        self.on_progress: Callable[[int], None] = lambda _count: None
        self.pace = Pace()
        self._stream = stream
        self._error = error

    async def copy_into(self, sink: trio.abc.SendStream) -> int:
        assert self._stream.reader is not None
        for _ in range(8):
            await sink.send_all(await self._stream.reader.receive_some(64 * 1024))
        raise self._error

    async def finish(self) -> None:
        raise AssertionError


class Surplus:
    """A whole stream, and then more."""

    reader = None

    def __init__(self, stream: StreamSource) -> None:
        self.on_progress: Callable[[int], None] = lambda _count: None
        self.pace = Pace()
        self._stream = stream

    async def copy_into(self, sink: trio.abc.SendStream) -> int:
        count = await self._stream.copy_into(sink)
        for _ in range(8):
            await sink.send_all(b"x" * 65536)
        return count

    async def finish(self) -> None:
        raise AssertionError


def test_is_an_endpoint() -> None:
    endpoint: Endpoint = Pair().receiver
    assert isinstance(endpoint, ListsInBulk)


async def test_ping_and_what_is_not_its_part(pair: Pair) -> None:
    request = await request_for(pair)
    assert await pair.receiver.ping("x") == "x"
    await pair.receiver.send_completed(request)
    with pytest.raises(NotSupported, match=r"receiver does not implement SendDry\(\)"):
        await pair.receiver.send_dry(request)
    with pytest.raises(NotSupported, match=r"receiver does not implement Send\(\)"):
        async with pair.receiver.send(request):
            raise AssertionError
    with pytest.raises(NotSupported, match="ReplicationCursor not implemented for Receiver"):
        await pair.receiver.replication_cursor(A)


class TestListing:
    async def test_names_are_the_senders(self, pair: Pair) -> None:
        await receive(pair)
        listed = await pair.receiver.list_filesystems()
        assert [(f.path, f.is_placeholder) for f in listed] == [("tank", True), ("tank/a", False)]
        assert [v.name for v in await pair.receiver.list_versions(A)] == ["1"]
        assert (await pair.receiver.list_versions_of([A])).keys() == {A}

    async def test_a_client_sees_its_own_only(self, pair: Pair) -> None:
        def client(name: str) -> Receiver:
            return Receiver(pair.target, job="dst", root=ROOT, identity=check_identity(name))

        pair.target.add_filesystem("backup/sink/one/tank/a")
        assert [f.path for f in await client("one").list_filesystems()] == ["tank", "tank/a"]
        # a client that never sent anything has nothing, which is no error
        assert await client("two").list_filesystems() == []

    @pytest.mark.parametrize("identity", [None, "one"])
    async def test_a_missing_root_says_how_to_make_it(
        self, pair: Pair, identity: str | None
    ) -> None:
        receiver = Receiver(
            pair.target,
            job="dst",
            root=path("backup/missing"),
            identity=check_identity(identity) if identity else None,
        )
        with pytest.raises(Refused, match=r"create it \(`zfs create backup/missing`\)"):
            await receiver.list_filesystems()


class TestReceive:
    async def test_hold_property_and_state(self, pair: Pair) -> None:
        await receive(pair, source_guid=42)
        dataset = await pair.target.dataset(LOCAL)
        assert dataset is not None
        assert dataset.source_guid == 42
        assert await pair.kept("tank/a") == {f"@1={LAST}"}
        await pair.snapshot("tank/a", "2", 10)
        await receive(pair, to="2", from_="1", source_guid=42)
        assert await pair.kept("tank/a") == {f"@2={LAST}"}

    @pytest.mark.parametrize("name", ["../../x", "a//b", "", "-rf", "a@b", "a\nb", "d" * 256])
    async def test_hostile_names_run_nothing(self, pair: Pair, name: str) -> None:
        with pytest.raises(Refused):
            await receive(pair, filesystem=DatasetPath(name))
        assert pair.target.calls == []

    @pytest.mark.parametrize("name", ["a/b", "x@y", "", "..", "a\n"])
    async def test_hostile_snapshot_names_run_nothing(self, pair: Pair, name: str) -> None:
        request = await request_for(pair)
        to = replace(request.to, name=name)
        wanted = ReceiveRequest(filesystem=A, to=to, clear_resume_token=True)
        async with pair.sender.send(request) as reply:
            with pytest.raises(Refused):
                await pair.receiver.receive(wanted, reply.stream)
        assert pair.target.calls == []

    async def test_a_bookmark_cannot_be_received(self, pair: Pair) -> None:
        request = ReceiveRequest(filesystem=A, to=version("#b,1"), clear_resume_token=True)
        async with pair.sender.send(await request_for(pair)) as reply:
            with pytest.raises(Refused, match="it is not a snapshot"):
                await pair.receiver.receive(request, reply.stream)

    async def test_existing_data_is_never_overwritten(self, pair: Pair) -> None:
        pair.target.add_filesystem(LOCAL)
        pair.target.write(LOCAL, {"precious": b"data"})
        with pytest.raises(ReceiveRefused):
            await receive(pair)
        assert pair.target.read(LOCAL) == {"precious": b"data"}
        assert await pair.kept("tank/a") == set()

    async def test_another_guid_than_announced_is_told_and_not_held(self, pair: Pair) -> None:
        request = await request_for(pair)
        claimed = replace(request.to, guid=7)
        wanted = ReceiveRequest(filesystem=A, to=claimed, clear_resume_token=True)
        async with pair.sender.send(request) as reply:
            with pytest.raises(ZfsError, match="announced 0x7; it is left as it is"):
                await pair.receiver.receive(wanted, reply.stream)
        assert await pair.kept("tank/a") == set()

    async def test_unwanted_partial_state_is_cleared_first(self, pair: Pair) -> None:
        error = TransportError("cut")
        with pytest.raises(TransportError):
            await receive(pair, wrap=lambda s: Broken(s, error))
        assert error.__notes__ == [f"{LOCAL}: what arrived is kept, the next run resumes it"]
        await receive(pair, clear=True)
        assert pair.same("tank/a", "1")

    async def test_without_resumable_receive_nothing_is_kept(
        self, pair: Pair, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        features = replace(await pair.target.features(), resumable_receive=False)

        async def old() -> object:
            await trio.lowlevel.checkpoint()
            return features

        monkeypatch.setattr(pair.target, "features", old)
        with pytest.raises(TransportError):
            await receive(pair, wrap=lambda s: Broken(s, TransportError("cut")))
        assert await pair.target.dataset(LOCAL) is None
        await receive(pair)
        assert pair.same("tank/a", "1")

    @pytest.mark.parametrize(
        "error", [TransportError("link"), SourceFailed("source"), SourceFailed("")]
    )
    async def test_the_cause_is_raised_itself(self, pair: Pair, error: Exception) -> None:
        with pytest.raises(type(error)) as raised:
            await receive(pair, wrap=lambda s: Broken(s, error))
        assert raised.value is error
        assert await pair.kept("tank/a") == set()

    async def test_a_stream_that_just_ends_is_interrupted(self, pair: Pair) -> None:
        class Short(Broken):
            async def copy_into(self, sink: trio.abc.SendStream) -> int:
                try:
                    return await super().copy_into(sink)
                except TransportError:
                    return 1

        with pytest.raises(ReceiveInterrupted) as raised:
            await receive(pair, wrap=lambda s: Short(s, TransportError("")))
        assert raised.value.token

    async def test_bytes_after_the_end_of_a_stream_are_an_error(self, pair: Pair) -> None:
        with pytest.raises(ZfsError):
            await receive(pair, wrap=Surplus)
        assert await pair.kept("tank/a") == set()

    async def test_cancelling_keeps_what_arrived(self, pair: Pair) -> None:
        class Stuck(Broken):
            async def copy_into(self, sink: trio.abc.SendStream) -> int:
                with pytest.raises(TransportError):
                    await super().copy_into(sink)
                scope.cancel()
                await trio.sleep_forever()
                raise AssertionError

        with trio.CancelScope() as scope:
            await receive(pair, wrap=lambda s: Stuck(s, TransportError("")))
        assert scope.cancelled_caught
        dataset = await pair.target.dataset(LOCAL)
        assert dataset is not None
        assert dataset.resume_token is not None

    async def test_the_kind_is_chosen_by_what_was_there(self, pair: Pair) -> None:
        kinds = Protection(initial=GuaranteeKind.NOTHING, incremental=GuaranteeKind.RESUMABILITY)
        await receive(pair, protection=kinds)
        assert await pair.kept("tank/a") == set()
        await pair.snapshot("tank/a", "2", 10)
        await receive(pair, to="2", from_="1", protection=kinds)
        assert await pair.kept("tank/a") == {f"@2={LAST}"}


@pytest.mark.parametrize("sending", [True, False])
async def test_streams_within_a_host_keep_to_the_limit_of_either_side(
    pair: Pair, sending: bool, autojump_clock: MockClock
) -> None:
    limit = Throttle(MIB // 10, 1)
    if sending:
        pair.sender._throttle = limit
    else:
        pair.receiver._throttle = limit
    await receive(pair)
    assert trio.current_time() == pytest.approx(10, rel=0.02)
    assert pair.same("tank/a", "1")


class TestArguments:
    """What `zfs recv` is asked for."""

    async def arguments(self, pair: Pair, receiver: Receiver | None = None) -> ReceiveArgs:
        seen: list[ReceiveArgs] = []
        real = pair.target.open_receive

        def spy(args: ReceiveArgs) -> object:
            seen.append(args)
            return real(args)

        setattr(pair.target, "open_receive", spy)  # noqa: B010
        if receiver is not None:
            pair.receiver = receiver
        await receive(pair)
        return seen[0]

    async def test_by_default_nothing_is_forced_mounted_or_let_act(self, pair: Pair) -> None:
        args = await self.arguments(pair)
        assert not args.force
        assert args.resumable
        assert args.unmounted
        assert {"mountpoint", "canmount", "exec", "volmode"} <= set(args.exclude)
        assert args.override == {}

    async def test_mounting_as_zrepl_does_can_be_asked_for(self, pair: Pair) -> None:
        receiver = Receiver(
            pair.target,
            job="dst",
            root=path("backup"),
            unmounted=False,
        )
        pair.target.add_filesystem("backup/tank")
        assert not (await self.arguments(pair, receiver)).unmounted

    async def test_over_a_placeholder_the_receive_itself_ends_it(self, pair: Pair) -> None:
        pair.target.add_filesystem(LOCAL, {PLACEHOLDER: "on", "mountpoint": "none"})
        args = await self.arguments(pair)
        assert args.force
        assert args.override == {PLACEHOLDER: "off"}
        dataset = await pair.target.dataset(LOCAL)
        assert dataset is not None
        assert not dataset.is_placeholder


async def test_two_receives_make_their_common_parents_once(pair: Pair) -> None:
    for name in ("tank/p/a", "tank/p/b"):
        pair.fill(name, 1000)
        await pair.snapshot(name, "1")

    async def one(name: str) -> None:
        listed = await pair.source.versions(path(name))
        request = replace(await request_for(pair), filesystem=path(name), to=listed[0])
        wanted = ReceiveRequest(filesystem=path(name), to=listed[0], clear_resume_token=True)
        async with pair.sender.send(request) as reply:
            await pair.receiver.receive(wanted, reply.stream)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(one, "tank/p/a")
        nursery.start_soon(one, "tank/p/b")
    created = [call for call in pair.target.calls if call.startswith("create_filesystem")]
    assert created == ["create_filesystem backup/sink/tank", "create_filesystem backup/sink/tank/p"]
    assert pair.same("tank/p/a", "1")
    assert pair.same("tank/p/b", "1")


async def test_destroy_is_confined(pair: Pair) -> None:
    await receive(pair)
    (one,) = await pair.target.versions(LOCAL)
    with pytest.raises(Refused):
        await pair.receiver.destroy_snapshots(DatasetPath("../sink"), [one])
    (result,) = await pair.receiver.destroy_snapshots(A, [one])
    assert result.error  # held by us
    assert await pair.received("tank/a") == ["1"]


async def test_a_listing_waits_for_what_still_comes_in(
    pair: Pair, autojump_clock: MockClock
) -> None:
    """A pusher whose link was cut would else plan without the state that its stream leaves here."""
    request = await request_for(pair)
    wanted = ReceiveRequest(filesystem=A, to=request.to, clear_resume_token=True)
    seen: list[float] = []

    async def slow(call: str, _dataset: str) -> None:
        if call == "open_receive":
            await trio.sleep(2)

    async def look() -> None:
        await trio.sleep(1)
        (listed,) = [each for each in await pair.receiver.list_filesystems() if each.path == A]
        assert not listed.is_placeholder
        seen.append(trio.current_time())

    pair.target.before = slow
    async with trio.open_nursery() as nursery, pair.sender.send(request) as reply:
        nursery.start_soon(look)
        await pair.receiver.receive(wanted, reply.stream)
    assert seen == [2]
