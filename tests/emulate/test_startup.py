"""The emulated commands start fast: they are run thousands of times in a test run."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

SLOW = {"re", "enum", "typing", "dataclasses", "json", "inspect", "collections", "functools"}


def test_no_slow_module_is_imported() -> None:
    names = [
        path.stem
        for path in (Path(__file__).parents[2] / "zrepl_trio/emulate").glob("*.py")
        if path.stem not in {"__init__", "__main__", "sandbox"}
    ]
    code = (
        f"import sys; sys.path.insert(0, {str(Path(__file__).parents[2])!r})\n"
        f"import {', '.join('zrepl_trio.emulate.' + name for name in names)}\n"
        "print(' '.join(sys.modules))"
    )
    loaded = subprocess.run(
        [sys.executable, "-I", "-S", "-c", code], capture_output=True, text=True, check=True
    ).stdout.split()
    assert "zrepl_trio.emulate.cli" in loaded
    assert SLOW.intersection(loaded) == set()
