"""This host's ZFS for a command that needs no daemon."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import TypeVar

from zrepl_trio.children import open_processes
from zrepl_trio.cli import running
from zrepl_trio.zfs.cli import CliZfs
from zrepl_trio.zfs.port import Zfs

__all__ = ["with_zfs"]

T = TypeVar("T")


def with_zfs(work: Callable[[Zfs], Awaitable[T]]) -> T:
    """What `work` gives, run on the `zfs` in PATH; its children end with it."""

    async def main() -> T:
        async with open_processes() as processes:
            return await work(CliZfs(processes))

    return running.run(main)
