"""Makes sure that no daemon, zrepl's or ours, runs where another one is to take over."""

from __future__ import annotations

from zrepl_trio.control.api import Version
from zrepl_trio.control.client import open_control_client
from zrepl_trio.control.faults import DaemonDown, DaemonRefused
from zrepl_trio.control.socket import DaemonRunning

__all__ = ["refuse_live_daemon"]


async def refuse_live_daemon(path: str) -> None:
    """Return when nobody listens on the control socket `path`.

    Raises DaemonRunning, which says who answers there and how to stop it, and DaemonUnreachable
    when somebody may be there (no permission to ask, or no answer).
    """
    try:
        async with open_control_client(path) as client:
            found = await client.version()
    except DaemonDown:
        return
    except DaemonRefused as refused:
        raise DaemonRunning(
            f"a program that is no zrepl answers on the control socket {path}: stop it first"
        ) from refused
    raise DaemonRunning(f"{_name(found)} runs here (control socket {path}): {_stop(found)}")


def _is_zrepl(version: Version) -> bool:
    return version.runtime.startswith("go")


def _name(version: Version) -> str:
    return f"{'zrepl' if _is_zrepl(version) else 'zrepl-trio'} {version.version}"


def _stop(version: Version) -> str:
    if _is_zrepl(version):
        return "stop it first: systemctl stop zrepl"
    return "stop it first: SIGTERM, or systemctl stop the unit that runs it"
