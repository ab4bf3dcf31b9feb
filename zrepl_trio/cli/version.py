"""`zrepl-trio version`."""

from __future__ import annotations

import sys
from pathlib import Path

from zrepl_trio import __version__
from zrepl_trio.cli import running
from zrepl_trio.cli.exitcodes import UsageRefused
from zrepl_trio.cli.status import control_socket
from zrepl_trio.control.client import open_control_client
from zrepl_trio.control.faults import DaemonUnreachable
from zrepl_trio.errors import ConfigErrors

__all__ = ["version_command"]


def version_command(config: Path | None, show: str | None) -> None:
    """Print our version and, when a daemon answers, the daemon's; `show` is `client` or `daemon`
    for that one alone, whose silence is then an error."""
    if show not in {None, "client", "daemon"}:
        raise UsageRefused(f"version --show {show}: nothing to show (accepted: client, daemon)")
    if show != "daemon":
        print(f"client: zrepl-trio {__version__}")
    if show == "client":
        return
    try:
        path = control_socket(config)
    except ConfigErrors:
        if config is not None or show is not None:
            raise
        return  # no config in the default places: no daemon to ask

    async def ask() -> str:
        async with open_control_client(path) as client:
            return (await client.version()).version

    try:
        daemon = running.run(ask)
    except DaemonUnreachable as error:
        if show is not None:
            raise
        print(f"zrepl-trio: {error}", file=sys.stderr)
        return
    print(f"daemon: zrepl-trio {daemon}")
    if show is None and daemon != __version__:
        print("zrepl-trio: the daemon runs another version; restart it", file=sys.stderr)
