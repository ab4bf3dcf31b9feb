"""The local syslog: messages to the byte, and a real socket in the place of /dev/log."""

from __future__ import annotations

import re
import socket
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest
import structlog
import trio

from tests.support.resources import nothing_left_behind
from zrepl_trio.clock import SystemClock
from zrepl_trio.config.load import parse_config
from zrepl_trio.logs.lines import Level
from zrepl_trio.logs.outlets import open_logging
from zrepl_trio.logs.syslog import MAX_BYTES, connect_syslog, syslog_message

SECTIONS = parse_config(
    "global: {logging: [{type: syslog, level: info, format: human, retry_interval: 100ms}]}"
).config.global_.logging


@pytest.fixture
def berlin(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setenv("TZ", "Europe/Berlin")
    time.tzset()
    yield
    monkeypatch.undo()
    time.tzset()


@pytest.mark.parametrize(
    ("level", "facility", "priority"),
    [
        (Level.ERROR, "kern", 3),
        (Level.WARN, "daemon", 28),
        (Level.INFO, "authpriv", 86),
        (Level.INFO, "ftp", 94),
        (Level.DEBUG, "local0", 135),
        (Level.WARN, "local7", 188),
    ],
)
@pytest.mark.usefixtures("berlin")
def test_a_message_is_as_the_c_library_writes_it(
    level: Level, facility: str, priority: int
) -> None:
    noon = datetime(2024, 5, 6, 12, 0, 1, tzinfo=UTC)
    message = syslog_message(noon, level, facility, 42, "[pull]: hello")
    assert message == b"<%d>May  6 14:00:01 zrepl[42]: [pull]: hello\n" % priority


def test_a_long_message_is_cut_between_characters() -> None:
    message = syslog_message(datetime.now(UTC), Level.INFO, "user", 1, "ä" * MAX_BYTES)
    assert MAX_BYTES - 2 < len(message) < MAX_BYTES + 8
    assert message.decode().endswith("ä…\n")


def bound(path: Path) -> socket.socket:
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    sock.bind(str(path))
    return sock


async def received(sock: socket.socket) -> str:
    with trio.fail_after(5):
        await trio.lowlevel.wait_readable(sock)
    message = sock.recv(100_000).decode()
    return re.sub(r"^(<\d+>).{15} zrepl\[\d+\]: (.*)\n$", r"\1\2", message)


async def test_each_line_is_a_datagram_without_time_and_level(tmp_path: Path) -> None:
    path = tmp_path / "log"
    log = structlog.get_logger()
    with bound(path) as sock, nothing_left_behind():
        async with open_logging(SECTIONS, SystemClock(), syslog_socket=str(path)):
            log.warning("first", fs="tank/a")
            log.debug("too low")
            log.info("second")
            assert await received(sock) == '<132>first fs="tank/a"'
            log.info("last")
        assert await received(sock) == "<134>second"
        assert await received(sock) == "<134>last"


async def test_a_syslog_that_is_restarted_gets_all_and_one_that_is_stuck_holds_up_nobody(
    tmp_path: Path,
) -> None:
    path = tmp_path / "log"
    log = structlog.get_logger()
    with (tmp_path / "err").open("w") as void:
        async with open_logging(SECTIONS, SystemClock(), syslog_socket=str(path), stderr=void):
            log.info("before there is one")
            with bound(path) as first:
                assert await received(first) == "<134>before there is one"
            path.unlink()
            log.info("in between")
            with bound(path) as second:
                assert await received(second) == "<134>in between"
                for number in range(3000):  # more than the kernel queues
                    log.info("many", number=number)
                assert await received(second) == '<134>many number="0"'


async def test_a_stream_socket_will_do_as_well(tmp_path: Path) -> None:
    path = str(tmp_path / "log")
    with trio.socket.socket(socket.AF_UNIX) as listening:
        await listening.bind(path)
        listening.listen()
        async with await connect_syslog(path) as stream:
            accepted, _ = await listening.accept()
            with accepted:
                await stream.send_all(b"a\n")
                assert await accepted.recv(10) == b"a\n"
    with nothing_left_behind(), pytest.raises(OSError, match="refused"):
        await connect_syslog(path)
