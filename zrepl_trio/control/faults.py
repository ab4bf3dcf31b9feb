"""How asking a daemon can fail, apart from the client so that who only names them imports no HTTP."""

from __future__ import annotations

from zrepl_trio.errors import ZreplError

__all__ = ["DaemonDown", "DaemonRefused", "DaemonUnreachable"]


class DaemonUnreachable(ZreplError):
    """No daemon answers on the control socket, or we may not ask it."""


class DaemonDown(DaemonUnreachable):
    """Nobody listens on the control socket."""


class DaemonRefused(ZreplError):
    """The daemon answered, and says no; the text is the daemon's."""
