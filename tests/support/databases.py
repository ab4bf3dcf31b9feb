"""A PostgreSQL and a MariaDB of the tests' own: in a directory that goes with them, on a UNIX socket."""

from __future__ import annotations

import os
import pwd
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import psutil
import psycopg
import pymysql

__all__ = [
    "MariaDb",
    "Postgres",
    "find_mariadb",
    "find_postgres",
    "frozen",
    "running_mariadb",
    "running_postgres",
]

_START_S = 40.0


def find_postgres() -> Path | None:
    """The directory of `initdb` and `postgres`: Debian has them beside the PATH, by version."""
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"), key=lambda p: len(p.parts))
    on_path = shutil.which("initdb")
    candidates = [
        *(path.parent for path in reversed(found)),
        *([Path(on_path).parent] if on_path else []),
    ]
    return next((each for each in candidates if (each / "postgres").exists()), None)


def find_mariadb() -> tuple[str, str] | None:
    """The programs that make and run a server."""
    path = f"{os.environ.get('PATH', '')}:/usr/sbin"
    install, server = (
        shutil.which("mariadb-install-db", path=path),
        shutil.which("mariadbd", path=path),
    )
    return (install, server) if install and server else None


@dataclass
class Postgres:
    """A running server; its user `backup`, with the password `s3cret`, may make checkpoints, `guest` not."""

    directory: Path
    process: subprocess.Popen[bytes]

    def sql(self, statement: str) -> list[tuple[Any, ...]]:
        """The rows, asked as the superuser."""
        dsn = f"host={self.directory} user=postgres dbname=postgres"
        with psycopg.connect(dsn, autocommit=True) as connection:
            cursor = connection.execute(statement.encode())
            return cursor.fetchall() if cursor.description else []

    def clients(self) -> int:
        """Connections of others."""
        ((count,),) = self.sql(
            "SELECT count(*) FROM pg_stat_activity "
            "WHERE backend_type = 'client backend' AND pid <> pg_backend_pid()"
        )
        return int(count)


@dataclass
class MariaDb:
    """A running server with a table `t.t`; its user `backup`, with the password `s3cret`, may lock."""

    directory: Path
    process: subprocess.Popen[bytes]

    @property
    def socket(self) -> str:
        return str(self.directory / "s")

    @contextmanager
    def connection(self) -> Iterator[pymysql.Connection[pymysql.cursors.Cursor]]:
        """As the superuser."""
        with pymysql.connect(unix_socket=self.socket, user="root", autocommit=True) as opened:
            yield opened

    def sql(self, statement: str) -> list[tuple[Any, ...]]:
        """The rows, asked as the superuser."""
        with self.connection() as connection, connection.cursor() as cursor:
            cursor.execute(statement)
            return list(cursor.fetchall())

    def states(self, user: str = "backup") -> list[tuple[str, str]]:
        """Number and state of that user's connections."""
        rows = self.sql(f"SELECT id, state FROM information_schema.processlist WHERE user='{user}'")
        return [(str(number), str(state)) for number, state in rows]


@contextmanager
def running_postgres() -> Iterator[Postgres]:
    """Started here, and ended with the block."""
    programs = find_postgres()
    assert programs is not None
    with _directory("postgres") as (directory, become):
        data = directory / "data"
        _do(
            [
                *become,
                str(programs / "initdb"),
                "-D",
                str(data),
                "-A",
                "trust",
                "-U",
                "postgres",
                "-N",
            ]
        )
        (data / "pg_hba.conf").write_text(
            "local all postgres trust\nlocal all all scram-sha-256\nhost all all ::1/128 scram-sha-256\n"
            "host all all 127.0.0.1/32 scram-sha-256\n"
        )
        options = {"listen_addresses": "", "unix_socket_directories": directory, "fsync": "off"}
        arguments = [word for name, value in options.items() for word in ("-c", f"{name}={value}")]
        argv = [*become, str(programs / "postgres"), "-D", str(data), *arguments]
        with _server(argv, directory, signal.SIGINT) as process:
            server = Postgres(directory, process)
            _until(process, directory, lambda: server.sql("SELECT 1"), psycopg.OperationalError)
            server.sql("CREATE ROLE guest LOGIN PASSWORD 's3cret'")
            server.sql("CREATE ROLE backup LOGIN PASSWORD 's3cret' SUPERUSER")
            server.sql("CREATE TABLE t (n int)")
            yield server


@contextmanager
def running_mariadb() -> Iterator[MariaDb]:
    """Started here, and ended with the block."""
    programs = find_mariadb()
    assert programs is not None
    with _directory("mysql") as (directory, become):
        data = f"--datadir={directory / 'data'}"
        auth = "--auth-root-authentication-method=normal"
        _do([*become, programs[0], "--no-defaults", data, auth, "--skip-test-db"])
        argv = [*become, programs[1], "--no-defaults", data, "--skip-networking"]
        argv += [f"--socket={directory / 's'}", f"--pid-file={directory / 'pid'}"]
        with _server(argv, directory, signal.SIGTERM) as process:
            server = MariaDb(directory, process)
            _until(process, directory, partial(_dial, server.socket), OSError)
            server.sql("CREATE USER backup@localhost IDENTIFIED BY 's3cret'")
            server.sql("GRANT RELOAD ON *.* TO backup@localhost")
            server.sql("CREATE USER guest@localhost IDENTIFIED BY 's3cret'")
            server.sql("CREATE DATABASE t")
            server.sql("CREATE TABLE t.t (n int)")
            yield server


@contextmanager
def frozen(pid: int) -> Iterator[None]:
    """The process answers nothing during the block."""
    os.kill(pid, signal.SIGSTOP)
    try:
        while any(task.status() != psutil.STATUS_STOPPED for task in _tasks(pid)):
            time.sleep(0.001)
        yield
    finally:
        os.kill(pid, signal.SIGCONT)


def _tasks(pid: int) -> list[psutil.Process]:
    return [psutil.Process(thread.id) for thread in psutil.Process(pid).threads()]


@contextmanager
def _directory(user: str) -> Iterator[tuple[Path, list[str]]]:
    """A short path, and the words that make a command the user's: no server runs as root."""
    directory = Path(tempfile.mkdtemp(prefix="zt-db-"))
    become: list[str] = []
    if os.geteuid() == 0:
        account = pwd.getpwnam(user)
        os.chown(directory, account.pw_uid, account.pw_gid)
        become = ["setpriv", f"--reuid={user}", f"--regid={account.pw_gid}", "--clear-groups"]
    try:
        yield directory, become
    finally:
        shutil.rmtree(directory)


def _dial(path: str) -> None:
    with socket.socket(socket.AF_UNIX) as dialled:
        dialled.connect(path)


def _do(argv: Sequence[str]) -> None:
    done = subprocess.run(argv, capture_output=True, text=True, cwd="/", check=False)
    assert done.returncode == 0, f"{done.stdout}{done.stderr}"


@contextmanager
def _server(
    argv: Sequence[str], directory: Path, stop: signal.Signals
) -> Iterator[subprocess.Popen[bytes]]:
    with (directory / "log").open("wb") as log:
        process = subprocess.Popen(argv, stdout=log, stderr=log, cwd="/")
    try:
        yield process
    finally:
        process.send_signal(stop)
        try:
            process.wait(20)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _until(
    process: subprocess.Popen[bytes],
    directory: Path,
    answers: Callable[[], object],
    not_yet: type[Exception],
) -> None:
    end = time.monotonic() + _START_S
    while True:
        try:
            answers()
        except not_yet:
            said = (directory / "log").read_text("utf-8", "replace")
            assert process.poll() is None, said
            assert time.monotonic() < end, said
            time.sleep(0.05)
        else:
            return
