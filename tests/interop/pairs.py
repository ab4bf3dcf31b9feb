"""A source daemon and a pulling daemon, joined by sshd, each of either implementation."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

from . import counting_ssh
from .daemons import Daemon, Program, running
from .pools import World
from .sshd import Sshd, tool
from .waiting import until

IDENTITY = "backup-srv.example.com"


def _global(directory: Path) -> str:
    return f"""\
global:
  control: {{sockpath: {directory}/control}}
  serve: {{stdinserver: {{sockdir: {directory}/stdinserver}}}}
  logging: [{{type: stdout, level: info, format: human}}]
"""


def source_config(directory: Path, dataset: str) -> str:
    """A `source` job named `source` that serves what is below the dataset."""
    return f"""{_global(directory)}
jobs:
- name: source
  type: source
  serve: {{type: stdinserver, client_identities: [{IDENTITY}]}}
  filesystems: {{"{dataset}<": true}}
  snapshotting: {{type: manual}}
"""


def pull_config(directory: Path, root_fs: str, sshd: Sshd, ssh_command: Path) -> str:
    """A `pull` job named `pull` that destroys nothing."""
    options = "".join(f"    - {option}\n" for option in sshd.options)
    return f"""{_global(directory)}
jobs:
- name: pull
  type: pull
  connect:
    type: ssh+stdinserver
    host: 127.0.0.1
    user: {sshd.user}
    port: {sshd.port}
    identity_file: {sshd.identity_file}
    ssh_command: {ssh_command}
    dial_timeout: 30s
    options:
{options}  root_fs: {root_fs}
  interval: manual
  recv: {{placeholder: {{encryption: inherit}}}}
  pruning:
    keep_sender: [{{type: regex, regex: ".*"}}]
    keep_receiver: [{{type: regex, regex: ".*"}}]
"""


@dataclass
class Pair:
    """Both daemons up; `dataset` on the source is to appear as `replica`."""

    world: World
    source: Daemon
    puller: Daemon
    dataset: str
    replica: str
    line: Path
    _start: Callable[[str], Daemon]

    def restart(self, role: str) -> None:
        """After `source` or `puller` was killed."""
        setattr(self, role, self._start(role))

    def pull(self) -> dict[str, object]:
        return self.puller.pull("pull")

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
        self.puller.wake("pull")
        until((self.line / "stalled").exists, f"{count} bytes come over the line")
        yield
        (self.line / "stalled").unlink(missing_ok=True)

    def received(self) -> list[int]:
        return counting_ssh.received(self.line)


@contextmanager
def joined(
    world: World,
    sshd: Sshd,
    directory: Path,
    name: str,
    *,
    source: Program,
    proxy: Program,
    puller: Program,
) -> Iterator[Pair]:
    """A pair on fresh datasets named `name` in both pools; both daemons are gone at the end."""
    dataset, root_fs = f"zisource/{name}", f"zibackup/{name}"
    for parent in (dataset, root_fs):
        world.run("zfs", "create", parent)
    line = directory / "line"
    at = {role: directory / role for role in ("source", "puller")}
    for path in (line, *at.values()):
        path.mkdir(mode=0o700)
    (at["source"] / "stdinserver").mkdir(mode=0o700)
    ssh_command = counting_ssh.script(line, tool("ssh"))
    configs = {
        "source": source_config(at["source"], dataset),
        "puller": pull_config(at["puller"], root_fs, sshd, ssh_command),
    }
    for role, config in configs.items():
        (at[role] / "zrepl.yml").write_text(config)
    sshd.force(proxy.stdinserver(at["source"] / "zrepl.yml", IDENTITY))
    programs = {"source": source, "puller": puller}
    with ExitStack() as stack:

        def start(role: str) -> Daemon:
            return stack.enter_context(running(programs[role], at[role], world.environment))

        yield Pair(
            world,
            source=start("source"),
            puller=start("puller"),
            dataset=dataset,
            replica=f"{root_fs}/{dataset}",
            line=line,
            _start=start,
        )
