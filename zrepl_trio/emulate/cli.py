"""Entry of the emulated `zfs` and `zpool`: `python -m zrepl_trio.emulate zfs ...`.

The pools are those of the directory that the environment variable `ZREPL_TRIO_SANDBOX` names.
"""

from __future__ import annotations

import os
from _signal import (  # type: ignore[import-not-found]  # `signal` would import enum
    SIG_DFL,
    SIGINT,
    SIGPIPE,
    signal,
)

from zrepl_trio.emulate.fault import Fault
from zrepl_trio.emulate.store import Store

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

__all__ = ["SANDBOX", "main"]

SANDBOX = "ZREPL_TRIO_SANDBOX"
VERSION = "zfs-2.3.9-emulated\nzfs-kmod-2.3.9-emulated\n"


def main(program: str, words: Sequence[str], directory: str | None = None) -> int:
    """Run a command; its exit status."""
    # As a C program: a reader that goes away ends it by signal, as real zfs.
    signal(SIGPIPE, SIG_DFL)
    signal(SIGINT, SIG_DFL)
    where = directory or os.environ.get(SANDBOX)
    if not where:
        _say(
            2,
            f"{program}: the emulation keeps its pools in $ZREPL_TRIO_SANDBOX, which is not set\n",
        )
        return 2
    try:
        run = _zfs if program == "zfs" else _zpool
        said, complaints = run(where, list(words))
    except Fault as fault:
        _say(2, fault.text + "\n" if fault.text else "")
        return fault.status
    except OSError as error:
        _say(2, f"{program}: {error.filename or where}: {error.strerror}\n")
        return 1
    _say(1, said)
    _say(2, "".join(line + "\n" for line in complaints))
    return 1 if complaints and complaints != ["no datasets available"] else 0


def _say(fd: int, text: str) -> None:
    data = memoryview(text.encode("utf-8", "surrogateescape"))
    while data:
        data = data[os.write(fd, data) :]


def _zfs(directory: str, words: list[str]) -> tuple[str, list[str]]:
    # Only what a command needs is imported: listing is what is run most.
    command = words.pop(0) if words else ""
    if command in {"version", "--version", "-V"}:
        return VERSION, []
    if command in {"list", "get"}:
        from zrepl_trio.emulate import show

        store = Store(directory)
        world = store.settled()
        act = show.list_datasets if command == "list" else show.get_properties
        return act(store, world, words)
    if command in {"send", "receive", "recv", "holds"}:
        from zrepl_trio.emulate.zfs_transfer import COMMANDS as TRANSFERS

        return TRANSFERS[command](Store(directory), words) or "", []
    from zrepl_trio.emulate.zfs_changes import COMMANDS

    return _known(COMMANDS, "zfs", command)(Store(directory), words) or "", []


def _zpool(directory: str, words: list[str]) -> tuple[str, list[str]]:
    from zrepl_trio.emulate.zpool import COMMANDS

    command = words.pop(0) if words else ""
    if command in {"version", "--version", "-V"}:
        return VERSION, []
    return _known(COMMANDS, "zpool", command)(Store(directory), words) or "", []


def _known(
    commands: dict[str, Callable[[Store, list[str]], str | None]], program: str, command: str
) -> Callable[[Store, list[str]], str | None]:
    if command in commands:
        return commands[command]
    from zrepl_trio.emulate.usage import commands_usage, is_real

    if program == "zfs" and is_real(command):
        raise Fault(f"the emulated zfs has no command '{command}'", 2)
    problem = f"unrecognized command '{command}'" if command else "missing command"
    if program == "zfs":
        raise commands_usage(problem)
    raise Fault(
        f"{problem}\nusage: zpool command args ...\n"
        f"the emulated zpool has: {', '.join(commands)}, version",
        2,
    )
