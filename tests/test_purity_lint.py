"""Time, randomness, ids, threads and children come into the code as arguments, so that a
simulator can own them. Only the modules listed here may reach for them."""

from __future__ import annotations

import ast
from fnmatch import fnmatchcase
from itertools import accumulate
from pathlib import Path

import pytest

import zrepl_trio

PACKAGE = Path(zrepl_trio.__file__).parent

FORBIDDEN_IMPORTS = {
    "_posixsubprocess",
    "_thread",
    "anyio",
    "asyncio",
    "concurrent",
    "multiprocessing",
    "pty",
    "random",
    "secrets",
    "subprocess",
    "threading",
    "uuid",
}
FORBIDDEN_NAMES = (
    "date.today",
    "datetime.now",
    "datetime.today",
    "datetime.utcnow",
    "os.exec*",
    "os.fork*",
    "os.getrandom",
    "os.popen",
    "os.posix_spawn*",
    "os.spawn*",
    "os.system",
    "os.urandom",
    "ssl.RAND_*",
    "time.*",
    "trio.from_thread",
    "trio.lowlevel.open_process",
    "trio.lowlevel.spawn_system_task",
    "trio.lowlevel.start_thread_soon",
    "trio.run",
    "trio.run_process",
    "trio.to_thread",
)
"""As shell patterns; what is below such a name is meant too."""

ALLOWED: dict[str, set[str]] = {
    # the real clock, the real children
    "clock.py": {"datetime.now"},
    "children.py": {"subprocess", "trio.lowlevel.open_process"},
    # every command's event loop, for Ctrl-C's sake
    "cli/running.py": {"trio.run"},
    # bulk data between real fds; a simulation's streams have none
    "mover.py": {"time.monotonic", "time.sleep", "trio.to_thread"},
    # a log's reader that stops reading holds up a thread, not the event loop
    "logs/queue.py": {"threading"},
    "logs/writer.py": {"threading", "trio.to_thread"},
    # a database's client, which blocks; a simulation has no such hooks
    "snapshots/mysql_hook.py": {"trio.to_thread"},
    # a simulation's own event loop; all its chance comes from its seed
    "simulate/determinism.py": {"random", "trio.run"},
    "simulate/pools.py": {"random"},
    "simulate/simulation.py": {"random"},
    # a job's link to its peer, which it is given ready-made
    "transport/ssh.py": {"trio.run_process"},
}
# Programs of their own, run as other processes; no job code imports them.
PROGRAMS = ("emulate/", "demo/", "cli/sandbox.py")


def dotted(node: ast.expr) -> str:
    match node:
        case ast.Name(id=name):
            return name
        case ast.Attribute(value=value, attr=attr):
            return f"{dotted(value)}.{attr}"
        case _:
            return ""


def forbidden(full: str) -> str:
    """The forbidden name that `full` is or lies below, else empty."""
    full = full.replace("datetime.datetime.", "datetime.").replace("datetime.date.", "date.")
    for name in accumulate(full.split("."), "{}.{}".format):
        if any(fnmatchcase(name, pattern) for pattern in FORBIDDEN_NAMES):
            return name
    return ""


def findings(source: str) -> set[str]:
    """Forbidden imports and names in `source`; imported names are followed to where they're from."""
    tree = ast.parse(source)
    origin: dict[str, str] = {}
    found = set()
    for node in ast.walk(tree):
        match node:
            case ast.Import(names=names):
                for alias in names:
                    top = alias.name.partition(".")[0]
                    origin[alias.asname or top] = alias.name if alias.asname else top
                    found |= {top} & FORBIDDEN_IMPORTS | {forbidden(alias.name)}
            case ast.ImportFrom(module=str(module), names=names, level=0):
                found |= {module.partition(".")[0]} & FORBIDDEN_IMPORTS
                for alias in names:
                    origin[alias.asname or alias.name] = f"{module}.{alias.name}"
                    if alias.name == "*" and any(
                        pattern.startswith(f"{module}.") for pattern in FORBIDDEN_NAMES
                    ):
                        found.add(f"{module}.*")
                    else:
                        found.add(forbidden(f"{module}.{alias.name}"))
            case _:
                pass
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute | ast.Name):
            first, _, rest = dotted(node).partition(".")
            if first in origin:
                found.add(forbidden(origin[first] + (f".{rest}" if rest else "")))
    return found - {""}


def modules() -> list[str]:
    names = sorted(str(path.relative_to(PACKAGE)) for path in PACKAGE.rglob("*.py"))
    return [name for name in names if not name.startswith(PROGRAMS)]


@pytest.mark.parametrize("module", modules())
def test_module_is_given_what_it_must_not_take(module: str) -> None:
    found = findings((PACKAGE / module).read_text())
    assert found <= ALLOWED.get(module, set()), (
        "take it as an argument, see clock.py and process.py"
    )


@pytest.mark.parametrize("module", sorted(ALLOWED))
def test_the_allow_list_has_no_dead_entry(module: str) -> None:
    assert findings((PACKAGE / module).read_text()) == ALLOWED[module]


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        ("import time\ntime.time()", {"time.time"}),
        ("import time as t\nt.monotonic()", {"time.monotonic"}),
        ("from time import time\ntime()", {"time.time"}),
        ("from datetime import datetime\ndatetime.now()", {"datetime.now"}),
        ("import datetime\ndatetime.datetime.now()", {"datetime.now"}),
        ("import datetime as dt\nx = dt.date.today", {"date.today"}),
        ("from trio import to_thread\nto_thread.run_sync(f)", {"trio.to_thread"}),
        ("import trio\ntrio.to_thread.run_sync(f)", {"trio.to_thread"}),
        ("def f():\n  import random", {"random"}),
        ("import time\ntime.monotonic_ns()", {"time.monotonic_ns"}),
        ("import time\ntime.clock_gettime(1)", {"time.clock_gettime"}),
        ("import time\ntime.localtime()", {"time.localtime"}),
        ("from time import *\nmonotonic()", {"time.*"}),
        ("from trio import *", {"trio.*"}),
        ("import anyio\nanyio.run_process(c)", {"anyio"}),
        ("from anyio import to_thread", {"anyio"}),
        ("import trio.to_thread", {"trio.to_thread"}),
        ("import trio\ntrio.lowlevel.start_thread_soon(f, g)", {"trio.lowlevel.start_thread_soon"}),
        ("from trio.lowlevel import open_process as o", {"trio.lowlevel.open_process"}),
        ("import os\nos.execl(p, a)\nos.forkpty()", {"os.execl", "os.forkpty"}),
        ("from os import posix_spawnp", {"os.posix_spawnp"}),
        ("import os.path\nfrom os import *", {"os.*"}),
        ("from math import *\nimport timeit.time", set()),
        ("from concurrent.futures import ThreadPoolExecutor", {"concurrent"}),
        ("import trio\ntrio.sleep(1)\nself.random = 1\nclock.now()", set()),
    ],
)
def test_the_lint_sees(source: str, expected: set[str]) -> None:
    assert findings(source) == expected
