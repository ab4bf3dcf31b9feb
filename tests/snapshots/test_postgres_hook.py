"""Checkpoints on a real PostgreSQL: that they happen, and what becomes of a server that fails."""

from __future__ import annotations

import socket
from collections.abc import Iterator, Mapping

import pytest
import trio

from tests.replication.notation import path
from tests.support.databases import Postgres, frozen, running_postgres
from tests.support.docs import block
from tests.support.resources import cancel_at_each_step, nothing_left_behind, until
from zrepl_trio.config.postgres_dsn import PostgresDsn
from zrepl_trio.snapshots.hooks import Edge, HookFailed
from zrepl_trio.snapshots.postgres_hook import PostgresHook
from zrepl_trio.zfs.filter import FilesystemFilter

pytestmark = [pytest.mark.postgres, pytest.mark.slow]

A = path("tank/a")


@pytest.fixture(scope="module")
def server() -> Iterator[Postgres]:
    with running_postgres() as started:
        yield started


def hook(
    dsn: str, timeout_s: float = 20.0, environ: Mapping[str, str] | None = None
) -> PostgresHook:
    return PostgresHook(
        dsn=PostgresDsn.parse(f"{dsn} dbname=postgres"),
        timeout_s=timeout_s,
        filesystems=FilesystemFilter.of({"<": True}),
        err_is_fatal=False,
        environ=lambda: environ or {},
    )


def backup(server: Postgres, timeout_s: float = 20.0) -> PostgresHook:
    return hook(f"host={server.directory} user=backup password=s3cret", timeout_s)


async def fails(broken: PostgresHook) -> str:
    with nothing_left_behind(), pytest.raises(HookFailed) as caught:
        await broken.run(Edge.PRE, [A], "s")
    assert "s3cret" not in str(caught.value)
    return str(caught.value)


def checkpoint(server: Postgres) -> object:
    return server.sql("SELECT redo_lsn FROM pg_control_checkpoint()")


async def test_the_pre_edge_makes_a_checkpoint_and_keeps_no_connection(server: Postgres) -> None:
    server.sql("INSERT INTO t VALUES (1)")
    before = checkpoint(server)
    with nothing_left_behind():
        await backup(server).run(Edge.PRE, [A], "s")
    after = checkpoint(server)
    assert after != before
    server.sql("INSERT INTO t VALUES (2)")
    await backup(server).run(Edge.POST, [A], "s")
    assert checkpoint(server) == after
    await until(lambda: server.clients() == 0)


async def test_what_the_dsn_leaves_out_is_in_the_environment(server: Postgres) -> None:
    before = checkpoint(server)
    environ = {"PGHOST": str(server.directory)}
    await hook("user=backup password=s3cret", environ=environ).run(Edge.PRE, [A], "s")
    assert checkpoint(server) != before


async def test_who_may_not_is_told(server: Postgres) -> None:
    directory = server.directory
    assert "password authentication failed" in await fails(
        hook(f"host={directory} user=backup password=wrong")
    )
    said = await fails(hook(f"host={directory} user=guest password=s3cret"))
    assert "could not run CHECKPOINT: must be superuser" in said
    assert "\n" not in said


async def test_the_documented_role_may_make_checkpoints(server: Postgres) -> None:
    for statement in block("postgres", "docs/hooks.md").splitlines():
        server.sql(statement)
    before = checkpoint(server)
    await hook(f"host={server.directory} user=zrepl password=change-me").run(Edge.PRE, [A], "s")
    assert checkpoint(server) != before


async def test_a_server_that_is_down_is_told() -> None:
    assert "could not connect" in await fails(hook("host=/nonexistent user=backup"))
    with socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))
        port = bound.getsockname()[1]
        said = await fails(hook(f"host=localhost port={port} user=backup"))
    assert f"postgres-checkpoint localhost:{port}: could not connect" in said
    assert "refused" in said


async def test_a_server_without_encryption_is_refused_as_in_zrepl() -> None:
    async def answer_no(stream: trio.SocketStream) -> None:
        await stream.receive_some(8)
        await stream.send_all(b"N")

    async with trio.open_nursery() as nursery:
        listeners = await nursery.start(trio.serve_tcp, answer_no, 0)
        port = listeners[0].socket.getsockname()[1]
        with pytest.raises(HookFailed, match="does not support SSL"):
            await hook(f"host=127.0.0.1 port={port} user=backup").run(Edge.PRE, [A], "s")
        nursery.cancel_scope.cancel()


async def test_a_server_that_does_not_answer_is_left(server: Postgres) -> None:
    with frozen(server.process.pid):
        assert "could not connect within 0.3 s" in await fails(backup(server, 0.3))
    await until(lambda: server.clients() == 0)


async def test_a_checkpoint_that_hangs_is_left_by_us_and_by_the_server(server: Postgres) -> None:
    ((pid,),) = server.sql("SELECT pid FROM pg_stat_activity WHERE backend_type = 'checkpointer'")
    with frozen(int(str(pid))):
        assert "could not run CHECKPOINT within 2 s" in await fails(backup(server, 2.0))
        await until(lambda: server.clients() == 0)
    await backup(server).run(Edge.PRE, [A], "s")


async def test_cancelled_anywhere_it_leaves_no_connection(server: Postgres) -> None:
    runs = await cancel_at_each_step(lambda: backup(server).run(Edge.PRE, [A], "s"))
    assert runs > 3
    await until(lambda: server.clients() == 0)
