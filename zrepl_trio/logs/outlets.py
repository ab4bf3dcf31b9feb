"""The outlets of `global.logging`, opened: each line is made at once and put on the outlet's own
bounded queue, so that no outlet, dead, slow or absent, makes any code wait that logs."""

from __future__ import annotations

import os
import sys
from collections.abc import AsyncIterator, Callable, Sequence, Set
from contextlib import asynccontextmanager
from functools import partial
from typing import TextIO

import trio

from zrepl_trio.clock import WallClock
from zrepl_trio.config.model import StdoutOutlet, SyslogOutlet, TcpOutlet
from zrepl_trio.logs.datagrams import cut
from zrepl_trio.logs.delivery import Connect, Delivery
from zrepl_trio.logs.events import Dispatcher, Outlet, logging_to
from zrepl_trio.logs.lines import Entry, Format, Level, render
from zrepl_trio.logs.syslog import SYSLOG_SOCKET, connect_syslog, syslog_message
from zrepl_trio.logs.tcp import connect_tcp
from zrepl_trio.logs.udp import MAX_BYTES as MAX_DATAGRAM_BYTES
from zrepl_trio.logs.udp import connect_udp
from zrepl_trio.logs.writer import ThreadWriter

__all__ = ["FLUSH_S", "open_logging"]

FLUSH_S = 2.0
"""Longest that the end waits for outlets to take what was logged last."""

_AT_ONCE_BYTES = 16 * 1024
"""Over TCP: what may come twice when a connection breaks."""


@asynccontextmanager
async def open_logging(
    sections: Sequence[StdoutOutlet | SyslogOutlet | TcpOutlet],
    clock: WallClock,
    *,
    stdout: TextIO | None = None,
    stderr: TextIO | None = None,
    directly: bool = False,
    leave_out: Set[str] = frozenset(),
    syslog_socket: str = SYSLOG_SOCKET,
    on_entry: Callable[[Entry], None] | None = None,
) -> AsyncIterator[None]:
    """The process's structlog events go to these outlets for the length of the block.

    `stdout` is what the stdout section writes to (None: ours), from a thread; `directly`: from
    the caller, in order with what else a command writes there. The trouble of a sole outlet is
    told on `stderr` (None: ours). No section at all means bare warnings on stdout, as in zrepl.
    At the end the outlets have FLUSH_S to take what is left. For `leave_out` see `logging_to`, for
    `on_entry` see `Dispatcher`.
    """
    opened = _Opened(Dispatcher(clock, on_entry), directly=directly)
    for section in sections:
        match section:
            case StdoutOutlet():
                opened.stdout(section, stdout or sys.stdout)
            case SyslogOutlet():
                opened.syslog(section, syslog_socket)
            case TcpOutlet():
                opened.tcp(section)
    if not sections:
        opened.bare(stdout or sys.stdout)
    opened.last_resort(stderr or sys.stderr)
    async with trio.open_nursery() as nursery:
        flush = trio.CancelScope(shield=True)
        nursery.start_soon(_deliver, opened.deliveries, flush)
        try:
            with logging_to(opened.dispatcher, leave_out=leave_out):
                yield
        finally:
            flush.deadline = trio.current_time() + FLUSH_S
            for delivery in opened.deliveries:
                delivery.close()
            for writer in opened.writers:
                writer.close()
            with trio.CancelScope(shield=True):
                for writer in opened.writers:
                    await writer.drained(max(0.0, flush.deadline - trio.current_time()))


async def _deliver(deliveries: Sequence[Delivery], scope: trio.CancelScope) -> None:
    with scope:
        async with trio.open_nursery() as nursery:
            for delivery in deliveries:
                nursery.start_soon(delivery.run)


class _Opened:
    """Outlets made one by one; whoever made it closes the writers and runs the deliveries."""

    def __init__(self, dispatcher: Dispatcher, *, directly: bool) -> None:
        self.dispatcher = dispatcher
        self.writers: list[ThreadWriter] = []
        self.deliveries: list[Delivery] = []
        self._directly = directly

    def stdout(self, section: StdoutOutlet, stream: TextIO | None) -> None:
        # as zrepl reads these keys: `time` acts off a terminal, `color` on one
        tty = stream is not None and stream.isatty()
        line = partial(
            render,
            form=Format(section.format),
            time=tty or section.time,
            color=tty and section.color,
        )
        self._stream("stdout", Level[section.level.upper()], line, stream)

    def bare(self, stream: TextIO | None) -> None:
        line = partial(render, form=Format.HUMAN, time=False, level=False)
        self._stream("stdout", Level.WARN, line, stream)

    def last_resort(self, stream: TextIO | None) -> None:
        """Where the trouble of a sole outlet is told."""
        if len(self.dispatcher.outlets) == 1:
            line = partial(render, form=Format.HUMAN)
            self._stream("stderr", Level.ERROR, line, stream, last_resort=True)

    def _stream(
        self,
        kind: str,
        level: Level,
        line: Callable[[Entry], str],
        stream: TextIO | None,
        *,
        last_resort: bool = False,
    ) -> None:
        if stream is None:  # Python's way to say that the fd was closed when we were started
            return
        encoding = stream.encoding or "utf-8"

        def encode(entry: Entry) -> bytes:
            return f"{line(entry)}\n".encode(encoding, "backslashreplace")

        put: Callable[[bytes], bool]
        if self._directly:
            put = partial(_write, stream, encoding)
        else:
            writer = ThreadWriter(
                stream.fileno(),
                trouble=lambda why: self.dispatcher.trouble(outlet, why),
                lost=lambda lines: encode(self.dispatcher.lost(lines)),
            )
            self.writers.append(writer)
            put = writer.queue.put
        outlet = Outlet(kind=kind, level=level, encode=encode, put=put)
        self.dispatcher.add(outlet, last_resort=last_resort)

    def syslog(self, section: SyslogOutlet, path: str) -> None:
        def encode(entry: Entry) -> bytes:
            text = render(entry, Format(section.format), time=False, level=False)
            return syslog_message(entry.time, entry.level, section.facility, os.getpid(), text)

        # one line at once: each is a datagram
        connect = partial(connect_syslog, path)
        self._delivered(section, path, encode, connect, at_once_bytes=0)

    def tcp(self, section: TcpOutlet) -> None:
        def encode(entry: Entry) -> bytes:
            text = render(entry, Format(section.format)).encode(errors="backslashreplace")
            return (text if over_tcp else cut(text, MAX_DATAGRAM_BYTES)) + b"\n"

        over_tcp = section.net.startswith("tcp")
        connect = partial(connect_tcp if over_tcp else connect_udp, section)
        place = str(section.address)
        at_once_bytes = _AT_ONCE_BYTES if over_tcp else 0
        self._delivered(section, place, encode, connect, at_once_bytes=at_once_bytes)

    def _delivered(
        self,
        section: SyslogOutlet | TcpOutlet,
        place: str,
        encode: Callable[[Entry], bytes],
        connect: Connect,
        *,
        at_once_bytes: int,
    ) -> None:
        delivery = Delivery(
            connect,
            retry_s=section.retry_interval,
            at_once_bytes=at_once_bytes,
            trouble=lambda why: self.dispatcher.trouble(outlet, why),
            lost=lambda lines: encode(self.dispatcher.lost(lines)),
        )
        self.deliveries.append(delivery)
        outlet = Outlet(
            kind=section.type,
            place=place,
            level=Level[section.level.upper()],
            encode=encode,
            put=delivery.queue.put,
        )
        self.dispatcher.add(outlet)


def _write(stream: TextIO, encoding: str, line: bytes) -> bool:
    """A stream that fails (a closed pipe, a full disk) loses its lines and nothing else."""
    try:
        stream.write(line.decode(encoding))
        stream.flush()
    except (OSError, ValueError):
        pass
    return True
