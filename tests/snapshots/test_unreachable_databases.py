"""Hooks for databases whose host cannot be had: the hook fails, in words, and nothing else does."""

from __future__ import annotations

from dataclasses import replace

import pytest
import trio

from tests.replication.notation import path
from tests.support.resources import nothing_left_behind
from zrepl_trio.config.mysql_dsn import MysqlDsn
from zrepl_trio.config.postgres_dsn import PostgresDsn
from zrepl_trio.snapshots.hooks import Edge, Hook, HookFailed
from zrepl_trio.snapshots.mysql_hook import MysqlHook
from zrepl_trio.snapshots.postgres_hook import PostgresHook
from zrepl_trio.zfs.filter import FilesystemFilter

A = path("tank/a")
ALL = FilesystemFilter.of({"<": True})


def mysql(dsn: MysqlDsn) -> MysqlHook:
    return MysqlHook(dsn=dsn, timeout_s=20.0, filesystems=ALL, err_is_fatal=False)


def postgres(host: str) -> PostgresHook:
    return PostgresHook(
        dsn=PostgresDsn.parse("user=u"),
        timeout_s=20.0,
        filesystems=ALL,
        err_is_fatal=False,
        environ=lambda: {"PGHOST": host},
    )


async def fails(hook: Hook) -> str:
    with nothing_left_behind(), pytest.raises(HookFailed) as caught:
        await hook.run(Edge.PRE, [A], "s")
    return str(caught.value)


@pytest.mark.parametrize("host", ["a..b", ".x", "a" * 64 + ".com"])
async def test_a_host_that_cannot_be_looked_up_is_told(host: str) -> None:
    # the config's check refuses such a one, but libpq's variables are read as late as this
    dsn = replace(MysqlDsn.parse("u@tcp(h)/"), host=host)
    for hook in (mysql(dsn), postgres(host)):
        assert f"could not connect: {host!r} cannot be looked up" in await fails(hook)


async def test_a_family_that_is_asked_for_is_the_only_one() -> None:
    connected = 0

    async def talk(stream: trio.SocketStream) -> None:
        nonlocal connected
        connected += 1
        await stream.aclose()

    async with trio.open_nursery() as nursery:
        (listener,) = await trio.open_tcp_listeners(0, host="127.0.0.1")
        nursery.start_soon(trio.serve_listeners, talk, [listener])
        port = listener.socket.getsockname()[1]
        said = await fails(mysql(MysqlDsn.parse(f"u@tcp6(127.0.0.1:{port})/")))
        assert "could not connect: " in said
        assert connected == 0
        await fails(mysql(MysqlDsn.parse(f"u@tcp4(127.0.0.1:{port})/")))
        assert connected == 1
        nursery.cancel_scope.cancel()


async def test_a_server_that_refuses_is_told_with_the_reason_of_each_address() -> None:
    (listener,) = await trio.open_tcp_listeners(0, host="127.0.0.1")
    port = listener.socket.getsockname()[1]
    await listener.aclose()
    for net in ("tcp", "tcp4"):
        said = await fails(mysql(MysqlDsn.parse(f"u@{net}(127.0.0.1:{port})/")))
        assert said.endswith("Connection refused")
        assert "attempts" not in said
    said = await fails(mysql(MysqlDsn.parse("u@unix(/nonexistent)/")))
    assert said == "mysql-lock-tables /nonexistent: could not connect: No such file or directory"
