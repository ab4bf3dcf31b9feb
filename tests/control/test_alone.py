"""Who answers on a control socket is told apart, and refused."""

from __future__ import annotations

import socket
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
import trio

from zrepl_trio.control.alone import refuse_live_daemon
from zrepl_trio.control.documents import version_document
from zrepl_trio.control.server import Handler, serve_http
from zrepl_trio.control.socket import DaemonRunning, open_control_listener

# zrepl 0.7's answer (behaviour reference 6.7)
ZREPL = {
    "Version": "v0.7.0",
    "RuntimeGo": "go1.24.4",
    "RuntimeGOOS": "linux",
    "RuntimeGOARCH": "amd64",
    "RUNTIMECompiler": "gc",
}
OURS = version_document("0.1.0", os_name="linux", machine="x86_64", python="CPython 3.11.2")


@asynccontextmanager
async def answering(path: str, routes: Mapping[str, Handler]) -> AsyncIterator[None]:
    async with open_control_listener(path) as listener, trio.open_nursery() as nursery:
        await nursery.start(serve_http, [listener], routes)
        yield
        nursery.cancel_scope.cancel()


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        (ZREPL, r"^zrepl v0\.7\.0 runs here \(.*\): stop it first: systemctl stop zrepl$"),
        (OURS, r"^zrepl-trio 0\.1\.0 runs here .*: stop it first: SIGTERM"),
        ({"hello": 1}, "^a program that is no zrepl answers on .*: stop it first$"),
    ],
)
async def test_a_live_daemon_is_refused_by_name(tmp_path: Path, answer: object, said: str) -> None:
    path = str(tmp_path / "control")
    async with answering(path, {"/version": lambda _body: answer}):
        with pytest.raises(DaemonRunning, match=said) as refused:
            await refuse_live_daemon(path)
        assert "\n" not in str(refused.value)


async def test_a_socket_that_is_missing_or_stale_means_that_nobody_runs(tmp_path: Path) -> None:
    path = str(tmp_path / "control")
    await refuse_live_daemon(path)
    with socket.socket(socket.AF_UNIX) as stale:
        stale.bind(path)
    await refuse_live_daemon(path)
