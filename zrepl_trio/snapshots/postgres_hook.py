"""A checkpoint on a PostgreSQL server before the snapshot: recovery from it then has little to replay.

libpq is driven in its non-blocking form, so that no thread is needed and a time limit, or a cancel, ends
a hanging connection there and then. The server is told limits too, so that it keeps no backend busy for
nobody.
"""

from __future__ import annotations

import ipaddress
import os
import socket
from collections.abc import Callable, Mapping, Sequence
from math import ceil

import psycopg
import trio
from psycopg import pq
from psycopg.conninfo import make_conninfo
from psycopg.pq.abc import PGconn

from zrepl_trio.config.postgres_dsn import PostgresDsn
from zrepl_trio.dialling import addresses_of
from zrepl_trio.snapshots.hooks import Edge, HookFailed
from zrepl_trio.zfs.filter import FilesystemFilter
from zrepl_trio.zfs.names import DatasetPath

__all__ = ["PostgresHook"]

_SERVER_WAITS_LONGER_S = 1.0
"""So that it is we who give up, in our words."""

_LONGEST_MS = 2**31 - 1
"""PostgreSQL's own bound."""

_CHECKS_CLIENT_FROM = 140000
"""The first version that looks, while a statement runs, whether its client is still there."""


class PostgresHook:
    """`CHECKPOINT` in the pre edge, within `timeout_s`, connecting included; the post edge has nothing to do.
    `environ` are libpq's variables, for what the DSN leaves out."""

    def __init__(
        self,
        *,
        dsn: PostgresDsn,
        timeout_s: float,
        filesystems: FilesystemFilter,
        err_is_fatal: bool,
        environ: Callable[[], Mapping[str, str]] = lambda: os.environ,
    ) -> None:
        self._dsn = dsn
        self._timeout_s = timeout_s
        self.filesystems = filesystems
        self.err_is_fatal = err_is_fatal
        self._environ = environ

    @property
    def name(self) -> str:
        return f"postgres-checkpoint {self._dsn.place}"

    async def run(self, edge: Edge, filesystems: Sequence[DatasetPath], snapshot: str) -> None:
        """See `Hook`."""
        del filesystems, snapshot
        if edge is Edge.POST:
            await trio.lowlevel.checkpoint()
            return
        limit_s = min(self._dsn.connect_timeout_s or self._timeout_s, self._timeout_s)
        doing = "connect"
        try:
            with trio.fail_after(self._timeout_s):
                with trio.fail_after(limit_s):
                    connection = await self._connected()
                doing, limit_s = "run CHECKPOINT", self._timeout_s
                try:
                    await self._checkpoint(connection)
                finally:
                    connection.finish()
        except trio.TooSlowError:
            raise self._failed(f"could not {doing} within {limit_s:g} s") from None
        except (psycopg.Error, OSError) as error:
            raise self._failed(f"could not {doing}: {_one_line(str(error))}") from error

    async def _connected(self) -> PGconn:
        told = await _resolved(self._dsn.connection(self._environ()))
        connection = pq.PGconn.connect_start(make_conninfo("", **told).encode())
        try:
            await _connect(connection)
        except BaseException:
            connection.finish()
            raise
        return connection

    async def _checkpoint(self, connection: PGconn) -> None:
        limit_ms = min(ceil((self._timeout_s + _SERVER_WAITS_LONGER_S) * 1000), _LONGEST_MS)
        await _execute(connection, f"SET statement_timeout = {limit_ms}")
        if connection.server_version >= _CHECKS_CLIENT_FROM:
            await _execute(connection, "SET client_connection_check_interval = 1000")
        await _execute(connection, "CHECKPOINT")

    def _failed(self, text: str) -> HookFailed:
        return HookFailed(f"{self.name}: {text}")


async def _resolved(told: Mapping[str, str]) -> dict[str, str]:
    """With the addresses of its host, which libpq would otherwise look up while all wait for it."""
    host = told.get("host", "")
    if not host or host.startswith(("/", "@")) or "," in host:
        return dict(told)
    try:
        ipaddress.ip_address(host)
    except ValueError:
        found = await addresses_of(host, None, kind=socket.SOCK_STREAM)
        addresses = list(dict.fromkeys(str(each[4][0]) for each in found))
        return {
            **told,
            "host": ",".join([host] * len(addresses)),
            "hostaddr": ",".join(addresses),
        }
    return dict(told)


async def _connect(connection: PGconn) -> None:
    while connection.status != pq.ConnStatus.BAD:
        match connection.connect_poll():
            case pq.PollingStatus.OK:
                connection.nonblocking = 1
                return
            case pq.PollingStatus.READING:
                await trio.lowlevel.wait_readable(connection.socket)
            case pq.PollingStatus.WRITING:
                await trio.lowlevel.wait_writable(connection.socket)
            case _:
                break
    raise psycopg.OperationalError(connection.get_error_message())


async def _execute(connection: PGconn, statement: str) -> None:
    connection.send_query(statement.encode())
    while connection.flush():
        await trio.lowlevel.wait_writable(connection.socket)
    failed = ""
    while True:
        while connection.is_busy():
            await trio.lowlevel.wait_readable(connection.socket)
            connection.consume_input()
        result = connection.get_result()
        if result is None:
            break
        if result.status == pq.ExecStatus.FATAL_ERROR:
            failed = result.get_error_message()
    if failed:
        raise psycopg.OperationalError(failed)


def _one_line(text: str) -> str:
    return "; ".join(line.strip() for line in text.splitlines() if line.strip())
