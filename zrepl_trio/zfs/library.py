"""Bookmarks by OpenZFS's C library, where the `zfs` command takes one at a time.

`zfs bookmark` makes one bookmark and `zfs destroy` destroys one: a process each, and a wait for the pool
to write a transaction out each. The library does those of a pool by one call. It is found
by what the `zfs` program itself is linked with, so that it is never another OpenZFS that answers than the one that
all the rest asks, and none where `zfs` is a script. The call is made by a child (`zfs.library_program`).
"""

from __future__ import annotations

import json
import re
import shutil
import sys
from collections.abc import Collection, Mapping
from pathlib import Path

import structlog
import trio

from zrepl_trio.errors import ZfsError
from zrepl_trio.process import Completed, Processes
from zrepl_trio.zfs import library_program
from zrepl_trio.zfs.blocked import check_not_running
from zrepl_trio.zfs.failures import idle_too_long

__all__ = ["Library", "soname_in"]

log = structlog.get_logger()

_SONAME = re.compile(rb"\0(libzfs_core\.so\.[0-9]+)\0")
_ELF = b"\x7fELF"
_MOST_BYTES = 32 << 20


def soname_in(program: bytes) -> str | None:
    """The libzfs_core that an executable is linked with; None when with none, or when it is a script. Pure."""
    found = _SONAME.search(program) if program.startswith(_ELF) else None
    return found[1].decode() if found is not None else None


class Library:
    """The library of the program `zfs`; its children are run by `processes`, and killed when they take longer
    than `command_s` seconds."""

    def __init__(self, processes: Processes, *, zfs: str, command_s: float) -> None:
        self._processes = processes
        self._zfs = zfs
        self._command_s = command_s
        self._soname: str | None = None
        self._looked = False
        self._looking = trio.Lock()

    async def there(self) -> bool:
        """Whether it can be loaded; looked for once a process."""
        async with self._looking:
            if not self._looked:
                self._soname = await self._find()
                self._looked = True
        return self._soname is not None

    async def change(self, make: Mapping[str, tuple[str, int]], destroy: Collection[str]) -> None:
        """Make bookmarks of snapshots, each given with its guid, then destroy bookmarks, all by their full names. One
        of another guid goes again; unless all are made, none is destroyed. ZfsError says what was refused, and why."""
        if not await self.there():
            raise ZfsError("there is no libzfs_core")
        done = await self._run(make, destroy)
        if done.status != 0:
            said = done.stderr.decode("utf-8", "replace").strip()
            raise ZfsError(f"libzfs_core: {said or f'ended with status {done.status}'}")

    async def _find(self) -> str | None:
        program = shutil.which(self._zfs)
        if program is None:
            return None
        try:
            async with await trio.open_file(program, "rb") as file:
                self._soname = soname_in(await file.read(_MOST_BYTES))
            if self._soname is None:
                return None
            done = await self._run({}, ())
        except (OSError, ZfsError) as error:
            log.info("bookmarks go one by one", program=program, err=str(error))
            return None
        if done.status != 0:
            said = done.stderr.decode("utf-8", "replace").strip()
            log.info("bookmarks go one by one", program=program, err=said)
            return None
        return self._soname

    async def _run(
        self, make: Mapping[str, tuple[str, int]], destroy: Collection[str]
    ) -> Completed:
        asked = json.dumps({"make": dict(make), "destroy": list(destroy)}).encode()
        program = str(Path(library_program.__file__))
        words = (sys.executable, "-I", "-S", program, self._soname or "")
        check_not_running(self._processes, words)
        try:
            with trio.fail_after(self._command_s):
                return await self._processes.run(words, stdin=asked)
        except trio.TooSlowError:
            raise idle_too_long(words, self._command_s, dataset="") from None
        except OSError as error:
            raise ZfsError(f"cannot start {sys.executable}: {error}") from error
