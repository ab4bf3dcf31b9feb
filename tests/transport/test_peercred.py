"""The peer of a UNIX socket is who the kernel says."""

from __future__ import annotations

import os
import socket

import pytest

from zrepl_trio.transport.peercred import PeerCredentials, may_talk_to_us, peer_credentials


def test_the_kernel_names_the_peer() -> None:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        credentials = peer_credentials(ours)
    assert credentials == PeerCredentials(uid=os.geteuid(), pid=os.getpid())


@pytest.mark.parametrize(
    ("uid", "allowed"), [(0, True), (os.geteuid(), True), (54321, False), (-1, False)]
)
def test_only_root_and_our_own_user_may_talk_to_us(uid: int, *, allowed: bool) -> None:
    assert may_talk_to_us(PeerCredentials(uid=uid, pid=1)) is allowed
