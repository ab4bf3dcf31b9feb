"""A `zfs` before the real one in the PATH of both daemons, which a test makes slow, or fail.

A file `COMMAND.LANE` in its directory, such as `send.big`, is shell that is run before, or instead of, the real
command on a dataset whose last component is LANE.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

from .pools import World

_ZFS = """\
#!/bin/sh
real={real}
command=${{1%eive}}
command=${{command%v}}
case $command in rec) command=recv ;; esac
for fault in {directory}/$command.*; do
  [ -e "$fault" ] || continue
  case " $* " in
    *" -n"*) ;;
    *"/${{fault##*.}}@"* | *"/${{fault##*.}}#"* | *"/${{fault##*.}} "*) . "$fault" ;;
  esac
done
exec "$real" "$@"
"""
SEND_FAILS = """\
"$real" "$@" | head -c 1048576
echo "cannot send: it was made to fail" >&2
exit 1
"""
RECV_FAILS = """\
head -c 1048576 > /dev/null
echo "cannot receive: it was made to fail" >&2
exit 1
"""
SEND_HANGS = """\
"$real" "$@" | head -c 1048576
exec sleep 600
"""
RECV_HANGS = """\
head -c 1048576 > /dev/null
exec sleep 600
"""
FAILS = """echo "cannot $command: it was made to fail" >&2
exit 1
"""


@dataclass(frozen=True)
class Faults:
    """`world` is as the other, with the `zfs` that `directory` has."""

    world: World
    directory: Path

    @contextmanager
    def of(self, command: str, lane: str, shell: str) -> Iterator[None]:
        """Inside, that command on that lane does this."""
        path = self.directory / f"{command}.{lane}"
        path.write_text(shell)
        try:
            yield
        finally:
            path.unlink()


def faulty(world: World, directory: Path) -> Faults:
    real = shutil.which("zfs", path=world.environment["PATH"])
    assert real is not None
    script = directory / "zfs"
    script.write_text(_ZFS.format(real=real, directory=directory))
    script.chmod(0o755)
    path = f"{directory}:{world.environment['PATH']}"
    return Faults(replace(world, environment=world.environment | {"PATH": path}), directory)
