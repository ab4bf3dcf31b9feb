"""Sections of hooks: what runs around each snapshot."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from zrepl_trio.config.base import Reads, Section, parsed
from zrepl_trio.config.fields import (
    Filesystems,
    Flag,
    Path,
)
from zrepl_trio.config.go_durations import GoTimeout
from zrepl_trio.config.mysql_dsn import MYSQL_DSN_WORDS, MysqlDsn
from zrepl_trio.config.postgres_dsn import POSTGRES_DSN_WORDS, PostgresDsn
from zrepl_trio.zfs.filter import FilesystemFilter

__all__ = ["CommandHook", "Hook", "MysqlLockTables", "PostgresCheckpoint"]


_PostgresServer = Annotated[
    PostgresDsn,
    Reads(
        parsed(PostgresDsn.parse, PostgresDsn, POSTGRES_DSN_WORDS),
        lambda dsn: dsn.text,
        {"type": "string", "minLength": 1, "description": POSTGRES_DSN_WORDS},
    ),
]
_MysqlServer = Annotated[
    MysqlDsn,
    Reads(
        parsed(MysqlDsn.parse, MysqlDsn, MYSQL_DSN_WORDS),
        lambda dsn: dsn.text,
        {"type": "string", "pattern": "/", "description": MYSQL_DSN_WORDS},
    ),
]


class CommandHook(Section):
    """Run a program before and after each snapshot."""

    type: Literal["command"]
    path: Path
    """The program; it gets no arguments, only `ZREPL_…` variables."""
    timeout: GoTimeout = 30.0
    """Seconds after which it is killed."""
    filesystems: Filesystems = FilesystemFilter.of({"<": True})
    """Filesystems that it is run for."""
    err_is_fatal: Flag = False
    """Whether its failure forbids the snapshot."""


class PostgresCheckpoint(Section):
    """Run CHECKPOINT on a PostgreSQL server before each snapshot."""

    type: Literal["postgres-checkpoint"]
    dsn: _PostgresServer
    """Connection string of the server."""
    timeout: GoTimeout = 30.0
    """Seconds for the checkpoint."""
    filesystems: Filesystems
    """Filesystems that hold the server's data."""
    err_is_fatal: Flag = False
    """Whether its failure forbids the snapshot."""


class MysqlLockTables(Section):
    """Hold FLUSH TABLES WITH READ LOCK on a MySQL server while a snapshot is taken."""

    type: Literal["mysql-lock-tables"]
    dsn: _MysqlServer
    """Connection string of the server."""
    timeout: GoTimeout = 30.0
    """Seconds for taking the lock."""
    filesystems: Filesystems
    """Filesystems that hold the server's data."""
    err_is_fatal: Flag = False
    """Whether its failure forbids the snapshot."""


Hook = Annotated[CommandHook | PostgresCheckpoint | MysqlLockTables, Field(discriminator="type")]
