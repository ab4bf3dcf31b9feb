"""The documents, and that our own client reads what our daemon writes."""

from __future__ import annotations

import json
import os
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from pathlib import Path

import pytest
import trio

from zrepl_trio.children import open_processes
from zrepl_trio.control.api import Status, parse_signal
from zrepl_trio.control.client import open_control_client
from zrepl_trio.control.documents import status_document
from zrepl_trio.control.faults import DaemonRefused, DaemonUnreachable
from zrepl_trio.control.routes import control_routes
from zrepl_trio.control.server import BadRequest, serve_http
from zrepl_trio.control.socket import open_control_listener
from zrepl_trio.jobs.base import (
    NO_WISHES,
    Invocation,
    JobStatus,
    JobType,
    Phase,
    SignalRefused,
    Wishes,
)
from zrepl_trio.jobs.supervisor import RestartPolicy, Supervisor
from zrepl_trio.jobs.tracked import ActiveChild, TrackedProcesses
from zrepl_trio.process import StuckChild
from zrepl_trio.replication.report import (
    AttemptReport,
    AttemptState,
    FilesystemReport,
    FilesystemState,
    Report,
    StepReport,
    TimedError,
)
from zrepl_trio.snapshots.report import FilesystemState as TakenState
from zrepl_trio.snapshots.report import SnapperReport, SnapperState, TakenSnapshot
from zrepl_trio.zfs.names import DatasetPath

NOON = datetime(2024, 5, 6, 12, tzinfo=UTC)

REPORT = Report(
    start=NOON,
    attempts=(
        AttemptReport(
            state=AttemptState.FAN_OUT,
            start=NOON,
            filesystems=(
                FilesystemReport(
                    name="tank/a",
                    state=FilesystemState.STEP_ERROR,
                    step_error=TimedError("out of space", NOON),
                    current=1,
                    steps=(
                        StepReport(from_="", to="@1", expected=100, replicated=120),
                        StepReport(from_="@1", to="@2", resumed=True, expected=50, replicated=10),
                    ),
                ),
            ),
        ),
    ),
)

PULL = JobStatus(
    name="pull",
    type=JobType.PULL,
    phase=Phase.RUNNING,
    invocation=Invocation(number=3, started=NOON),
    replication=REPORT,
    next_wakeup=NOON,
)
SOURCE = JobStatus(
    name="source",
    type=JobType.SOURCE,
    phase=Phase.FAILED,
    error="no such directory",
    failures=2,
    restart_at=NOON,
    snapshots=SnapperReport(
        kind="periodic",
        state=SnapperState.ERROR_WAIT,
        next_at=NOON,
        progress=(
            TakenSnapshot(
                path=DatasetPath.parse("tank/a"),
                state=TakenState.ERROR,
                name="zrepl_1",
                started=NOON,
                done=NOON,
                error="tank/a: no",
            ),
        ),
    ),
)


def document() -> dict[str, object]:
    active = ActiveChild(argv=("zfs", "list", "-H"), started=NOON)
    stuck = StuckChild(pid=7, argv=("zfs", "recv"), dataset="tank/a")
    text = json.dumps(
        status_document(
            [PULL, SOURCE],
            active=[active],
            stuck=[stuck],
            version="1",
            started=NOON,
            internal=["_control"],
        )
    )
    parsed = json.loads(text)
    assert isinstance(parsed, dict)
    return parsed


def test_status_has_zrepls_shape() -> None:
    jobs = document()["Jobs"]
    assert isinstance(jobs, dict)
    assert list(jobs) == ["_control", "pull", "source"]
    assert jobs["_control"] == {"type": "internal", "internal": None}
    assert jobs["pull"]["type"] == "pull"
    payload = jobs["pull"]["pull"]
    assert payload["PruningSender"] is None
    assert payload["PruningReceiver"] is None
    assert payload["Snapshotting"] is None
    attempt = payload["Replication"]["Attempts"][0]
    assert attempt["State"] == "fan-out-filesystems"
    assert attempt["FinishAt"] == "0001-01-01T00:00:00Z"
    assert attempt["Filesystems"][0]["Info"] == {"Name": "tank/a"}
    assert attempt["Filesystems"][0]["Steps"][1]["Info"]["Resumed"] is True
    assert jobs["source"]["source"]["Snapper"] == {
        "Type": "periodic",
        "Periodic": {
            "State": 32,
            "SleepUntil": "2024-05-06T12:00:00Z",
            "Error": "",
            "Progress": [
                {
                    "Path": "tank/a",
                    "State": 8,
                    "SnapName": "zrepl_1",
                    "StartAt": "2024-05-06T12:00:00Z",
                    "Hooks": "",
                    "HooksHadError": False,
                    "DoneAt": "2024-05-06T12:00:00Z",
                    "Error": "tank/a: no",
                    "Taken": False,
                    "Unchanged": False,
                }
            ],
        },
        "Cron": None,
        "Manual": None,
    }


def test_status_lists_the_commands_that_run_as_zrepl_does() -> None:
    everything = document()["Global"]
    assert isinstance(everything, dict)
    assert everything["ZFSCmds"] == {
        "Active": [{"Path": "zfs", "Args": ["list", "-H"], "StartedAt": "2024-05-06T12:00:00Z"}]
    }


def test_status_keeps_the_environment_to_itself() -> None:
    os.environ["ZREPL_TRIO_SECRET"] = "hunter2"
    try:
        text = json.dumps(document())
    finally:
        del os.environ["ZREPL_TRIO_SECRET"]
    assert "hunter2" not in text
    assert '"OsEnviron": []' in text


def test_our_client_reads_what_our_daemon_writes() -> None:
    status = Status.model_validate(document())
    assert list(status.raw_jobs) == ["_control", "pull", "source"]
    snapshots = status.job("source").snapshots
    assert snapshots is not None
    assert (snapshots.next_at, snapshots.errors) == (NOON, ("tank/a: no",))
    pull = status.job("pull")
    assert pull.phase == "running"
    assert pull.invocation is not None
    assert pull.invocation.number == 3
    assert pull.invocation.outcome == ""
    assert pull.invocation.finish_at is None
    assert pull.next_wakeup == NOON
    assert pull.replication is not None
    filesystem = pull.replication.attempts[0].filesystems[0]
    assert filesystem.name == "tank/a"
    assert filesystem.error == "out of space"
    assert (filesystem.replicated, filesystem.expected) == (130, 170)
    assert filesystem.steps[1].from_ == "@1"
    source = status.job("source")
    assert (source.phase, source.failures, source.restart_at) == ("failed", 2, NOON)
    assert status.global_.stuck_children[0].dataset == "tank/a"


def test_our_client_reads_jobs_of_a_zrepl_daemon() -> None:
    status = Status.model_validate(
        {
            "Jobs": {
                "_control": {"type": "internal", "internal": None},
                "s": {"type": "sink", "sink": {}},
            }
        }
    )
    assert status.type_of("_control") == "internal"
    assert status.job("_control").replication is None


@pytest.mark.parametrize("body", [b"", b"{", b"[]", b'{"Name":"x"}', b'{"Name":1,"Op":"reset"}'])
def test_a_signal_that_is_none_is_a_bad_request(body: bytes) -> None:
    with pytest.raises(BadRequest):
        parse_signal(body)


class SignalledJob:
    name = "pull"
    type = JobType.PULL

    def __init__(self) -> None:
        self.signals: list[str] = []

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        task_status.started()
        await trio.sleep_forever()

    def status(self) -> JobStatus:
        return PULL

    def wakeup(self, wishes: Wishes = NO_WISHES) -> None:
        del wishes
        if self.signals:
            raise SignalRefused("already woken up")
        self.signals.append("wakeup")

    def reset(self) -> None:
        self.signals.append("reset")


class Noon:
    def now(self) -> datetime:
        return NOON


@asynccontextmanager
async def daemon(path: str, job: SignalledJob) -> AsyncIterator[None]:
    supervisor = Supervisor([job], clock=Noon(), policy=RestartPolicy())
    async with (
        open_processes() as processes,
        open_control_listener(path) as listener,
        trio.open_nursery() as nursery,
    ):
        routes = control_routes(
            supervisor,
            TrackedProcesses(processes, Noon()),
            started=NOON,
            internal=("_control",),
        )
        await nursery.start(serve_http, [listener], routes)
        await nursery.start(supervisor.run)
        yield
        nursery.cancel_scope.cancel()


async def test_the_client_asks_and_signals(tmp_path: Path) -> None:
    path, job = str(tmp_path / "control"), SignalledJob()
    async with daemon(path, job), open_control_client(path) as client:
        assert (await client.status()).job("pull").invocation is not None
        assert (await client.version()).version
        await client.signal("pull", "wakeup")
        with pytest.raises(DaemonRefused, match=r"^already woken up$"):
            await client.signal("pull", "wakeup")
        await client.signal("pull", "reset")
        assert list((await client.status()).raw_jobs) == ["_control", "pull"]
        for op, said in (("wakeup", "already woken up"), ("reset", "already reset")):
            with pytest.raises(DaemonRefused, match=f"^{said}$"):
                await client.signal("_control", op)
        with pytest.raises(DaemonRefused, match=r"^Job other does not exist$"):
            await client.signal("other", "wakeup")
        with pytest.raises(DaemonRefused, match=r'^operation "sing" is invalid$'):
            await client.signal("pull", "sing")
    assert job.signals == ["wakeup", "reset"]


async def test_no_daemon_is_one_clear_sentence(tmp_path: Path) -> None:
    path = str(tmp_path / "control")
    async with open_control_client(path) as client:
        with pytest.raises(DaemonUnreachable, match=f"no daemon listens on {path}: start it"):
            await client.status()
    with socket.socket(socket.AF_UNIX) as stale:
        stale.bind(path)
    async with open_control_client(path) as client:
        with pytest.raises(DaemonUnreachable, match="any more"):
            await client.status()


@pytest.mark.skipif(os.geteuid() == 0, reason="root may enter every directory")
async def test_no_permission_is_one_clear_sentence(tmp_path: Path) -> None:
    closed = tmp_path / "closed"
    closed.mkdir(0)
    async with open_control_client(str(closed / "control")) as client:
        with pytest.raises(DaemonUnreachable, match="no permission"):
            await client.status()
