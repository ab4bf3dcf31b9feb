"""A directory with emulated pools, and `zfs` and `zpool` programs that work on them."""

from __future__ import annotations

import os
import shlex
import sys
from collections.abc import Mapping
from pathlib import Path

from zrepl_trio.emulate.cli import SANDBOX
from zrepl_trio.emulate.store import PRIVATE

__all__ = ["Sandbox"]

_SCRIPT = """\
import sys
sys.pycache_prefix = {pycache_prefix!r}
sys.path.insert(0, sys.argv[1])
from zrepl_trio.emulate.cli import main
sys.exit(main(sys.argv[2], sys.argv[4:], sys.argv[3]))
"""

# -I and -S: no site-packages are needed, and looking for them takes longer than all the rest. The
# directory is written in, so that the programs work without the variable too, as with ssh.
_WRAPPER = """\
#!/bin/sh
{variable}={directory}
export {variable}
exec {python} -I -S {script} {package} {program} {directory} "$@"
"""


class Sandbox:
    """Emulated pools in `directory`; made there if it is new. Nothing runs between commands, so there
    is nothing to close: removing the directory removes it all."""

    def __init__(self, directory: Path) -> None:
        self.directory = Path(directory).resolve()
        self.bin = self.directory / PRIVATE / "bin"
        self.bin.mkdir(parents=True, exist_ok=True)
        script = self.bin / "emulate.py"
        # -S leaves out who sets this, too; compiled modules are to be shared, not written elsewhere.
        _write(script, _SCRIPT.format(pycache_prefix=sys.pycache_prefix), mode=0o644)
        for program in ("zfs", "zpool"):
            words = {
                "variable": SANDBOX,
                "directory": shlex.quote(str(self.directory)),
                "python": shlex.quote(sys.executable),
                "script": shlex.quote(str(script)),
                "package": shlex.quote(str(Path(__file__).resolve().parents[2])),
                "program": program,
            }
            _write(self.bin / program, _WRAPPER.format(**words), mode=0o755)

    @property
    def zfs(self) -> str:
        """Path of the emulated zfs."""
        return str(self.bin / "zfs")

    @property
    def zpool(self) -> str:
        """Path of the emulated zpool."""
        return str(self.bin / "zpool")

    def environment(self, base: Mapping[str, str]) -> dict[str, str]:
        """`base` with our programs first in PATH."""
        path = base.get("PATH") or os.defpath
        return {**base, "PATH": f"{self.bin}{os.pathsep}{path}", SANDBOX: str(self.directory)}


def _write(path: Path, text: str, *, mode: int) -> None:
    """Replace it whole, as another process may be about to run it."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    temporary.write_text(text)
    temporary.chmod(mode)
    temporary.rename(path)
