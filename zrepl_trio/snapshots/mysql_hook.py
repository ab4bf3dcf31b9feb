"""A read lock on all tables of a MySQL or MariaDB server, from before the snapshot to after it.

The lock lives as long as the connection that took it, so one connection is held open over the snapshot.
The client library blocks: it runs in a thread, on a socket of ours that is shut down at the time limit
and on a cancel, which ends the thread. As the server would go on waiting for a lock that nobody wants any
more, with all writers queued up behind, it is told a limit too, and told to drop the connection.
"""

from __future__ import annotations

import os
import socket
import ssl
from collections.abc import Callable, Sequence
from contextlib import suppress
from math import ceil
from typing import TypeAlias

import pymysql
import structlog
import trio
from pymysql.charset import charset_by_name

from zrepl_trio.config.mysql_dsn import MysqlDsn, Tls
from zrepl_trio.dialling import open_tcp, why
from zrepl_trio.snapshots.hooks import Edge, HookFailed
from zrepl_trio.zfs.filter import FilesystemFilter
from zrepl_trio.zfs.names import DatasetPath

__all__ = ["MysqlHook"]

log = structlog.get_logger()

_Connection: TypeAlias = "pymysql.Connection[pymysql.cursors.Cursor]"

_KILL_S = 5.0
_LONGEST_S = 31536000
"""The bound of MySQL's lock_wait_timeout."""

_HELD_IDLE_S = 86400
"""For which the server keeps an idle connection: a snapshot may wait for a busy pool."""


class MysqlHook:
    """`FLUSH TABLES WITH READ LOCK` in the pre edge, `UNLOCK TABLES` in the post edge; each has `timeout_s`,
    connecting included. Between them it holds one connection, which only the post edge closes."""

    def __init__(
        self,
        *,
        dsn: MysqlDsn,
        timeout_s: float,
        filesystems: FilesystemFilter,
        err_is_fatal: bool,
    ) -> None:
        self._dsn = dsn
        self._timeout_s = timeout_s
        self.filesystems = filesystems
        self.err_is_fatal = err_is_fatal
        self._held: _Session | None = None

    @property
    def name(self) -> str:
        return f"mysql-lock-tables {self._dsn.place}"

    async def run(self, edge: Edge, filesystems: Sequence[DatasetPath], snapshot: str) -> None:
        """See `Hook`."""
        del filesystems, snapshot
        if edge is Edge.PRE:
            self._held = await self._lock()
        elif self._held is None:  # cancelled before it had the lock
            await trio.lowlevel.checkpoint()
        else:
            session, self._held = self._held, None
            await self._unlock(session)

    async def _lock(self) -> _Session:
        limit_s = min(self._dsn.connect_s or self._timeout_s, self._timeout_s)
        doing = "connect"
        try:
            with trio.fail_after(self._timeout_s):
                with trio.fail_after(limit_s):
                    session = await self._connected()
                doing, limit_s = "lock the tables", self._timeout_s
                try:
                    await session.execute("FLUSH TABLES WITH READ LOCK")
                except BaseException:
                    session.close()
                    with trio.move_on_after(_KILL_S, shield=True):
                        await self._kill(session.number)
                    raise
        except trio.TooSlowError:
            raise self._failed(f"could not {doing} within {limit_s:g} s") from None
        except (pymysql.MySQLError, OSError) as error:
            raise self._failed(f"could not {doing}: {_words(error)}") from error
        return session

    async def _unlock(self, session: _Session) -> None:
        try:
            with trio.fail_after(self._timeout_s):
                await session.execute("UNLOCK TABLES")
        except trio.TooSlowError:
            raise self._failed(
                f"UNLOCK TABLES had no answer within {self._timeout_s:g} s; the connection was closed, "
                "which ends the lock"
            ) from None
        except (pymysql.MySQLError, OSError) as error:
            raise self._failed(
                "the connection that held the lock was lost, so tables may have been written to during the "
                f"snapshot: {_words(error)}"
            ) from error
        finally:
            session.close()

    async def _connected(self) -> _Session:
        if charset_by_name(self._dsn.charset) is None:
            raise pymysql.NotSupportedError(f"the client knows no charset {self._dsn.charset!r}")
        session = _Session(await self._dial(), self._dsn, self._timeout_s)
        try:
            await session.connect()
            limit_s = min(ceil(self._timeout_s), _LONGEST_S)
            await session.execute(
                f"SET SESSION wait_timeout = {_HELD_IDLE_S}, lock_wait_timeout = {limit_s}"
            )
        except BaseException:
            session.close()
            raise
        return session

    async def _dial(self) -> socket.socket:
        if self._dsn.socket:
            opened = await trio.open_unix_socket(self._dsn.socket)
        else:
            opened = await open_tcp(self._dsn.host, self._dsn.port, self._dsn.family)
        with opened.socket:
            return socket.socket(fileno=os.dup(opened.socket.fileno()))

    async def _kill(self, number: int) -> None:
        """Have the server end what it still does for a closed connection: closing interrupts no wait."""
        try:
            other = await self._connected()
            try:
                await other.execute(f"KILL {number}")
            finally:
                other.close()
        except (pymysql.MySQLError, OSError, trio.TooSlowError) as error:
            log.debug("the server ends the wait for the lock by itself", err=_words(error))

    def _failed(self, text: str) -> HookFailed:
        return HookFailed(f"{self.name}: {text}")


class _Session:
    """A connection of the library over `sock`, which is the session's from now on."""

    def __init__(self, sock: socket.socket, dsn: MysqlDsn, timeout_s: float) -> None:
        sock.setblocking(True)
        self._sock = sock
        self._limiter = trio.CapacityLimiter(1)
        self._works = False
        self._connection: _Connection = pymysql.Connection(
            host=dsn.host,
            user=dsn.user,
            password=dsn.password.encode(),
            database=dsn.database or None,
            charset=dsn.charset,
            collation=dsn.collation or None,
            read_timeout=min(dsn.io_s or timeout_s, timeout_s),
            write_timeout=min(dsn.io_s or timeout_s, timeout_s),
            program_name="zrepl-trio",
            autocommit=None,
            defer_connect=True,
            auth_plugin_map=_refused_ways(dsn),
            ssl=_tls_context(dsn.tls),
            ssl_disabled=dsn.tls is Tls.OFF,
        )
        self._handle = sock.dup()  # the library takes the other, and may wrap it
        self.number = 0
        """The server's, once connected; also when it has been lost since."""

    async def connect(self) -> None:
        await self._in_thread(lambda: self._connection.connect(self._sock))
        self.number = self._connection.thread_id()  # type: ignore[no-untyped-call]

    async def execute(self, statement: str) -> None:
        def run() -> None:
            with self._connection.cursor() as cursor:
                cursor.execute(statement)

        await self._in_thread(run)

    def close(self) -> None:
        with suppress(OSError):
            self._handle.shutdown(socket.SHUT_RDWR)
        if self._connection.open:
            self._connection.close()
        self._sock.close()
        self._handle.close()

    async def _in_thread(self, work: Callable[[], object]) -> None:
        """On a cancel the socket is shut down, with which the work and its thread end."""
        self._works = True
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._shut_on_cancel)
            with trio.CancelScope(shield=True):
                error = await trio.to_thread.run_sync(_outcome, work, limiter=self._limiter)
            self._works = False
            nursery.cancel_scope.cancel()
        await trio.lowlevel.checkpoint_if_cancelled()
        if error is not None:
            raise error

    async def _shut_on_cancel(self) -> None:
        try:
            await trio.sleep_forever()
        finally:
            if self._works:
                with suppress(OSError):
                    self._handle.shutdown(socket.SHUT_RDWR)


def _outcome(work: Callable[[], object]) -> pymysql.MySQLError | OSError | None:
    try:
        work()
    except (pymysql.MySQLError, OSError) as error:
        return error
    except Exception as error:  # noqa: BLE001 - the library trusts that what answers is such a server
        return pymysql.InternalError(f"its answer is none of a MySQL server ({error!r})")
    return None


class _NotThisWay:
    """Stands for a way to log in that would show the password to whoever answers."""

    parameter = ""

    def __init__(self, connection: object) -> None:
        del connection

    def authenticate(self, packet: object) -> object:
        del packet
        raise pymysql.OperationalError(
            2061,
            "the server asks for the password in a form that others could read; if that is wanted, the DSN "
            f"needs {self.parameter}=true",
        )


class _NoCleartext(_NotThisWay):
    parameter = "allowCleartextPasswords"


class _NoOldPassword(_NotThisWay):
    parameter = "allowOldPasswords"


def _refused_ways(dsn: MysqlDsn) -> dict[str, Callable[[_Connection], object]]:
    refused: dict[str, Callable[[_Connection], object]] = {}
    if not dsn.cleartext:
        refused |= {"mysql_clear_password": _NoCleartext, "dialog": _NoCleartext}
    if not dsn.old_passwords:
        refused["mysql_old_password"] = _NoOldPassword
    return refused


def _tls_context(kind: Tls) -> ssl.SSLContext | None:
    """None leaves it to the library, which then encrypts if the server can."""
    if kind in {Tls.OFF, Tls.PREFERRED}:
        return None
    context = ssl.create_default_context()
    if kind is Tls.SKIP_VERIFY:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    return context


def _words(error: Exception) -> str:
    if isinstance(error, pymysql.MySQLError) and len(error.args) == 2 and error.args[1]:
        number, text = error.args
        return f"{text} ({number})" if number else str(text)
    if isinstance(error, OSError):
        return why(error)
    return str(error) or type(error).__name__
