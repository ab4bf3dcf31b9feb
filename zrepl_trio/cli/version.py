"""`zrepl-trio version`."""

from __future__ import annotations

import sys
from pathlib import Path

import trio

from zrepl_trio import __version__
from zrepl_trio.cli.status import control_socket
from zrepl_trio.control.client import open_control_client
from zrepl_trio.control.faults import DaemonUnreachable
from zrepl_trio.errors import ConfigErrors

__all__ = ["version_command"]


def version_command(config: Path | None) -> None:
    """Print our version and, when a daemon answers, the daemon's."""
    print(f"client: zrepl-trio {__version__}")

    try:
        path = control_socket(config)
    except ConfigErrors:
        if config is not None:
            raise
        return  # no config in the default places: no daemon to ask

    async def ask() -> str:
        async with open_control_client(path) as client:
            return (await client.version()).version

    try:
        daemon = trio.run(ask)
    except DaemonUnreachable as error:
        print(f"zrepl-trio: {error}", file=sys.stderr)
        return
    print(f"daemon: zrepl-trio {daemon}")
    if daemon != __version__:
        print("zrepl-trio: the daemon runs another version; restart it", file=sys.stderr)
