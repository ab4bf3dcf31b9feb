"""What the demo says: pure functions from what happened to things that rich can print."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from rich.console import Group, RenderableType
from rich.rule import Rule
from rich.table import Table
from rich.text import Text

from zrepl_trio.amounts import bytes_text, duration_text, rate_text
from zrepl_trio.demo.data import TreeDigest

__all__ = ["Act", "Resumed", "ending", "introduction", "narrow_config", "resumed_text", "summary"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Act:
    """One replication that was shown: bytes of its streams, and seconds from wakeup to end."""

    name: str
    what: str
    moved: int
    took_s: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Resumed:
    """The cut transfer: its whole size, what came before the cut and after it, and over how many
    bytes the same step was sent in all."""

    whole: int
    before: int
    after: int
    cut_at: int

    @property
    def saved(self) -> int:
        """Bytes that were not sent a second time."""
        return max(0, self.whole - self.after)


def introduction(ssh: str, directory: str) -> RenderableType:
    """The opening."""
    return Group(
        Rule("zrepl-trio demo", style="cyan"),
        Text(
            "Two daemons on this machine play two hosts: `source` has data, `backup` pulls its "
            "snapshots over ssh. ZFS is emulated, the daemons, the ssh connection and the bytes "
            "are real."
        ),
        Text(),
        Text(f"ssh    {ssh}", "dim"),
        Text(f"place  {directory}", "dim"),
        Text(),
    )


def narrow_config(title: str, config: str) -> RenderableType:
    """A config file as it is, from its jobs on."""
    jobs = config[config.index("jobs:") :].rstrip()
    return Group(
        Text(title, "bold"),
        *(Text(f"  {line}", "green", overflow="fold") for line in jobs.splitlines()),
        Text(),
    )


def resumed_text(resumed: Resumed) -> RenderableType:
    """What the cut showed."""
    width = 40
    first = round(width * min(1.0, resumed.before / max(1, resumed.whole)))
    bar = Text("     ")
    bar.append("█" * first, "yellow")
    bar.append("█" * (width - first), "green")
    return Group(
        bar,
        Text.assemble(
            "     ",
            (f"{bytes_text(resumed.before)} before the cut", "yellow"),
            ", ",
            (f"{bytes_text(resumed.after)} after it", "green"),
            f", {bytes_text(resumed.whole)} in all:",
        ),
        Text(f"     {bytes_text(resumed.saved)} did not have to be sent again."),
    )


def summary(acts: Sequence[Act], source: TreeDigest, replica: TreeDigest) -> RenderableType:
    """The table at the end, and the comparison."""
    table = Table(box=None, pad_edge=False, header_style="bold")
    table.add_column("replication")
    table.add_column("sent", justify="right")
    table.add_column("time", justify="right")
    table.add_column("rate", justify="right")
    for act in acts:
        table.add_row(
            act.name,
            bytes_text(act.moved),
            duration_text(act.took_s),
            rate_text(act.moved, act.took_s),
        )
    same = source == replica
    verdict = Text("identical", "bold green") if same else Text("DIFFERENT", "bold red")
    return Group(
        Rule("what happened", style="cyan"),
        table,
        Text(),
        Text.assemble(
            f"Both sides compared: {source.files} files, {bytes_text(source.size)}: ", verdict
        ),
        Text(f"  source   sha256 {source.sha256[:32]}…", "dim"),
        Text(f"  replica  sha256 {replica.sha256[:32]}…", "dim"),
    )


def ending(total_s: float, kept: str | None) -> RenderableType:
    """Where to go next."""
    left = f"Everything is in {kept}." if kept else "Nothing is left behind."
    return Group(
        Text(),
        Text(f"Done in {duration_text(total_s)}. {left}", "bold"),
        Text(),
        Text("Next"),
        Text("  two real hosts        README.md, “Two real hosts”"),
        Text("  play with the pools   zrepl-trio sandbox DIR -- sh"),
        Text("  how it works          docs/architecture.md"),
    )
