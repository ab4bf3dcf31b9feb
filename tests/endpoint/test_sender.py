from __future__ import annotations

from dataclasses import replace

import pytest
import structlog.testing
import trio
import trio.testing

from tests.replication.notation import path
from tests.replication.pair import MIB, Pair
from zrepl_trio.endpoint.model import GuaranteeKind, Protection, ReceiveRequest, SendRequest
from zrepl_trio.endpoint.protocol import Endpoint, ListsInBulk, NotSupported
from zrepl_trio.endpoint.sender import Sender
from zrepl_trio.errors import (
    BadResumeToken,
    DatasetNotFound,
    Refused,
    SourceFailed,
    ZfsError,
    ZreplError,
)
from zrepl_trio.zfs.filter import FilesystemFilter
from zrepl_trio.zfs.model import (
    Features,
    FilesystemVersion,
    ReceiveArgs,
    SendArgs,
    SendFlags,
    VersionKind,
)
from zrepl_trio.zfs.names import DatasetPath

A = path("tank/a")
STEP = "zrepl_STEP_J_src"


def cursor_of(version: FilesystemVersion) -> str:
    """As `Pair.marks` has it."""
    return f"#zrepl_CURSOR_G_{version.guid:016x}_J_src"


@pytest.fixture
async def pair() -> Pair:
    pair = Pair(filesystems={"tank/a<": True, "tank/a/secret<": False})
    for name in ("tank/a", "tank/a/secret", "tank/b"):
        pair.fill(name, MIB)
        await pair.snapshot(name, "1")
    return pair


async def request_for(pair: Pair, *, to: str = "1", from_: str | None = None) -> SendRequest:
    listed = {v.name: v for v in await pair.source.versions(A) if v.is_snapshot}
    return SendRequest(filesystem=A, to=listed[to], from_=listed[from_] if from_ else None)


async def token_for(pair: Pair, name: str = "tank/a") -> str:
    """A real token, from a receive that was cut."""
    target = path("backup/cut")
    listed = await pair.source.versions(path(name))
    async with (
        pair.source.open_send(SendArgs(dataset=path(name), to=listed[0])) as send,
        pair.target.open_receive(ReceiveArgs(dataset=target, snapshot="1")) as receive,
    ):
        left = MIB // 2
        while left > 0:
            chunk = await send.reader.receive_some(65536)
            await receive.writer.send_all(chunk)
            left -= len(chunk)
    dataset = await pair.target.dataset(target)
    assert dataset is not None
    assert dataset.resume_token is not None
    return dataset.resume_token


def test_is_an_endpoint() -> None:
    endpoint: Endpoint = Pair().sender
    assert isinstance(endpoint, ListsInBulk)


async def test_ping_echoes(pair: Pair) -> None:
    assert await pair.sender.ping("hello") == "hello"


async def test_lists_what_the_filter_admits_with_guids(pair: Pair) -> None:
    listed = await pair.sender.list_filesystems()
    assert [f.path for f in listed] == ["tank/a"]
    dataset = await pair.source.dataset(A)
    assert dataset is not None
    assert listed[0].dataset_guid == dataset.guid
    assert listed[0].resume_token is None


async def test_lists_versions(pair: Pair) -> None:
    (one,) = await pair.sender.list_versions(A)
    assert one.name == "1"
    assert await pair.sender.list_versions_of([A]) == {A: [one]}


async def test_bulk_listing_leaves_out_what_is_gone(pair: Pair) -> None:
    for name in ("tank/a/x", "tank/a/y"):
        pair.source.add_filesystem(name)
    gone = path("tank/a/gone")
    assert await pair.sender.list_versions_of([gone]) == {}
    assert (await pair.sender.list_versions_of([A])).keys() == {A}
    pair.source.calls.clear()
    wanted = [path("tank/a/x"), path("tank/a/y"), gone]
    # below a root of the filter, which is listed as a whole, what is gone has no versions
    assert (await pair.sender.list_versions_of(wanted))[wanted[-1]] == []
    assert await pair.sender.list_versions_of([A, *wanted[:2]]) == {
        A: await pair.source.versions(A),
        path("tank/a/x"): [],
        path("tank/a/y"): [],
    }


@pytest.mark.parametrize(
    "name", ["tank/b", "tank/a/secret", "tank", "tank/a/../b", "-rf", "", "a@b"]
)
async def test_nothing_outside_the_filter_can_be_reached(pair: Pair, name: str) -> None:
    hostile = DatasetPath(name)
    request = replace(await request_for(pair), filesystem=hostile)
    calls = len(pair.source.calls)

    async def send() -> None:
        async with pair.sender.send(request):
            raise AssertionError

    for attempt in (
        lambda: pair.sender.list_versions(hostile),
        lambda: pair.sender.list_versions_of([hostile]),
        lambda: pair.sender.send_dry(request),
        lambda: pair.sender.send_completed(request),
        lambda: pair.sender.replication_cursor(hostile),
        lambda: pair.sender.destroy_snapshots(hostile, [request.to]),
        send,
    ):
        with pytest.raises(Refused):
            await attempt()
    assert len(pair.source.calls) == calls


async def test_receiving_is_not_its_part(pair: Pair) -> None:
    request = await request_for(pair)
    receive = ReceiveRequest(filesystem=A, to=request.to, clear_resume_token=True)
    async with pair.sender.send(request) as reply:
        with pytest.raises(NotSupported, match=r"sender does not implement Receive\(\)"):
            await pair.sender.receive(receive, reply.stream)


class TestValidation:
    async def refused(self, pair: Pair, request: SendRequest, error: type[ZreplError]) -> str:
        """The refusal of both the dry run and the send, with nothing held after it."""
        with pytest.raises(error) as dry:
            await pair.sender.send_dry(request)
        with pytest.raises(error) as real:
            async with pair.sender.send(request):
                raise AssertionError
        assert await pair.marks("tank/a") == set()
        assert str(dry.value) == str(real.value)
        return str(real.value)

    async def test_a_version_that_is_not_there(self, pair: Pair) -> None:
        request = await request_for(pair)
        ghost = replace(request, to=replace(request.to, name="ghost"))
        assert "tank/a@ghost does not exist" in await self.refused(pair, ghost, DatasetNotFound)

    async def test_another_guid(self, pair: Pair) -> None:
        request = await request_for(pair)
        other = replace(request, to=replace(request.to, guid=1))
        assert "is not the one meant" in await self.refused(pair, other, Refused)

    async def test_a_base_that_is_not_there(self, pair: Pair) -> None:
        request = await request_for(pair)
        bad = replace(request, from_=replace(request.to, name="x", kind=VersionKind.BOOKMARK))
        assert "tank/a#x does not exist" in await self.refused(pair, bad, DatasetNotFound)

    async def test_a_bookmark_as_target(self, pair: Pair) -> None:
        request = await request_for(pair)
        await pair.source.bookmark(A, request.to, "b")
        (mark,) = [v for v in await pair.source.versions(A) if not v.is_snapshot]
        with pytest.raises(Refused, match="is a bookmark; only a snapshot"):
            await pair.sender.send_dry(replace(request, to=mark))

    async def test_a_dataset_that_is_gone(self, pair: Pair) -> None:
        request = await request_for(pair)
        with pytest.raises(DatasetNotFound, match="dataset tank/a/gone does not exist"):
            await pair.sender.send_dry(replace(request, filesystem=path("tank/a/gone")))

    async def test_the_encryption_the_job_demands(self, pair: Pair) -> None:
        sender = Sender(
            pair.source,
            job="src",
            filesystems=FilesystemFilter.of({"tank<": True}),
            flags=SendFlags(encrypted=True),
        )
        with pytest.raises(Refused, match="is not encrypted, but the job demands it"):
            await sender.send_dry(await request_for(pair))

    async def test_options_that_this_zfs_does_not_know(
        self, pair: Pair, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        async def old() -> Features:
            await trio.lowlevel.checkpoint()
            return Features(version="0.7", encryption=False, resumable_send=False)

        monkeypatch.setattr(pair.source, "features", old)
        with pytest.raises(Refused, match="cannot resume a send"):
            await pair.sender.send_dry(replace(await request_for(pair), resume_token="1-2"))

    async def test_a_token_of_another_dataset(self, pair: Pair) -> None:
        token = await token_for(pair, "tank/a/secret")
        request = replace(await request_for(pair), resume_token=token)
        assert "it is for 'tank/a/secret'" in await self.refused(pair, request, BadResumeToken)

    async def test_a_token_of_another_step(self, pair: Pair) -> None:
        token = await token_for(pair)
        await pair.snapshot("tank/a", "2", 10)
        request = replace(await request_for(pair, to="2", from_="1"), resume_token=token)
        assert "it ends at guid" in await self.refused(pair, request, BadResumeToken)

    @pytest.mark.parametrize("token", ["garbage", "-rf", "a b", "x" * 100_000, "a\0b"])
    async def test_garbage(self, pair: Pair, token: str) -> None:
        request = replace(await request_for(pair), resume_token=token)
        await self.refused(pair, request, BadResumeToken)

    async def test_the_right_token_is_used(self, pair: Pair) -> None:
        token = await token_for(pair)
        request = replace(await request_for(pair), resume_token=token)
        assert 0 < (await pair.sender.send_dry(request) or 0) < MIB
        async with pair.sender.send(request) as reply:
            assert reply.used_resume_token


class TestSend:
    async def test_the_stream_is_whole_only_after_a_clean_exit(self, pair: Pair) -> None:
        request = await request_for(pair)
        whole, writer = _Sink(), _Sink()
        async with pair.sender.send(request) as reply:
            counted: list[int] = []
            reply.stream.on_progress = counted.append
            assert await reply.stream.copy_into(whole) == len(whole.data) == sum(counted)
        pair.source.send_limit["tank/a"] = 1000
        async with pair.sender.send(request) as reply:
            with pytest.raises(SourceFailed, match="zfs send of tank/a@1 failed"):
                await reply.stream.copy_into(writer)
        assert writer.data == whole.data[:1000]

    async def test_finish_tells_a_failure_to_who_drained_the_reader(self, pair: Pair) -> None:
        pair.source.send_limit["tank/a"] = 1000
        async with pair.sender.send(await request_for(pair)) as reply:
            assert reply.stream.reader is not None
            while await reply.stream.reader.receive_some(4096):
                pass
            with pytest.raises(SourceFailed):
                await reply.stream.finish()

    async def test_what_one_send_uses_another_does_not_drop(self, pair: Pair) -> None:
        await pair.snapshot("tank/a", "2", 10)
        await pair.snapshot("tank/a", "3", 10)
        slow = await request_for(pair, to="2", from_="1")
        quick = await request_for(pair, to="3", from_="2")
        async with pair.sender.send(slow):
            async with pair.sender.send(quick):
                held = {f"@{n}={STEP}" for n in "123"}
                assert await pair.marks("tank/a") == held
            await pair.sender.send_completed(quick)
            await pair.sender.settle()
            marks = await pair.marks("tank/a")
            assert {f"@1={STEP}", f"@2={STEP}"} < marks
            assert f"@3={STEP}" not in marks
        await pair.sender.send_completed(slow)
        await pair.sender.settle()
        assert STEP not in str(await pair.marks("tank/a"))

    async def test_the_size_of_a_step_from_a_bookmark_is_unknown(self, pair: Pair) -> None:
        request = await request_for(pair)
        await pair.sender.send_completed(request)
        await pair.sender.settle()
        await pair.snapshot("tank/a", "2", 10)
        (cursor,) = [v for v in await pair.source.versions(A) if not v.is_snapshot]
        two = await request_for(pair, to="2")
        assert await pair.sender.send_dry(replace(two, from_=cursor)) is None
        assert await pair.sender.send_dry(two) is not None

    async def test_a_hold_that_fails_starts_no_send(self, pair: Pair) -> None:
        async def broken(call: str, _dataset: str) -> None:
            if call == "hold":
                raise DatasetNotFound("no")

        pair.source.before = broken
        with pytest.raises(DatasetNotFound):
            async with pair.sender.send(await request_for(pair)):
                raise AssertionError
        assert not any(call.startswith("open_send") for call in pair.source.calls)

    async def test_a_failed_clean_up_stops_nothing(self, pair: Pair) -> None:
        await pair.source.hold(A, ["1"], STEP)
        two = await pair.snapshot("tank/a", "2", 10)
        await pair.source.bookmark(A, two, f"zrepl_CURSORTENTATIVE__G_{two.guid:016x}_J_src")

        async def broken(call: str, _dataset: str) -> None:
            if call in {"release", "destroy_bookmark"}:
                raise DatasetNotFound("no")

        pair.source.before = broken
        nothing = Protection(initial=GuaranteeKind.NOTHING, incremental=GuaranteeKind.NOTHING)
        request = replace(await request_for(pair), protection=nothing)
        async with pair.sender.send(request) as reply:
            await reply.stream.copy_into(_Sink())


class TestCompletion:
    async def test_the_cursor_is_the_newest_of_the_job(self, pair: Pair) -> None:
        assert await pair.sender.replication_cursor(A) is None
        request = await request_for(pair)
        await pair.sender.send_completed(request)
        assert await pair.sender.replication_cursor(A) == request.to.guid
        two = await pair.snapshot("tank/a", "2", 10)
        await pair.sender.send_completed(await request_for(pair, to="2", from_="1"))
        assert await pair.sender.replication_cursor(A) == two.guid

    async def test_again_with_the_base_gone_is_fine(self, pair: Pair) -> None:
        await pair.sender.send_completed(await request_for(pair))
        await pair.sender.settle()
        await pair.snapshot("tank/a", "2", 10)
        (cursor,) = [v for v in await pair.source.versions(A) if not v.is_snapshot]
        request = replace(await request_for(pair, to="2"), from_=cursor)
        await pair.sender.send_completed(request)
        await pair.sender.settle()
        before = await pair.marks("tank/a")
        await pair.sender.send_completed(request)
        await pair.sender.settle()
        assert await pair.marks("tank/a") == before
        assert cursor.relative not in before

    @pytest.mark.parametrize("kind", [GuaranteeKind.RESUMABILITY, GuaranteeKind.INCREMENTAL])
    async def test_what_protected_the_stream_stays_until_the_cursor_has_moved(
        self, pair: Pair, kind: GuaranteeKind
    ) -> None:
        protection = Protection(initial=kind, incremental=kind)
        two = await pair.snapshot("tank/a", "2", 10)
        request = replace(await request_for(pair, to="2", from_="1"), protection=protection)
        async with pair.sender.send(request):
            protected = await pair.marks("tank/a")
            assert protected
        await pair.sender.send_completed(request)
        assert await pair.marks("tank/a") == protected
        await pair.sender.settle()
        assert await pair.marks("tank/a") == {cursor_of(two)}

    async def test_the_next_step_begins_with_the_cursor_of_the_one_before(self, pair: Pair) -> None:
        two = await pair.snapshot("tank/a", "2", 10)
        await pair.snapshot("tank/a", "3", 10)
        await pair.sender.send_completed(await request_for(pair, to="2", from_="1"))
        assert cursor_of(two) not in await pair.marks("tank/a")
        async with pair.sender.send(await request_for(pair, to="3", from_="2")):
            assert cursor_of(two) in await pair.marks("tank/a")

    async def test_nothing_waits_where_zfs_takes_bookmarks_one_by_one(
        self, pair: Pair, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        async def not_in_bulk() -> bool:
            return False

        monkeypatch.setattr(pair.source, "bookmarks_in_bulk", not_in_bulk)
        request = await request_for(pair)
        await pair.sender.send_completed(request)
        assert await pair.marks("tank/a") == {cursor_of(request.to)}

    async def test_a_cursor_that_could_not_move_is_waited_for_the_next_time(
        self, pair: Pair
    ) -> None:
        async def broken(call: str, _dataset: str) -> None:
            if call == "bookmark":
                raise ZfsError("permission denied")

        pair.source.before = broken
        request = await request_for(pair)
        with structlog.testing.capture_logs() as logs:
            await pair.sender.send_completed(request)
            await pair.sender.settle()
        assert [line["err"] for line in logs if line["log_level"] == "warning"] == [
            "permission denied"
        ]
        for _ in range(2):
            with pytest.raises(ZfsError, match="permission denied"):
                await pair.sender.send_completed(request)
        pair.source.before = None
        await pair.sender.send_completed(request)
        assert await pair.marks("tank/a") == {cursor_of(request.to)}
        # and waits again
        two = await pair.snapshot("tank/a", "2", 10)
        await pair.sender.send_completed(await request_for(pair, to="2", from_="1"))
        assert cursor_of(two) not in await pair.marks("tank/a")

    async def test_a_step_that_never_was_makes_no_cursor(self, pair: Pair) -> None:
        request = await request_for(pair)
        with pytest.raises(Refused):
            await pair.sender.send_completed(replace(request, to=replace(request.to, guid=9)))
        assert await pair.sender.replication_cursor(A) is None


class _Sink(trio.abc.SendStream):
    def __init__(self) -> None:
        self.data = b""

    async def send_all(self, data: bytes | bytearray | memoryview) -> None:
        await trio.lowlevel.checkpoint()
        self.data += bytes(data)

    async def wait_send_all_might_not_block(self) -> None:
        await trio.lowlevel.checkpoint()

    async def aclose(self) -> None:
        await trio.lowlevel.checkpoint()
