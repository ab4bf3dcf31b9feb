"""All outlets together, from the config to what comes out."""

from __future__ import annotations

import io
import os
from pathlib import Path

import pytest
import structlog
import trio

from tests.support.resources import cancel_at_each_step
from zrepl_trio.clock import SystemClock
from zrepl_trio.config.load import parse_config
from zrepl_trio.config.model import StdoutOutlet, SyslogOutlet, TcpOutlet
from zrepl_trio.logs.outlets import open_logging

STDOUT = "{type: stdout, level: info, format: logfmt, time: false}"
SYSLOG = "{type: syslog, level: warn, format: human}"
TCP = "{type: tcp, level: debug, format: json, address: '127.0.0.1:1', retry_interval: 50ms}"
REFUSED = "Error connecting to ('127.0.0.1', 1): Connection refused"


def sections(*outlets: str) -> tuple[StdoutOutlet | SyslogOutlet | TcpOutlet, ...]:
    return parse_config(f"global: {{logging: [{', '.join(outlets)}]}}").config.global_.logging


async def test_stdout_gets_its_form_and_hears_of_the_others_trouble(tmp_path: Path) -> None:
    path = tmp_path / "out"
    with path.open("w") as out:
        async with open_logging(
            sections(STDOUT, SYSLOG, TCP),
            SystemClock(),
            stdout=out,
            syslog_socket=f"{tmp_path}/none",
        ):
            structlog.get_logger().info("hello", fs="tank/a b")
            while path.read_text().count("\n") < 3:  # noqa: ASYNC110
                await trio.sleep(0.01)
    lines = path.read_text().splitlines()
    assert 'level=info msg=hello fs="tank/a b"' in lines
    told = [line for line in lines if "outlet error" in line]
    assert sorted(line.partition("outlet_type=")[2] for line in told) == [
        f'syslog outlet={tmp_path}/none err="No such file or directory"',
        f'tcp outlet=127.0.0.1:1 err="{REFUSED}"',
    ]


async def test_the_trouble_of_a_sole_outlet_is_told_on_stderr(tmp_path: Path) -> None:
    path = tmp_path / "err"
    with path.open("w") as err:
        async with open_logging(sections(TCP), SystemClock(), stderr=err):
            structlog.get_logger().error("for the server alone")
            while not path.read_text():  # noqa: ASYNC110
                await trio.sleep(0.01)
    (line,) = path.read_text().splitlines()
    assert line.endswith(
        f'[ERRO]: outlet error outlet_type="tcp" outlet="127.0.0.1:1" err="{REFUSED}"'
    )


@pytest.mark.parametrize("directly", [True, False])
async def test_no_section_means_bare_warnings(tmp_path: Path, *, directly: bool) -> None:
    path = tmp_path / "out"
    with path.open("w") as out:
        async with open_logging((), SystemClock(), stdout=out, stderr=out, directly=directly):
            structlog.get_logger().info("low")
            structlog.get_logger().bind(job="pull").warning("high")
    assert path.read_text() == "[pull]: high\n"


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.mark.parametrize(
    ("stream", "keys", "expected"),
    [
        (Terminal(), "time: false", (True, True)),
        (Terminal(), "time: false, color: false", (True, False)),
        (io.StringIO(), "time: false", (False, False)),
        (io.StringIO(), "color: true", (True, False)),
    ],
)
async def test_time_acts_off_a_terminal_and_color_on_one(
    stream: io.StringIO, keys: str, expected: tuple[bool, bool]
) -> None:
    section = f"{{type: stdout, level: info, format: human, {keys}}}"
    async with open_logging(
        sections(section), SystemClock(), stdout=stream, stderr=stream, directly=True
    ):
        structlog.get_logger().info("hello")
    line = stream.getvalue()
    assert (line.startswith("20"), "\x1b" in line) == expected


async def test_a_closed_stream_loses_lines_and_nothing_else() -> None:
    closed = io.StringIO()
    closed.close = lambda: None  # type: ignore[method-assign]
    async with open_logging(
        sections(STDOUT), SystemClock(), stdout=closed, stderr=closed, directly=True
    ):
        io.StringIO.close(closed)
        structlog.get_logger().info("nobody hears")


async def test_outlets_that_never_take_anything_hold_up_neither_work_nor_the_end(
    tmp_path: Path,
) -> None:
    reading, end = os.pipe()
    with trio.socket.socket() as deaf, os.fdopen(end, "w") as out:
        await deaf.bind(("127.0.0.1", 0))
        deaf.listen()
        port = deaf.getsockname()[1]
        tcp = f"{{type: tcp, level: debug, format: json, address: '127.0.0.1:{port}'}}"
        with trio.fail_after(10):
            async with open_logging(sections(STDOUT, tcp), SystemClock(), stdout=out):
                for _ in range(60):
                    structlog.get_logger().info("x" * 200_000)
        os.close(reading)


async def test_cancelled_anywhere_it_leaves_nothing(tmp_path: Path) -> None:
    with (tmp_path / "out").open("w") as out:

        async def once() -> None:
            async with open_logging(
                sections(STDOUT, SYSLOG, TCP),
                SystemClock(),
                stdout=out,
                syslog_socket=f"{tmp_path}/none",
            ):
                structlog.get_logger().warning("hello")
                await trio.lowlevel.checkpoint()

        before = structlog.get_config()
        assert await cancel_at_each_step(once) > 3
        assert structlog.get_config() == before
