"""Throw-away pools of real OpenZFS, on files.

Everything here is marked `zfs`: outside the guest of `make test-zfs` it is skipped with that reason.
Starting a process costs about 20 ms in the guest, a zfs command 100: pools live for the session, and
each test takes fresh datasets in them.
"""

from __future__ import annotations

import itertools
import subprocess
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest

ENV = {"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "LC_ALL": "C"}


def run(*argv: str, stdin: bytes = b"", ok: bool = True) -> subprocess.CompletedProcess[bytes]:
    """The command's end; with `ok` its failure fails the test, with what it said."""
    done = subprocess.run(argv, input=stdin, capture_output=True, env=ENV, check=False)
    assert not ok or done.returncode == 0, f"{argv}: {done.returncode}\n{done.stderr.decode()}"
    return done


def text(*argv: str) -> str:
    """What a command that must work printed, without the last newline."""
    return run(*argv).stdout.decode().removesuffix("\n")


@dataclass(frozen=True)
class Pool:
    """A pool of the session; its filesystems are mounted below `mountpoint`."""

    name: str
    mountpoint: Path
    _numbers: Iterator[int] = field(default_factory=lambda: itertools.count(1))

    def fresh_name(self) -> str:
        """The name of a dataset that does not exist yet."""
        return f"{self.name}/t{next(self._numbers)}"

    def fresh(self, *options: str) -> str:
        """A new, empty, mounted filesystem."""
        name = self.fresh_name()
        run("zfs", "create", *options, name)
        return name

    def path(self, dataset: str) -> Path:
        """Where the filesystem is mounted, if it is and inherits its mountpoint."""
        return self.mountpoint / dataset.removeprefix(self.name).lstrip("/")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    here = Path(__file__).parent
    for item in items:
        if here in item.path.parents:
            item.add_marker(pytest.mark.zfs)


@pytest.fixture(scope="session")
def pools() -> Iterator[tuple[Pool, Pool]]:
    """Two pools, `ztsource` and `ztbackup`, gone with the session."""
    made: list[Pool] = []
    with tempfile.TemporaryDirectory(prefix="zt-pools.") as directory:
        try:
            for name in ("ztsource", "ztbackup"):
                image, mountpoint = Path(directory, name), Path(directory, "mnt", name)
                with image.open("wb") as file:
                    file.truncate(2**30)
                run("zpool", "create", "-m", str(mountpoint), name, str(image))
                made.append(Pool(name, mountpoint))
            yield made[0], made[1]
        finally:
            for pool in made:
                run("zpool", "destroy", "-f", pool.name)


@pytest.fixture
def source(pools: tuple[Pool, Pool]) -> Pool:
    return pools[0]


@pytest.fixture
def backup(pools: tuple[Pool, Pool]) -> Pool:
    return pools[1]
