"""One pretended host: a directory with its config, its emulated pools and its daemon."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import trio

from zrepl_trio.control.api import InvocationModel, JobModel, Status
from zrepl_trio.control.client import ControlClient, open_control_client
from zrepl_trio.control.faults import DaemonUnreachable
from zrepl_trio.errors import ZreplError

__all__ = ["DaemonEnded", "Host", "HostCommandFailed"]

READY_S = 30.0
STOP_S = 30.0
POLL_S = 0.02


class HostCommandFailed(ZreplError):
    """A command on the pretended host failed; the text has its stderr."""


class DaemonEnded(ZreplError):
    """The daemon ended although nobody stopped it; the text has the end of its log."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Host:
    """`directory` exists; `env` is the whole environment of everything that runs there."""

    name: str
    directory: Path
    env: Mapping[str, str]
    python: Sequence[str] = field(default=(sys.executable,))

    @property
    def config(self) -> Path:
        return self.directory / "zrepl.yml"

    @property
    def log(self) -> Path:
        return self.directory / "daemon.log"

    @property
    def runtime(self) -> Path:
        return self.directory / "run"

    @property
    def sockdir(self) -> Path:
        return self.runtime / "stdinserver"

    @property
    def control(self) -> Path:
        return self.runtime / "control"

    def write_config(self, jobs: str) -> None:
        """The config: `jobs` (YAML) with this host's places and a talkative log."""
        self.config.write_text(
            f"global:\n"
            f"  logging:\n"
            f"  - {{type: stdout, level: debug, format: human}}\n"
            f"  control: {{sockpath: {self.control}}}\n"
            f"  serve: {{stdinserver: {{sockdir: {self.sockdir}}}}}\n"
            f"jobs:\n{jobs}"
        )

    async def run(self, *argv: str) -> str:
        """Run a command there; its stdout. HostCommandFailed when it fails."""
        program = argv[0] if "/" in argv[0] else self._found(argv[0])
        done = await trio.run_process(
            [program, *argv[1:]],
            env=dict(self.env),
            cwd=self.directory,
            capture_stdout=True,
            capture_stderr=True,
            check=False,
        )
        if done.returncode:
            said = (done.stderr or done.stdout).decode("utf-8", "replace").strip()
            raise HostCommandFailed(f"{self.name}: {' '.join(argv)}: {said}")
        return done.stdout.decode()

    def _found(self, program: str) -> str:
        for directory in self.env["PATH"].split(":"):
            path = os.path.join(directory, program)
            if os.access(path, os.X_OK):
                return path
        raise HostCommandFailed(f"{self.name}: {program} is not in PATH")

    async def cli(self, *arguments: str) -> str:
        """Run `zrepl-trio --config …` there; its stdout."""
        command = ["-m", "zrepl_trio", "--config", str(self.config), *arguments]
        return await self.run(*self.python, *command)

    @asynccontextmanager
    async def daemon(self) -> AsyncIterator[trio.Process]:
        """The host's daemon, up when the block begins; stopped by SIGTERM at its end.

        Ending it by other means inside the block is fine.
        """
        with self.log.open("ab") as log:
            async with trio.open_nursery() as nursery:
                run = partial(
                    trio.run_process,
                    [*self.python, "-m", "zrepl_trio", "--config", str(self.config), "run"],
                    env=dict(self.env),
                    cwd=self.directory,
                    stdout=log,
                    stderr=subprocess.STDOUT,
                    # A Ctrl-C on the terminal is for whoever runs the demo.
                    start_new_session=True,
                    check=False,
                    deliver_cancel=_stop,
                )
                process: trio.Process = await nursery.start(run)
                try:
                    await self._until_up(process)
                    yield process
                finally:
                    nursery.cancel_scope.cancel()

    async def _until_up(self, process: trio.Process) -> None:
        with trio.fail_after(READY_S):
            async with open_control_client(str(self.control)) as client:
                while True:
                    try:
                        jobs = await _jobs(client)
                    except DaemonUnreachable:
                        jobs = []
                    if jobs and not any(job.phase == "starting" for job in jobs):
                        return
                    if process.poll() is not None:
                        raise DaemonEnded(f"{self.name}: the daemon ended:\n{self.log_end()}")
                    await trio.sleep(POLL_S)

    def log_end(self, lines: int = 15) -> str:
        """The last lines of the daemon's log."""
        return "\n".join(self.log.read_text(errors="replace").splitlines()[-lines:])

    async def status(self) -> Status:
        """What the daemon tells."""
        async with open_control_client(str(self.control)) as client:
            return await client.status()

    async def signal(self, job: str, operation: str) -> None:
        """Send `wakeup` or `reset`."""
        async with open_control_client(str(self.control)) as client:
            await client.signal(job, operation)

    async def replicate(self, job: str) -> JobModel:
        """Wake the job and wait; what it tells after the run, however that ended."""
        await self.signal(job, "wakeup")
        return await self.end_of_run(job)

    async def end_of_run(self, job: str) -> JobModel:
        """What the job tells once its present run has ended."""
        async with open_control_client(str(self.control)) as client:
            while True:
                told = (await client.status()).job(job)
                run = told.invocation
                if isinstance(run, InvocationModel) and run.outcome:
                    return told
                await trio.sleep(POLL_S)


async def _jobs(client: ControlClient) -> list[JobModel]:
    status = await client.status()
    return [status.job(name) for name in status.raw_jobs if not name.startswith("_")]


async def _stop(process: trio.Process) -> None:
    """SIGTERM, time to clean up, and only then the end of all patience."""
    process.send_signal(signal.SIGTERM)
    with trio.move_on_after(STOP_S):
        await process.wait()
        return
    process.kill()
