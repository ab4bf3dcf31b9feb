"""An emulated host and hands to use it."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from zrepl_trio.emulate.sandbox import Sandbox


class Pools:
    """Emulated pools in a directory of their own, with the pool `tank`."""

    def __init__(self, directory: Path) -> None:
        self.sandbox = Sandbox(directory)
        self.directory = self.sandbox.directory
        self.env = self.sandbox.environment({**os.environ, "LC_ALL": "C"})
        self.zpool("create", "tank")

    def start(self, *words: str, **options: object) -> subprocess.Popen[bytes]:
        return subprocess.Popen(  # type: ignore[call-overload,no-any-return]
            [self.sandbox.zfs, *words], env=self.env, **options
        )

    def run(self, *words: str, stdin: bytes = b"") -> subprocess.CompletedProcess[bytes]:
        return subprocess.run(
            [self.sandbox.zfs, *words],
            env=self.env,
            input=stdin,
            capture_output=True,
            check=False,
            timeout=60,
        )

    def zfs(self, *words: str, stdin: bytes = b"") -> str:
        """What a command that must work prints."""
        done = self.run(*words, stdin=stdin)
        assert done.returncode == 0, done.stderr.decode()
        return done.stdout.decode()

    def fails(self, *words: str, stdin: bytes = b"") -> str:
        """What a command that must fail says."""
        done = self.run(*words, stdin=stdin)
        assert done.returncode != 0
        return done.stderr.decode()

    def zpool(self, *words: str) -> str:
        done = subprocess.run(
            [self.sandbox.zpool, *words], env=self.env, capture_output=True, check=False
        )
        assert done.returncode == 0, done.stderr.decode()
        return done.stdout.decode()

    def send(self, *words: str) -> bytes:
        done = self.run("send", *words)
        assert done.returncode == 0, done.stderr.decode()
        return done.stdout

    def names(self, *words: str) -> list[str]:
        return self.zfs("list", "-H", "-o", "name", "-t", "all", "-r", *words).splitlines()

    def value(self, prop: str, dataset: str) -> str:
        return self.zfs("get", "-Hp", "-o", "value", prop, dataset).removesuffix("\n")

    def path(self, dataset: str) -> Path:
        return Path(self.value("mountpoint", dataset))

    def leftovers(self) -> list[str]:
        """Data that nothing refers to, and marks of unfinished work."""
        private = self.directory / ".emulated-zfs"
        return [p.name for p in (private / "marks").iterdir()] + [
            p.name for p in (private / "pools").glob(".*")
        ]


@pytest.fixture
def pools(tmp_path: Path) -> Pools:
    return Pools(tmp_path)
