"""`python -m benches [NAME…]`: all measurements, or those named; exit 1 when a bar is missed."""

from __future__ import annotations

import importlib
import os
import platform
import signal
import sys

from benches.measure import report

BENCHES = {
    "relay": "framed relay through two processes, against cat | cat",
    "pull": "the whole pull through sshd, against ssh | cat",
    "proxy": "start of the forced command",
    "catchup": "many small snapshots to catch up",
    "scale": "many filesystems and nothing new",
    "setup": "connection set-up beside silent clients",
    "beside": "side by side with a zrepl 0.7 (ZREPL=/path/to/zrepl)",
    "simulate": "a simulated year, and cycles by the wire",
}


def main(names: list[str]) -> int:
    unknown = set(names) - set(BENCHES)
    if unknown:
        print(f"no such bench: {', '.join(sorted(unknown))}; there are {', '.join(BENCHES)}")
        return 2
    print(
        f"Python {platform.python_version()}, Linux {platform.release()},"
        f" {os.cpu_count()} CPUs, load {os.getloadavg()[0]:.1f} at the start"
    )
    reached = [
        report(title, importlib.import_module(f"benches.{name}").measure())
        for name, title in BENCHES.items()
        if not names or name in names
    ]
    return 0 if all(reached) else 1


# ended as by Ctrl-C, so that no daemon and no sshd stays behind
signal.signal(signal.SIGINT, signal.default_int_handler)
signal.signal(signal.SIGTERM, lambda _number, _frame: signal.raise_signal(signal.SIGINT))
try:
    sys.exit(main(sys.argv[1:]))
except* KeyboardInterrupt:
    sys.exit("ended early; nothing was left running")
