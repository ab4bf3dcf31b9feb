"""What systemd is told over its notify socket (sd_notify(3)): ready, alive, stopping."""

from __future__ import annotations

import os
import socket
from collections.abc import MutableMapping

import structlog
import trio

__all__ = ["Notifier"]

log = structlog.get_logger()


class Notifier:
    """Tells systemd; where the environment names no socket it tells nobody.

    Takes the variables out of `environ`: they are ours, not our children's. What cannot be sent
    is logged and else ignored, as systemd acts on what it misses.
    """

    def __init__(self, environ: MutableMapping[str, str]) -> None:
        self._address = _address(environ.pop("NOTIFY_SOCKET", ""))
        interval = environ.pop("WATCHDOG_USEC", "")
        ours = environ.pop("WATCHDOG_PID", str(os.getpid())) == str(os.getpid())
        self._watchdog_s = int(interval) / 1e6 if ours and interval.isdecimal() else None

    async def ready(self, status: str) -> None:
        """The daemon is up; `status` is for `systemctl status`."""
        await self._send(f"READY=1\nSTATUS={status}")

    async def stopping(self) -> None:
        """The daemon has begun to end."""
        await self._send("STOPPING=1\nSTATUS=stopping")

    async def watch(self) -> None:
        """Tell that the event loop turns, twice in the time after which systemd takes us for
        hung; forever, or not at all where nobody asks for it."""
        while self._watchdog_s is not None:
            await self._send("WATCHDOG=1")
            await trio.sleep(self._watchdog_s / 2)

    async def _send(self, text: str) -> None:
        if not self._address:
            return
        with trio.socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sock:
            try:
                # connected: else a full queue there would make us spin instead of wait
                await sock.connect(self._address)
                await sock.send(text.encode())
            except OSError as error:
                log.warning("systemd cannot be told", message=text, err=error)


def _address(name: str) -> str:
    if name.startswith("@"):  # the abstract namespace, unix(7)
        return f"\0{name[1:]}"
    if name and not name.startswith("/"):
        log.warning("NOTIFY_SOCKET is no UNIX socket; systemd is told nothing", socket=name)
        return ""
    return name
