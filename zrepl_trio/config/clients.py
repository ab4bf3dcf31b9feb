"""Which libraries the hooks for databases need beyond ours: optional extras of the package."""

from __future__ import annotations

import importlib
import shlex
import sys

from zrepl_trio.config.hooks import CommandHook, Hook, PostgresCheckpoint

__all__ = ["REQUIREMENTS", "missing_client"]

REQUIREMENTS = {"postgres": "psycopg[binary]>=3.2", "mysql": "PyMySQL[rsa]>=1.2"}
"""Extra to what it installs; pyproject.toml has the same."""


def missing_client(hook: Hook) -> str:
    """Why the hook cannot run with what is installed, and the command that installs it; "" when it can."""
    if isinstance(hook, CommandHook):
        return ""
    extra, module = (
        ("postgres", "psycopg") if isinstance(hook, PostgresCheckpoint) else ("mysql", "pymysql")
    )
    try:
        importlib.import_module(module)
    except ImportError as error:
        pip = f"{shlex.quote(sys.executable)} -m pip install {shlex.quote(REQUIREMENTS[extra])}"
        return (
            f"{hook.type} needs the library {module} ({error}); install it, which is zrepl-trio's extra "
            f"`{extra}`: {pip}"
        )
    return ""
