"""What the sending side knows of the copies that a client keeps."""

from __future__ import annotations

import pytest

from tests.fakes.endpoint import FakeEndpoint
from tests.replication.notation import EPOCH, path, version, versions
from zrepl_trio.endpoint.abstractions import cursor_name
from zrepl_trio.endpoint.model import (
    Filesystem,
    GuaranteeKind,
    Protection,
    SendRequest,
    SnapshotTimes,
)
from zrepl_trio.jobs.served_peer import ServedPeer

TANK = path("tank")
STEP = SendRequest(
    filesystem=TANK,
    to=version("@b,2"),
    protection=Protection(initial=GuaranteeKind.NOTHING, incremental=GuaranteeKind.NOTHING),
)


def sender_with(listed: str) -> FakeEndpoint:
    sender = FakeEndpoint()
    sender.filesystems = [Filesystem(path=TANK, is_placeholder=False)]
    sender.versions = {TANK: versions(listed)}
    return sender


def known(peer: ServedPeer) -> dict[str, tuple[int | None, int | None]]:
    def short(time: int | None) -> int | None:
        return None if time is None else time - EPOCH

    def pair(times: SnapshotTimes) -> tuple[int | None, int | None]:
        return short(times.newest), short(times.replicated)

    return {each.dataset: pair(each.times) for each in peer.freshness}


async def test_a_listing_and_a_confirmed_step_tell() -> None:
    sender = sender_with("@a,1 @b,2 @c,5")
    peer = ServedPeer(sender, identity="backup", cursor_job=None)
    assert known(peer) == {}
    await peer.list_filesystems()
    assert known(peer) == {}  # not looked at yet
    assert await peer.list_versions(TANK) == sender.versions[TANK]
    assert known(peer) == {"tank": (5, None)}
    await peer.send_completed(STEP)
    assert known(peer) == {"tank": (5, 2)}
    assert [each.peer for each in peer.freshness] == ["backup"]
    sender.versions = {TANK: versions("@b,2 @d,7")}
    await peer.list_filesystems()
    await peer.list_versions(TANK)
    assert known(peer) == {"tank": (7, 2)}
    sender.filesystems = []
    await peer.list_filesystems()
    assert known(peer) == {}


@pytest.mark.parametrize(
    ("cursor_job", "replicated"), [("source", 2), ("other", None), (None, None)]
)
async def test_the_cursor_tells_what_was_confirmed_before_our_time(
    cursor_job: str | None, replicated: int | None
) -> None:
    cursor = cursor_name(TANK, 2, "source")
    sender = sender_with(f"@a,1 #{cursor},2 @b,2 @c,5")
    peer = ServedPeer(sender, identity="backup", cursor_job=cursor_job)
    await peer.list_versions(TANK)
    assert known(peer) == {"tank": (5, replicated)}
