"""Two daemons, of either implementation, joined by any transport: one pulls, or one pushes."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

from .daemons import Daemon, Program, running
from .line import is_open, received
from .links import IDENTITY, Link, linked
from .pools import World
from .sshd import Sshd
from .waiting import until


def _global(directory: Path) -> str:
    return f"""\
global:
  control: {{sockpath: {directory}/control}}
  serve: {{stdinserver: {{sockdir: {directory}/stdinserver}}}}
  logging: [{{type: stdout, level: info, format: human}}]
jobs:
"""


def _sending(dataset: str) -> str:
    return f"""\
  filesystems: {{"{dataset}<": true}}
  snapshotting: {{type: manual}}
"""


def _receiving(root_fs: str, target: str) -> str:
    more = f", target: {target}" if target else ""
    return f"""\
  root_fs: {root_fs}
  recv: {{placeholder: {{encryption: inherit}}{more}}}
"""


_KEEP = """\
  pruning:
    keep_sender: [{type: regex, regex: ".*"}]
    keep_receiver: [{type: regex, regex: ".*"}]
"""


def jobs(
    link: Link,
    dataset: str,
    root_fs: str,
    *,
    pushes: bool,
    target: str = "",
    protection: str = "",
) -> tuple[str, str]:
    """The passive job and the active one, which destroy nothing; the active one is named `active`."""
    passive = f"- name: passive\n  type: {'sink' if pushes else 'source'}\n  serve: {link.serve}\n"
    active = f"- name: active\n  type: {'push' if pushes else 'pull'}\n  connect: {link.connect}\n"
    if protection:
        active += (
            f"  replication: {{protection: {{initial: {protection}, incremental: {protection}}}}}\n"
        )
    if pushes:
        return passive + _receiving(root_fs, target), active + _sending(dataset) + _KEEP
    active += f"  interval: manual\n{_receiving(root_fs, target)}{_KEEP}"
    return passive + _sending(dataset), active


@dataclass
class Pair:
    """Both daemons up, one and the same if the transport is local; `dataset` is to appear as
    `replica`."""

    world: World
    passive: Daemon
    active: Daemon
    dataset: str
    replica: str
    line: Path
    pushes: bool
    _start: Callable[[str], Daemon]

    def restart(self, role: str) -> None:
        """After `passive` or `active` was killed."""
        setattr(self, role, self._start(role))

    def replicate(self) -> dict[str, object]:
        return self.active.replicate("active")

    def cut_at(self, count: int) -> None:
        """The next connection that brings this many bytes is cut there."""
        (self.line / "cut").write_text(str(count))

    @property
    def cut_is_due(self) -> bool:
        return (self.line / "cut").exists()

    @contextmanager
    def stalled_at(self, count: int) -> Iterator[None]:
        """Inside, the next connection that brings this many bytes stands still there."""
        (self.line / "stall").write_text(str(count))
        self.active.wake("active")
        until((self.line / "stalled").exists, f"{count} bytes come over the line")
        yield
        (self.line / "stalled").unlink(missing_ok=True)

    def received(self) -> list[int]:
        """The bytes of each connection, once all have ended (a run's report comes before that)."""
        until(lambda: not is_open(self.line), "all connections end")
        return received(self.line)


@contextmanager
def joined(
    world: World,
    sshd: Sshd,
    directory: Path,
    name: str,
    *,
    passive: Program,
    proxy: Program,
    active: Program,
    transport: str = "ssh",
    pushes: bool = False,
    target: str = "",
    protection: str = "",
) -> Iterator[Pair]:
    """A pair on fresh datasets named `name` in both pools; both daemons are gone at the end.

    `target` is the receiver's `recv.target` in YAML, with DATASET for the sender's dataset.
    """
    dataset, root_fs = f"zisource/{name}", f"zibackup/{name}"
    for parent in (dataset, root_fs):
        world.run("zfs", "create", parent)
    line = directory / "line"
    at = {role: directory / role for role in ("passive", "active")}
    if transport == "local":
        at["active"] = at["passive"]
    for path in {line, *at.values()}:
        path.mkdir(mode=0o700)
    (at["passive"] / "stdinserver").mkdir(mode=0o700)
    programs = {"passive": passive, "active": active}
    with ExitStack() as stack:
        link = stack.enter_context(linked(transport, line, sshd, pushes=pushes))
        target = target.replace("DATASET", dataset)
        texts = jobs(link, dataset, root_fs, pushes=pushes, target=target, protection=protection)
        for role, text in zip(at, texts, strict=True):
            config = at[role] / "zrepl.yml"
            if not config.exists():
                config.write_text(_global(at[role]))
            with config.open("a") as file:
                file.write(text)
        sshd.force(proxy.stdinserver(at["passive"] / "zrepl.yml", IDENTITY))

        def start(role: str) -> Daemon:
            return stack.enter_context(running(programs[role], at[role], world.environment))

        first = start("passive")
        yield Pair(
            world,
            passive=first,
            active=first if transport == "local" else start("active"),
            dataset=dataset,
            replica=f"{root_fs}/{IDENTITY}/{dataset}" if pushes else f"{root_fs}/{dataset}",
            line=line,
            pushes=pushes,
            _start=start,
        )
