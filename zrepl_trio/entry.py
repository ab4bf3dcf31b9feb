"""The console script: sends `stdinserver` its short way, everything else to the full command line.

sshd starts `zrepl-trio stdinserver ID` for every data request, so that path must stay as cheap as
the interpreter itself: this module imports nothing before it has looked at the arguments, not
even what looks free (`from __future__ import annotations` reads a file).
"""

import sys

__all__ = ["main", "proxy_arguments"]


def main() -> int:
    """Run the command in `sys.argv`; the exit status."""
    arguments = proxy_arguments(sys.argv[1:])
    if arguments is not None:
        from zrepl_trio.transport.stdinproxy import main as proxy

        return proxy(arguments)
    _let_ctrl_c_end_us()
    from zrepl_trio.cli.app import main as full

    full()
    return 0


def _let_ctrl_c_end_us() -> None:
    """Until a command has something to clean up (cli/running.py), and above all during the imports,
    where a KeyboardInterrupt shows as a traceback or is lost in somebody's `except`."""
    import os

    # `signal` itself costs an import of `enum`, in which Ctrl-C would still be a traceback
    from _signal import (  # type: ignore[import-not-found]
        SIGINT,
        default_int_handler,
        getsignal,
        signal,
    )

    if getsignal(SIGINT) is default_int_handler:
        signal(SIGINT, lambda _number, _frame: os._exit(130))


def proxy_arguments(argv: list[str]) -> list[str] | None:
    """What follows `stdinserver`, a `--config` before it included; None for any other command
    and for `--help`."""
    before: list[str] = []
    rest = argv
    while rest and rest[0].startswith("--config"):
        taken = 2 if rest[0] == "--config" else 1
        before += rest[:taken]
        rest = rest[taken:]
    if rest[:1] != ["stdinserver"] or "--help" in rest or "-h" in rest:
        return None
    return before + rest[1:]
