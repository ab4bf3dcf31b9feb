"""Two daemons, of either implementation, joined by any transport: one pulls, or one pushes.

They may have several lanes: each is a job of either, with datasets and a link of their own.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.support.hosts import scratch

from .daemons import Daemon, Program, ours, running
from .line import is_open, received
from .links import IDENTITY, Link, linked
from .pools import World
from .sshd import Sshd
from .waiting import LIMIT_S, until


def _global(directory: Path) -> str:
    return f"""\
global:
  control: {{sockpath: {directory}/control}}
  serve: {{stdinserver: {{sockdir: {directory}/stdinserver}}}}
  logging: [{{type: stdout, level: info, format: human}}]
jobs:
"""


@dataclass(frozen=True)
class Lane:
    """What one job of each daemon does; with its name, the jobs are `active-NAME` and `passive-NAME`.

    YAML, with DATASET for the sender's dataset: `filesystems`, `send`, `keep_sender`, `keep_receiver`,
    and `recv.target`. `create` are the options that the sender's dataset is made with.
    """

    name: str = ""
    filesystems: str = '{"DATASET<": true}'
    send: str = ""
    keep_sender: str = '[{type: regex, regex: ".*"}]'
    keep_receiver: str = '[{type: regex, regex: ".*"}]'
    target: str = ""
    protection: str = ""
    create: tuple[str, ...] = ()

    def job(self, role: str) -> str:
        return f"{role}-{self.name}" if self.name else role

    @property
    def identity(self) -> str:
        return f"{self.name}.{IDENTITY}" if self.name else IDENTITY


def _sending(lane: Lane, dataset: str) -> str:
    send = f"  send: {lane.send}\n" if lane.send else ""
    return f"""\
  filesystems: {lane.filesystems.replace("DATASET", dataset)}
  snapshotting: {{type: manual}}
{send}"""


def _receiving(lane: Lane, dataset: str, root_fs: str) -> str:
    more = f", target: {lane.target.replace('DATASET', dataset)}" if lane.target else ""
    return f"""\
  root_fs: {root_fs}
  recv: {{placeholder: {{encryption: inherit}}{more}}}
"""


def jobs(link: Link, lane: Lane, dataset: str, root_fs: str, *, pushes: bool) -> tuple[str, str]:
    """The lane's passive job and its active one."""
    passive = (
        f"- name: {lane.job('passive')}\n  type: {'sink' if pushes else 'source'}\n"
        f"  serve: {link.serve}\n"
    )
    active = (
        f"- name: {lane.job('active')}\n  type: {'push' if pushes else 'pull'}\n"
        f"  connect: {link.connect}\n"
        f"  pruning: {{keep_sender: {lane.keep_sender}, keep_receiver: {lane.keep_receiver}}}\n"
    )
    if lane.protection:
        kind = lane.protection
        active += f"  replication: {{protection: {{initial: {kind}, incremental: {kind}}}}}\n"
    sending = _sending(lane, dataset)
    receiving = _receiving(lane, dataset, root_fs)
    if pushes:
        return passive + receiving, active + sending
    return passive + sending, f"{active}  interval: manual\n{receiving}"


@dataclass
class Ends:
    """Both daemons, which are one and the same if the transport is local."""

    environment: dict[str, str]
    programs: dict[str, Program]
    at: dict[str, Path]
    sshd: Sshd | None
    stack: ExitStack
    identities: dict[Path, str] = field(default_factory=dict)  # by the key of each
    daemons: dict[str, Daemon] = field(default_factory=dict)

    def let_in(self, proxy: Program) -> None:
        """From now on logins run this program's `stdinserver`."""
        assert self.sshd is not None
        config = self.at["passive"] / "zrepl.yml"
        self.sshd.force_each(
            {key: proxy.stdinserver(config, who) for key, who in self.identities.items()}
        )

    def start(self, role: str) -> None:
        """After it ended, or was killed."""
        self.daemons[role] = self.stack.enter_context(
            running(self.programs[role], self.at[role], self.environment)
        )

    def stop(self, role: str) -> None:
        """As an admin does; it must end well."""
        process = self.daemons[role].process
        process.terminate()
        status = process.wait(60)
        assert status == 0, f"{self.programs[role].name} ended with {status}"


@dataclass
class Pair:
    """A lane of two daemons that are up; `dataset` is to appear as `replica`."""

    world: World
    lane: Lane
    dataset: str
    replica: str
    line: Path
    pushes: bool
    ends: Ends

    @property
    def passive(self) -> Daemon:
        return self.ends.daemons["passive"]

    @property
    def active(self) -> Daemon:
        return self.ends.daemons["active"]

    @property
    def sender(self) -> str:
        """The role of the side that sends."""
        return "active" if self.pushes else "passive"

    @property
    def receiver(self) -> str:
        return "passive" if self.pushes else "active"

    def job(self, role: str) -> str:
        """Its job's name."""
        return self.lane.job(role)

    def is_theirs(self, role: str) -> bool:
        """Whether that side is a zrepl."""
        return self.ends.programs[role].name == "zrepl"

    def restart(self, role: str) -> None:
        """After `passive` or `active` was killed."""
        self.ends.start(role)

    def reconfigure(self, role: str, old: str, new: str) -> None:
        """Stop it, change its config, start it."""
        self.ends.stop(role)
        config = self.ends.at[role] / "zrepl.yml"
        text = config.read_text()
        assert old in text
        config.write_text(text.replace(old, new))
        self.ends.start(role)

    def replicate(self, limit_s: float = LIMIT_S) -> dict[str, Any]:
        return self.active.replicate(self.job("active"), limit_s)

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
        self.active.wake(self.job("active"))
        until((self.line / "stalled").exists, f"{count} bytes come over the line")
        try:
            yield
        finally:
            (self.line / "stalled").unlink(missing_ok=True)

    def received(self) -> list[int]:
        """The bytes of each connection, once all have ended (a run's report comes before that)."""
        until(lambda: not is_open(self.line), "all connections end")
        return received(self.line)


@contextmanager
def lanes(
    world: World,
    sshd: Sshd | None,
    directory: Path,
    name: str,
    wanted: Sequence[Lane],
    *,
    passive: Program,
    proxy: Program,
    active: Program,
    transport: str = "ssh",
    pushes: bool = False,
) -> Iterator[Mapping[str, Pair]]:
    """The lanes by name, on fresh datasets below `name` in both pools; both daemons are gone at the end.

    `sshd` is needed for ssh alone.
    """
    at = {role: directory / role for role in ("passive", "active")}
    if transport == "local":
        at["active"] = at["passive"]
    for path in dict.fromkeys(at.values()):
        path.mkdir(mode=0o700)
        (path / "stdinserver").mkdir(mode=0o700)
        (path / "zrepl.yml").write_text(_global(path))
    made: dict[str, Pair] = {}
    with ExitStack() as stack:
        ends = Ends(world.environment, {"passive": passive, "active": active}, at, sshd, stack)
        if any(lane.name for lane in wanted):
            for pool in ("zisource", "zibackup"):
                world.run("zfs", "create", f"{pool}/{name}")
        for lane in wanted:
            below = f"{name}/{lane.name}" if lane.name else name
            dataset, root_fs = f"zisource/{below}", f"zibackup/{below}"
            world.run("zfs", "create", *lane.create, dataset)
            world.run("zfs", "create", root_fs)
            line = directory / "line" / lane.name
            line.mkdir(mode=0o700, parents=True, exist_ok=True)
            key = None
            if sshd is not None:
                key = sshd.key(lane.name) if lane.name else sshd.identity_file
                ends.identities[key] = lane.identity
            link = stack.enter_context(
                linked(transport, line, sshd, pushes=pushes, identity=lane.identity, key=key)
            )
            texts = jobs(link, lane, dataset, root_fs, pushes=pushes)
            for role, text in zip(at, texts, strict=True):
                with (at[role] / "zrepl.yml").open("a") as file:
                    file.write(text)
            replica = f"{root_fs}/{lane.identity}/{dataset}" if pushes else f"{root_fs}/{dataset}"
            made[lane.name] = Pair(world, lane, dataset, replica, line, pushes, ends)
        if transport == "ssh":
            ends.let_in(proxy)
        ends.start("passive")
        if transport == "local":
            ends.daemons["active"] = ends.daemons["passive"]
        else:
            ends.start("active")
        yield made


@contextmanager
def joined(
    world: World,
    sshd: Sshd,
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
    """A pair of one lane, whose jobs destroy nothing; they are named `active` and `passive`."""
    with (
        scratch() as directory,
        lanes(
            world,
            sshd,
            directory,
            name,
            [Lane(target=target, protection=protection)],
            passive=passive,
            proxy=proxy,
            active=active,
            transport=transport,
            pushes=pushes,
        ) as made,
    ):
        yield made[""]


def both_ours(
    world: World,
    sshd: Sshd,
    name: str,
    *,
    transport: str = "ssh",
    pushes: bool = False,
    target: str = "",
    protection: str = "",
) -> AbstractContextManager[Pair]:
    """`joined`, of two daemons of ours."""
    us = ours()
    return joined(
        world,
        sshd,
        name,
        passive=us,
        proxy=us,
        active=us,
        transport=transport,
        pushes=pushes,
        target=target,
        protection=protection,
    )
