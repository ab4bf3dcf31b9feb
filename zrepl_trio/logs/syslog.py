"""The local syslog: its message form, and its socket."""

from __future__ import annotations

import errno
import socket
from datetime import datetime

import trio

from zrepl_trio.logs.datagrams import Datagrams, cut
from zrepl_trio.logs.lines import Level

__all__ = ["SYSLOG_SOCKET", "TAG", "connect_syslog", "syslog_message"]

SYSLOG_SOCKET = "/dev/log"
TAG = "zrepl"
"""zrepl's, so that rules made for it go on to work."""

MAX_BYTES = 60 * 1024
"""Of a message: well below the 208 KiB that Linux lets a datagram have (net.core.wmem_default);
syslog daemons cut at 8 KiB or so anyway."""

_NAMED = [
    "kern",
    "user",
    "mail",
    "daemon",
    "auth",
    "syslog",
    "lpr",
    "news",
    "uucp",
    "cron",
    "authpriv",
    "ftp",
]
_FACILITIES = {name: code for code, name in enumerate(_NAMED)} | {
    f"local{number}": 16 + number for number in range(8)
}
"""RFC 5424, 6.2.1."""
_SEVERITIES = {Level.DEBUG: 7, Level.INFO: 6, Level.WARN: 4, Level.ERROR: 3}
"""The same."""


def syslog_message(time: datetime, level: Level, facility: str, pid: int, text: str) -> bytes:
    """`text` as the C library's syslog(3) writes it to the local socket, cut to MAX_BYTES."""
    priority = _FACILITIES[facility] * 8 + _SEVERITIES[level]
    local = time.astimezone()
    stamp = f"{local:%b} {local.day:2d} {local:%H:%M:%S}"
    whole = f"<{priority}>{stamp} {TAG}[{pid}]: {text}".encode(errors="backslashreplace")
    return cut(whole, MAX_BYTES) + b"\n"


async def connect_syslog(path: str = SYSLOG_SOCKET) -> trio.abc.SendStream:
    """A connection to the syslog daemon, over datagrams or, where it wants that, a stream.
    OSError when there is none."""
    try:
        return Datagrams(await _connected(path, socket.SOCK_DGRAM))
    except OSError as error:
        if error.errno != errno.EPROTOTYPE:
            raise
    return trio.SocketStream(await _connected(path, socket.SOCK_STREAM))


async def _connected(path: str, kind: socket.SocketKind) -> trio.socket.SocketType:
    sock = trio.socket.socket(socket.AF_UNIX, kind)
    try:
        await sock.connect(path)
    except BaseException:
        sock.close()
        raise
    return sock
