"""Both implementations behind one face: started as a user starts them, driven by the control socket."""

from __future__ import annotations

import http.client
import json
import os
import shutil
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from .waiting import LIMIT_S, PAUSE_S, until

NEVER = "0001-01-01T00:00:00Z"


@dataclass(frozen=True)
class Program:
    """How to call one of the two: argv up to the subcommand, and the daemon's subcommand."""

    name: str
    argv: tuple[str, ...]
    daemon: str

    def stdinserver(self, config: Path, identity: str) -> str:
        """The forced command for `authorized_keys`."""
        return " ".join((*self.argv, "--config", str(config), "stdinserver", identity))


def ours() -> Program:
    """zrepl-trio: the command of this environment, or of PATH (the guest has no venv)."""
    beside = Path(sys.executable).with_name("zrepl-trio")
    found = str(beside) if beside.exists() else shutil.which("zrepl-trio")
    assert found, "zrepl-trio is not installed: make install"
    return Program("zrepl-trio", (found,), "run")


def theirs() -> Program:
    """zrepl, from the environment variable ZREPL."""
    path = Path(os.environ["ZREPL"]).resolve()
    assert os.access(path, os.X_OK), f"ZREPL={path} is not a program"
    return Program("zrepl", (str(path),), "daemon")


class _UnixConnection(http.client.HTTPConnection):
    def __init__(self, path: Path) -> None:
        super().__init__("unix", timeout=30)
        self._path = str(path)

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(30)
        self.sock.connect(self._path)


@dataclass(frozen=True)
class Daemon:
    """A running daemon; `directory` has its config, sockets and log."""

    program: Program
    directory: Path
    process: subprocess.Popen[bytes]

    def _send(self, path: str, body: object) -> tuple[int, str]:
        connection = _UnixConnection(self.directory / "control")
        try:
            connection.request("POST", path, json.dumps(body), {"Content-Type": "application/json"})
            answer = connection.getresponse()
            return answer.status, answer.read().decode()
        finally:
            connection.close()

    def log(self) -> str:
        return (self.directory / "log").read_text(errors="replace")

    def jobs(self) -> dict[str, Any]:
        """What the daemon says of each of its jobs."""

        def told() -> dict[str, Any] | None:
            try:
                status, text = self._send("/status", None)
            except http.client.RemoteDisconnected:
                return None  # zrepl gives a request one second, which a busy machine may exceed
            assert status == 200, f"{self.program.name}: {text}"
            jobs: dict[str, Any] = json.loads(text)["Jobs"]
            return jobs

        return until(told, f"{self.program.name} tells its status")

    def _report(self, job: str) -> dict[str, Any] | None:
        status = self.jobs()[job]
        report: dict[str, Any] | None = status[status["type"]]["Replication"]
        return report

    def wake(self, job: str) -> None:
        """Signal it, again and again while it refuses for being busy."""
        until(lambda: self._wakes(job), f"{self.program.name} takes a wakeup")

    def replicate(
        self, job: str, limit_s: float = LIMIT_S, pause_s: float = PAUSE_S
    ) -> dict[str, Any]:
        """Wake the active job; the report of that invocation once it is over, looked at every `pause_s`."""
        before = (self._report(job) or {"StartAt": NEVER})["StartAt"]
        self.wake(job)

        def finished() -> dict[str, Any] | None:
            assert self.process.poll() is None, f"{self.program.name} has ended"
            report = self._report(job)
            if report is None or report["StartAt"] == before:
                return None
            return report if self._over(job, report) else None

        return until(finished, f"{self.program.name} finishes a run", limit_s, pause_s)

    def pruned(self, job: str) -> tuple[dict[str, Any], dict[str, Any]]:
        """What the last run's pruning came to: of the sender, of the receiver; once that is over."""

        def over() -> tuple[dict[str, Any], dict[str, Any]] | None:
            status = self.jobs()[job]
            told = status[status["type"]]
            sides = (told["PruningSender"], told["PruningReceiver"])
            if "Invocation" in told:  # ours; its pruning is that of an earlier run until it begins
                return sides if told["Invocation"]["FinishAt"] != NEVER else None
            return sides if all(map(_is_final, sides)) else None

        return until(over, f"{self.program.name} has pruned")

    def _wakes(self, job: str) -> bool:
        # zrepl goes on for a while after its report is final, and then refuses to be woken; ours, right
        # after its start, has its control socket before its jobs
        status, text = self._send("/signal", {"Name": job, "Op": "wakeup"})
        later = "already woken up" in text or "is not ready: starting" in text
        assert status == 200 or later, f"{self.program.name}: {text}"
        return status == 200

    def _over(self, job: str, report: dict[str, Any]) -> bool:
        if report["FinishAt"] != NEVER:
            return True
        # zrepl leaves that time unset; what it does last is pruning
        status = self.jobs()[job]
        told = status[status["type"]]
        return "Invocation" not in told and _is_final(told["PruningReceiver"])


def _is_final(pruning: dict[str, Any] | None) -> bool:
    return pruning is not None and pruning["State"] in {"Done", "ExecErr", "PlanErr"}


@contextmanager
def running(program: Program, directory: Path, environment: dict[str, str]) -> Iterator[Daemon]:
    """The daemon with the config `zrepl.yml` of its directory, from ready to ended."""
    (directory / "control").unlink(missing_ok=True)  # a killed daemon's
    with (directory / "log").open("ab") as log:
        process = subprocess.Popen(
            [*program.argv, "--config", str(directory / "zrepl.yml"), program.daemon],
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
        )
    daemon = Daemon(program, directory, process)
    try:
        until(
            lambda: process.poll() is not None or (directory / "control").exists(),
            f"{program.name} listens on its control socket",
        )
        assert process.poll() is None, f"{program.name} ended:\n{daemon.log()}"
        yield daemon
    finally:
        process.terminate()
        try:
            process.wait(30)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
