"""Who is at the other end of a UNIX socket, as the kernel says; one function for each system."""

from __future__ import annotations

import os
import socket
import struct
import sys
from dataclasses import dataclass
from typing import Protocol

__all__ = ["PeerCredentials", "may_talk_to_us", "peer_credentials"]

_UCRED = struct.Struct("3i")
"""`struct ucred` of unix(7): pid, uid, gid."""


class HasSocketOptions(Protocol):
    """A socket of the standard library or of trio."""

    def getsockopt(self, level: int, optname: int, buflen: int, /) -> bytes: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class PeerCredentials:
    """Of the process that connected, at the time it did; it may have passed the socket on."""

    uid: int
    pid: int


def peer_credentials(sock: HasSocketOptions) -> PeerCredentials:
    """The credentials of a connected UNIX socket's peer. OSError where they can't be had."""
    if sys.platform != "linux":
        # FreeBSD: LOCAL_PEERCRED, struct xucred
        raise OSError(f"peer credentials are not known on {sys.platform}")
    pid, uid, _gid = _UCRED.unpack(
        sock.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _UCRED.size)
    )
    return PeerCredentials(uid=uid, pid=pid)


def may_talk_to_us(credentials: PeerCredentials) -> bool:
    """Whether the peer is root or our own user."""
    return credentials.uid in {0, os.geteuid()}
