"""From a client's UNIX socket to its first RPC answer, beside silent clients, and 500 at once.

A client does what sshd's forced command and a pull job do together: connect, pass two fds, greet, open
the control connection, ping. The silent ones connect and say nothing.
"""

from __future__ import annotations

import resource
import socket
import tempfile
import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, ExitStack, asynccontextmanager
from pathlib import Path

import trio

from benches.daemons import IDENTITY, SOURCE_JOB, installed_command, running_daemon
from benches.measure import Figure
from zrepl_trio.children import open_processes
from zrepl_trio.rpc.client import open_remote
from zrepl_trio.transport.banner import BEGIN, MESSAGE_BYTES
from zrepl_trio.transport.base import Connection
from zrepl_trio.transport.fdconn import FdConnection

ROUNDS = 40
SILENT = 100
HELD = 500


class _Proxied:
    """A Connecter that is its own proxy: no ssh, no second process."""

    peer = "bench"

    def __init__(self, path: str) -> None:
        self._path = path

    @asynccontextmanager
    async def connect(self) -> AsyncIterator[Connection]:
        ours, theirs = socket.socketpair()
        with socket.socket(socket.AF_UNIX) as proxy, theirs:
            proxy.connect(self._path)
            socket.send_fds(proxy, [b"\0"], [theirs.fileno()] * 2)
            theirs.close()
            number = ours.detach()
            connection = FdConnection(number, number, client_identity="daemon")
            async with connection:
                left = MESSAGE_BYTES
                while left:
                    left -= len(await connection.receive_some(left))
                await connection.send_all(BEGIN)
                yield connection


def measure() -> list[Figure]:
    resource.setrlimit(
        resource.RLIMIT_NOFILE, (8192, resource.getrlimit(resource.RLIMIT_NOFILE)[1])
    )
    return trio.run(_measure)


async def _measure() -> list[Figure]:
    with tempfile.TemporaryDirectory(prefix="zt-bench-") as name:
        home = Path(name)
        job = SOURCE_JOB.format(identity=IDENTITY)
        async with (
            open_processes() as processes,
            running_daemon(processes, installed_command(), home, "source", job),
        ):
            path = f"{home}/source/stdinserver/{IDENTITY}"
            ratios = await _beside_silent_clients(path)
            held = await _held_at_once(path)
    return [
        Figure(
            f"set-up with {SILENT} silent clients / without",
            tuple(silent / alone for silent, alone in ratios),
            1.5,
            at_most=True,
            note=f"{sorted(alone for _, alone in ratios)[len(ratios) // 2] * 1000:.1f} ms without",
        ),
        Figure("connections held and answered at once", (held,), HELD, at_most=False),
    ]


async def _first_answer(path: str) -> float:
    start = time.perf_counter()
    async with open_remote(_Proxied(path)) as remote:
        await remote.ping("bench")
        return time.perf_counter() - start


async def _beside_silent_clients(path: str) -> list[tuple[float, float]]:
    pairs = []
    for _ in range(ROUNDS + 1):
        alone = await _first_answer(path)
        with ExitStack() as stack:
            for _ in range(SILENT):
                stack.enter_context(socket.socket(socket.AF_UNIX)).connect(path)
            pairs.append((await _first_answer(path), alone))
    return pairs[1:]


async def _held_at_once(path: str) -> float:
    answered = 0
    async with AsyncExitStack() as stack:
        remotes = [
            await stack.enter_async_context(open_remote(_Proxied(path))) for _ in range(HELD)
        ]
        for text in ("first", "second"):
            answered = 0
            for remote in remotes:
                answered += await remote.ping(text) == text
    return float(answered)
