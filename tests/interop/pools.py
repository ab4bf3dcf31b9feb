"""The `zfs` that both daemons use: real OpenZFS where there is one, else the emulated commands."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from zrepl_trio.emulate.cli import SANDBOX
from zrepl_trio.emulate.store import Store
from zrepl_trio.emulate.zfs_changes import COMMANDS


@dataclass(frozen=True)
class World:
    """Two pools, `zisource` and `zibackup`, and the environment whose PATH has their `zfs`."""

    real: bool
    environment: dict[str, str]
    mounts: Path

    def run(self, *argv: str) -> str:
        """What a command that must work printed."""
        done = subprocess.run(
            argv, env=self.environment, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, f"{argv}: {done.returncode}\n{done.stderr}"
        return done.stdout

    def value(self, prop: str, dataset: str) -> str:
        return self.run("zfs", "get", "-Hp", "-o", "value", prop, dataset).removesuffix("\n")

    def snapshots(self, dataset: str) -> dict[str, str]:
        """The dataset's snapshots, by name without the dataset, with their guids."""
        listed = self.run(
            "zfs", "list", "-Hp", "-t", "snapshot", "-o", "name,guid", "-d", "1", dataset
        )
        pairs = (line.split("\t") for line in listed.splitlines())
        return {name.partition("@")[2]: guid for name, guid in pairs}

    def snapshot_each(self, dataset: str, names: Sequence[str]) -> None:
        """Many snapshots of one dataset, one after another."""
        if self.real:
            text = "\n".join(f"zfs snapshot {dataset}@{name}" for name in names)
            self.run("sh", "-e", "-c", text)
            return
        store = Store(self.environment[SANDBOX])
        for name in names:
            COMMANDS["snapshot"](store, [f"{dataset}@{name}"])

    def files(self, dataset: str) -> Path:
        """Where the dataset's files are; mounts it, somewhere, if it is not."""
        if self.value("mountpoint", dataset) == "none":
            self.run("zfs", "set", f"mountpoint={self.mounts / dataset}", dataset)
        if self.value("mounted", dataset) != "yes":
            self.run("zfs", "mount", dataset)
        return Path(self.value("mountpoint", dataset))


def _environment(directory: Path) -> dict[str, str]:
    plain = {"PATH": os.environ["PATH"] + ":/usr/sbin:/sbin", "LC_ALL": "C"}
    if os.path.exists("/dev/zfs"):
        return plain
    # the sandbox is asked once for the environment that it gives its commands
    done = subprocess.run(
        [sys.executable, "-m", "zrepl_trio", "sandbox", directory / "sandbox", "--", "env", "-0"],
        env=plain,
        capture_output=True,
        text=True,
        check=True,
    )
    return dict(pair.split("=", 1) for pair in done.stdout.split("\0") if pair)


@contextmanager
def two_pools(directory: Path) -> Iterator[World]:
    """Both pools, destroyed at the end."""
    real = os.path.exists("/dev/zfs")
    # the emulated pools keep every mountpoint inside their own directory
    mounts = directory / ("mnt" if real else "sandbox/mnt")
    world = World(real=real, environment=_environment(directory), mounts=mounts)
    names = ("zisource", "zibackup")
    try:
        for name in names:
            device = []
            if real:
                with (directory / f"{name}.img").open("wb") as file:
                    file.truncate(2**30)
                device = ["-m", str(mounts / name), name, str(directory / f"{name}.img")]
            world.run("zpool", "create", *(device or [name]))
        yield world
    finally:
        for name in names:
            subprocess.run(
                ["zpool", "destroy", "-f", name],
                env=world.environment,
                capture_output=True,
                check=False,
            )
