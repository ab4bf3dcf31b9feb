"""The read lock on a real MariaDB: held over the snapshot, and let go however that ends."""

from __future__ import annotations

import socket
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager
from functools import partial

import pytest
import trio

from tests.replication.notation import path
from tests.support.databases import MariaDb, frozen, running_mariadb
from tests.support.docs import block
from tests.support.resources import cancel_at_each_step, nothing_left_behind, until
from zrepl_trio.config.mysql_dsn import MysqlDsn
from zrepl_trio.snapshots.hooks import Edge, HookFailed, StepState, run_around
from zrepl_trio.snapshots.mysql_hook import MysqlHook
from zrepl_trio.zfs.filter import FilesystemFilter
from zrepl_trio.zfs.names import DatasetPath

pytestmark = [pytest.mark.mariadb, pytest.mark.slow]

A = path("tank/a")
INSERT = "INSERT INTO t.t VALUES (1)"


@pytest.fixture(scope="module")
def server() -> Iterator[MariaDb]:
    with running_mariadb() as started:
        yield started


def hook(dsn: str, timeout_s: float = 20.0) -> MysqlHook:
    return MysqlHook(
        dsn=MysqlDsn.parse(dsn),
        timeout_s=timeout_s,
        filesystems=FilesystemFilter.of({"<": True}),
        err_is_fatal=False,
    )


def backup(server: MariaDb, timeout_s: float = 20.0) -> MysqlHook:
    return hook(f"backup:s3cret@unix({server.socket})/", timeout_s)


async def fails(broken: MysqlHook, edge: Edge = Edge.PRE) -> str:
    with pytest.raises(HookFailed) as caught:
        await broken.run(edge, [A], "s")
    assert "s3cret" not in str(caught.value)
    return str(caught.value)


def rows(server: MariaDb) -> int:
    return int(server.sql("SELECT count(*) FROM t.t")[0][0])


def waits(server: MariaDb) -> bool:
    return any(state.startswith("Waiting for") for _, state in server.states("root"))


@asynccontextmanager
async def writer(server: MariaDb) -> AsyncIterator[None]:
    """Writes a row during the block, which it may have to wait for; it has by the block's end."""
    async with trio.open_nursery() as nursery:
        nursery.start_soon(partial(trio.to_thread.run_sync, server.sql, INSERT))
        yield


async def test_a_write_waits_for_the_snapshot_and_then_goes_on(server: MariaDb) -> None:
    held = backup(server)
    before = rows(server)
    with nothing_left_behind():
        await held.run(Edge.PRE, [A], "s")
        async with writer(server):
            try:
                await until(lambda: waits(server))
                assert rows(server) == before
            finally:
                await held.run(Edge.POST, [A], "s")
        assert rows(server) == before + 1
    await until(lambda: server.states() == [])


@pytest.mark.parametrize("ends", ["failed", "cancelled"])
async def test_a_snapshot_that_comes_to_nothing_lets_go_of_the_lock(
    server: MariaDb, ends: str
) -> None:
    locked = False

    async def take(paths: Sequence[DatasetPath]) -> Mapping[DatasetPath, str]:
        nonlocal locked
        locked = bool(server.states())
        if ends == "failed":
            return dict.fromkeys(paths, "out of space")
        scope.cancel()
        await trio.sleep_forever()
        raise AssertionError

    with nothing_left_behind(), trio.CancelScope() as scope:
        steps = await run_around([backup(server)], [A], "s", take)
        assert [step.state for step in steps] == [StepState.OK, StepState.ERROR, StepState.OK]
    assert locked
    await until(lambda: server.states() == [])
    server.sql(INSERT)


async def test_a_lock_that_is_lost_meanwhile_is_told(server: MariaDb) -> None:
    held = backup(server)
    with nothing_left_behind():
        await held.run(Edge.PRE, [A], "s")
        ((number, _),) = server.states()
        server.sql(f"KILL {number}")
        said = await fails(held, Edge.POST)
    assert "the connection that held the lock was lost" in said
    await held.run(Edge.POST, [A], "s")


async def test_a_lock_that_others_keep_from_us_is_not_waited_for_by_anyone(server: MariaDb) -> None:
    with server.connection() as other, other.cursor() as cursor:
        cursor.execute("LOCK TABLES t.t WRITE")
        with nothing_left_behind():
            said = await fails(backup(server, 2.0))
            assert "could not lock the tables within 2 s" in said
        await until(lambda: server.states() == [], within_s=5)
    server.sql(INSERT)


async def test_who_may_not_is_told(server: MariaDb) -> None:
    with nothing_left_behind():
        said = await fails(hook(f"backup:wrong@unix({server.socket})/"))
        assert "could not connect: Access denied for user 'backup'@'localhost'" in said
        said = await fails(hook(f"guest:s3cret@unix({server.socket})/"))
        assert "could not lock the tables: Access denied" in said
        assert "RELOAD" in said
    await until(lambda: server.states("guest") == [])


async def test_the_documented_user_may_take_the_lock(server: MariaDb) -> None:
    for statement in block("mysql", "docs/hooks.md").splitlines():
        server.sql(statement)
    held = hook(f"zrepl:change-me@unix({server.socket})/")
    await held.run(Edge.PRE, [A], "s")
    await held.run(Edge.POST, [A], "s")


async def test_a_password_is_shown_to_no_server_that_asks_for_it_in_clear() -> None:
    async def ask(stream: trio.SocketStream) -> None:
        greeting = b"\x0a8.0.1\0" + b"\1\0\0\0" + b"saltsalt\0" + b"\xff\xf7\x2d\2\0\xff\x81\x15"
        greeting += b"\0" * 10 + b"saltsaltsalt\0" + b"mysql_native_password\0"
        await stream.send_all(len(greeting).to_bytes(3, "little") + b"\0" + greeting)
        await stream.receive_some(4096)
        switch = b"\xfemysql_clear_password\0"
        await stream.send_all(len(switch).to_bytes(3, "little") + b"\2" + switch)
        while sent := await stream.receive_some(4096):
            assert b"s3cret" not in sent

    async with trio.open_nursery() as nursery:
        listeners = await nursery.start(trio.serve_tcp, ask, 0)
        port = listeners[0].socket.getsockname()[1]
        said = await fails(hook(f"backup:s3cret@tcp(127.0.0.1:{port})/"))
        assert "the DSN needs allowCleartextPasswords=true" in said
        nursery.cancel_scope.cancel()


@pytest.mark.parametrize(
    "answer",
    [b"SSH-2.0-OpenSSH_9.2\r\n", b"\x03\0\0\0\x0a8\0", b"HTTP/1.1 400 Bad Request\r\n\r\n", b""],
)
async def test_what_answers_and_is_no_such_server_is_told(answer: bytes) -> None:
    async def talk(stream: trio.SocketStream) -> None:
        await stream.send_all(answer)
        await stream.send_eof()
        while await stream.receive_some(4096):
            pass

    async with trio.open_nursery() as nursery:
        listeners = await nursery.start(trio.serve_tcp, talk, 0)
        port = listeners[0].socket.getsockname()[1]
        assert "could not connect: " in await fails(hook(f"u:s3cret@tcp(127.0.0.1:{port})/"))
        said = await fails(hook(f"u:s3cret@tcp(127.0.0.1:{port})/?charset=klingon"))
        assert "could not connect: the client knows no charset 'klingon'" in said
        nursery.cancel_scope.cancel()


async def test_a_server_that_is_down_is_told() -> None:
    with nothing_left_behind():
        said = await fails(hook("backup:s3cret@unix(/nonexistent)/"))
        assert "mysql-lock-tables /nonexistent: could not connect" in said
        with socket.socket() as bound:
            bound.bind(("127.0.0.1", 0))
            port = bound.getsockname()[1]
            said = await fails(hook(f"backup:s3cret@tcp(127.0.0.1:{port})/"))
        assert f"mysql-lock-tables 127.0.0.1:{port}: could not connect" in said
        assert "Connection refused" in said


async def test_encryption_that_is_asked_for_is_not_done_without(server: MariaDb) -> None:
    for kind in ("true", "skip-verify"):
        said = await fails(hook(f"backup:s3cret@unix({server.socket})/?tls={kind}"))
        assert "SSL is required but the server doesn't support it" in said
    held = hook(f"backup:s3cret@unix({server.socket})/?tls=preferred")
    await held.run(Edge.PRE, [A], "s")
    await held.run(Edge.POST, [A], "s")


async def test_a_server_that_does_not_answer_is_left(server: MariaDb) -> None:
    with nothing_left_behind():
        with frozen(server.process.pid):
            assert "could not connect within 0.3 s" in await fails(backup(server, 0.3))
        held = backup(server, 3.0)
        await held.run(Edge.PRE, [A], "s")
        with frozen(server.process.pid):
            assert "UNLOCK TABLES had no answer within 3 s" in await fails(held, Edge.POST)
    await until(lambda: server.states() == [])
    server.sql(INSERT)


async def test_cancelled_anywhere_it_leaves_no_connection_and_no_lock(server: MariaDb) -> None:
    async def lock_and_unlock() -> None:
        held = backup(server)
        try:
            await held.run(Edge.PRE, [A], "s")
        finally:
            with trio.CancelScope(shield=True):
                await held.run(Edge.POST, [A], "s")

    runs = await cancel_at_each_step(lock_and_unlock)
    assert runs > 10
    await until(lambda: server.states() == [])
    server.sql(INSERT)
