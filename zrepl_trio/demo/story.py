"""The demo's acts, in order: full, incremental, cut and resumed, compared."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import trio
from rich.console import Console
from rich.text import Text

from zrepl_trio.amounts import bytes_text, duration_text
from zrepl_trio.control.api import FilesystemModel, JobModel
from zrepl_trio.demo.data import MIB, change_text, digest, write_blob, write_texts
from zrepl_trio.demo.report import (
    Act,
    Resumed,
    ending,
    introduction,
    narrow_config,
    resumed_text,
    summary,
)
from zrepl_trio.demo.stage import Stage, check_place, open_stage, sshd_problem
from zrepl_trio.errors import ZreplError

__all__ = ["DemoFailed", "play"]

FULL_BYTES = 24 * MIB
INCREMENT_BYTES = 4 * MIB
CUT_BYTES = 32 * MIB
CUT_AT = 12 * MIB

DATA = "tank/data"
REPLICA = f"storage/backups/{DATA}"


class DemoFailed(ZreplError):
    """Something did not go as the demo promises; the text says what."""


class _Play:
    """One performance on a stage whose daemons run."""

    def __init__(self, stage: Stage, out: Console) -> None:
        self.stage = stage
        self.out = out
        self.acts: list[Act] = []

    def say(self, text: str, style: str = "") -> None:
        self.out.print(Text(text, style))

    def command(self, host: str, text: str) -> None:
        self.out.print(Text.assemble((f"  {host:>6} ", "cyan"), ("$ ", "dim"), text))

    async def zfs(self, *words: str) -> None:
        self.command("source", "zfs " + " ".join(words))
        await self.stage.source.run("zfs", *words)

    @property
    def data(self) -> Path:
        return self.stage.source.directory / "pools" / DATA

    async def pull(self, name: str, what: str) -> JobModel:
        """Wake the pull job, wait for its run, and tell how it went."""
        self.command("backup", "zrepl-trio signal wakeup pull --wait")
        before = trio.current_time()
        told = await self.stage.backup.replicate("pull")
        took_s = trio.current_time() - before
        if told.invocation is None or told.invocation.outcome != "done":
            error = told.invocation.error if told.invocation else "no run"
            raise DemoFailed(f"{name}: the replication failed: {error}")
        moved = sum(fs.replicated for fs in _filesystems(told))
        self.acts.append(Act(name=name, what=what, moved=moved, took_s=took_s))
        self.say(f"     {bytes_text(moved)} in {duration_text(took_s)}", "green")
        return told

    async def full(self) -> None:
        self.say("\n1. A full replication", "bold")
        await trio.to_thread.run_sync(self._first_data)
        self.say(f"  {bytes_text(FULL_BYTES)} of photos and 100 letters are written.", "dim")
        await self.zfs("snapshot", f"{DATA}@monday")
        await self.pull("full", "@monday")

    def _first_data(self) -> None:
        write_blob(self.data / "photos/summer.raw", FULL_BYTES, seed=1)
        write_texts(self.data, 100)

    async def incremental(self) -> None:
        self.say("\n2. Changes, and only the changes", "bold")
        await trio.to_thread.run_sync(self._changes)
        self.say(
            f"  A letter is rewritten, one thrown away, {bytes_text(INCREMENT_BYTES)} are new.",
            "dim",
        )
        await self.zfs("snapshot", f"{DATA}@tuesday")
        await self.pull("incremental", "@monday => @tuesday")

    def _changes(self) -> None:
        change_text(self.data)
        write_blob(self.data / "photos/autumn.raw", INCREMENT_BYTES, seed=2)

    async def cut_and_resumed(self) -> None:
        self.say("\n3. The connection breaks in the middle", "bold")
        await trio.to_thread.run_sync(
            lambda: write_blob(self.data / "photos/winter.raw", CUT_BYTES, seed=3)
        )
        self.say(f"  {bytes_text(CUT_BYTES)} more.", "dim")
        await self.zfs("snapshot", f"{DATA}@wednesday")
        self.stage.link.plan(f"cut {CUT_AT}")
        self.say(f"  ssh will be killed after {bytes_text(CUT_AT)}.", "yellow")
        told = await self.pull("cut and resumed", "@tuesday => @wednesday")
        self.out.print(resumed_text(_resumed(told)))

    async def compared(self) -> None:
        """Read the replica as a user would after a disaster, and compare it with the source."""
        self.say("\n4. Is it all there?", "bold")
        for words in (("set", "mountpoint=/restored", REPLICA), ("mount", REPLICA)):
            self.command("backup", "zfs " + " ".join(words))
            await self.stage.backup.run("zfs", *words)
        restored = self.stage.backup.directory / "pools/restored"
        source = await trio.to_thread.run_sync(digest, self.data)
        replica = await trio.to_thread.run_sync(digest, restored)
        self.out.print(summary(self.acts, source, replica))
        if source != replica or not source.files:
            raise DemoFailed("the two sides differ")


def _filesystems(told: JobModel) -> list[FilesystemModel]:
    attempts = told.replication.attempts if told.replication else ()
    return [filesystem for attempt in attempts for filesystem in attempt.filesystems]


def _resumed(told: JobModel) -> Resumed:
    """What the run's report says of the step that was cut."""
    attempts = told.replication.attempts if told.replication else ()
    steps = [
        step
        for attempt in attempts
        for filesystem in attempt.filesystems
        for step in filesystem.steps
    ]
    again = [step for step in steps if step.resumed]
    if len(attempts) < 2 or len(again) != 1:
        raise DemoFailed("the transfer was to be cut once and resumed once, and was not")
    before = sum(step.bytes_replicated for step in steps if not step.resumed)
    after = again[0].bytes_replicated
    # what was written, not what the report expects: an estimate may come too late for a cut step
    whole = max(CUT_BYTES, before)
    if after + before > whole + whole // 4 or after >= whole - CUT_AT // 2:
        raise DemoFailed(
            f"{bytes_text(after)} were sent after the cut, of {bytes_text(whole)}: "
            "part of it was sent again"
        )
    return Resumed(whole=whole, before=before, after=after, cut_at=CUT_AT)


@contextmanager
def _workplace(keep: Path | None) -> Iterator[Path]:
    """A private directory, gone with the block unless it is to be kept."""
    if keep is not None:
        try:
            keep.mkdir(mode=0o700)
        except OSError as error:
            raise DemoFailed(f"cannot make {keep} for --keep: {error.strerror}") from None
        try:
            check_place(keep.resolve())
        except ZreplError:
            keep.rmdir()
            raise
        yield keep.resolve()
        return
    try:
        # Short: the sockets in it have 107 bytes for their whole path.
        directory = Path(tempfile.mkdtemp(prefix="zrepl-trio-demo-")).resolve()
    except OSError as error:
        raise DemoFailed(f"cannot make a temporary directory: {error.strerror}") from None
    try:
        check_place(directory)
        yield directory
    finally:
        shutil.rmtree(directory, ignore_errors=True)


async def _pools(stage: Stage) -> None:
    await stage.source.run("zpool", "create", "tank")
    await stage.source.run("zfs", "create", DATA)
    await stage.backup.run("zpool", "create", "storage")
    await stage.backup.run("zfs", "create", "storage/backups")


async def play(out: Console, *, keep: Path | None = None, standin: bool = False) -> None:
    """Perform the whole demo on `out`; with `standin` without OpenSSH even where it is installed.

    Raises a ZreplError when something fails. Cancelling at any point ends every process and
    removes every file.
    """
    before = trio.current_time()
    with _workplace(keep) as directory:
        problem = ""
        if not standin:
            with tempfile.TemporaryDirectory(dir=directory, prefix="try-") as empty:
                problem = await sshd_problem(Path(empty))
        use_sshd = not standin and not problem
        async with open_stage(directory, use_sshd=use_sshd) as stage:
            out.print(introduction(stage.ssh, str(directory)))
            if not use_sshd and not standin:
                out.print(
                    Text("OpenSSH's sshd is not installed, so ssh is stood in for.", "yellow")
                )
            await _pools(stage)
            for host, where in ((stage.source, "has the data"), (stage.backup, "pulls")):
                title = f"{host.name}: the jobs of zrepl.yml on the host that {where}"
                out.print(narrow_config(title, host.config.read_text()))
            async with stage.source.daemon(), stage.backup.daemon():
                performance = _Play(stage, out)
                await performance.full()
                await performance.incremental()
                await performance.cut_and_resumed()
                await performance.compared()
        kept = str(directory) if keep is not None else None
    out.print(ending(trio.current_time() - before, kept))
