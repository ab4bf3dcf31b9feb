"""Where the daemon is put together, and the one place that knows in which order it comes down.

Stop order: listeners and jobs are cancelled at once, so nothing new is accepted; children get
their grace and are reaped (`children`); sockets and locks go; then the process ends with 0. All
that has a deadline, after which the process ends with 1 and says what it left.
"""

from __future__ import annotations

import gc
import os
import resource
import signal
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

import structlog
import trio

from zrepl_trio import __version__
from zrepl_trio.children import open_processes
from zrepl_trio.clock import SystemClock
from zrepl_trio.config.environment import ignored, read_tuning
from zrepl_trio.config.loaded import LoadedConfig
from zrepl_trio.config.support import unsupported, without_effect
from zrepl_trio.control.routes import control_routes
from zrepl_trio.control.server import serve_http
from zrepl_trio.control.socket import open_control_listener
from zrepl_trio.errors import ConfigErrors
from zrepl_trio.jobs.base import Job
from zrepl_trio.jobs.build import build_jobs, runtime_directory
from zrepl_trio.jobs.hostzfs import host_zfs
from zrepl_trio.jobs.supervisor import RestartPolicy, Supervisor
from zrepl_trio.jobs.tracked import TrackedProcesses
from zrepl_trio.jobs.world import World
from zrepl_trio.monitoring.listener import serve_metrics
from zrepl_trio.notify import Notifier
from zrepl_trio.transport.privatedir import ensure_private_directory

if TYPE_CHECKING:  # Prometheus' library is slow to import, and few commands need it
    from zrepl_trio.monitoring.metrics import Metrics

__all__ = ["STOP_S", "Plant", "open_plant", "refuse_unbuilt", "run_daemon"]

STOP_S = 60.0
"""Longest stop: more than all that one connection may take in a row, a `zfs recv` that must be
killed and a peer that never closes included, and less than the 90 s after which systemd kills."""

LAST_WORDS_S = 1.0
"""How long the outlets have for what is logged before the end that nothing else can delay."""

log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class Plant:
    """The jobs at rest, the world they act on, and the children that they start."""

    world: World
    processes: TrackedProcesses
    jobs: Sequence[Job]


def refuse_unbuilt(loaded: LoadedConfig) -> None:
    """ConfigErrors with all that this version cannot do."""
    problems = unsupported(loaded)
    if problems:
        raise ConfigErrors(problems)


@asynccontextmanager
async def open_plant(
    loaded: LoadedConfig, metrics: Metrics | None = None, *, environ: Mapping[str, str]
) -> AsyncIterator[Plant]:
    """The config's jobs on this computer's clock, ZFS and processes; none runs yet. `metrics` is
    told what they do. Of `environ` come zrepl's variables; Refused for a value that makes no sense."""
    tuning = read_tuning(environ)
    for remark in (*ignored(environ), *map(str, without_effect(loaded))):
        log.warning(remark)
    ensure_private_directory(runtime_directory(loaded.config))
    clock = SystemClock()
    async with open_processes() as opened:
        if metrics is None:
            processes = TrackedProcesses(opened, clock)
            world = World(
                clock=clock,
                zfs=host_zfs(loaded.config, processes),
                processes=processes,
                tuning=tuning,
            )
        else:
            processes = TrackedProcesses(opened, clock, ended=metrics.command_ended)
            world = World(
                clock=clock,
                zfs=host_zfs(loaded.config, processes),
                watch=metrics,
                shutdowns=metrics.shutdowns,
                processes=processes,
                tuning=tuning,
            )
        yield Plant(world, processes, build_jobs(loaded.config, world))


def _raise_fd_limit() -> None:
    """Take all the fds we may have: every held connection needs three."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != hard:
        try:
            resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
        except (OSError, ValueError) as error:
            log.warning("cannot raise the limit of open files", soft=soft, hard=hard, err=error)


async def _stop_on_signal(
    signals: AsyncIterator[int],
    work: trio.CancelScope,
    stopping: trio.Event,
    notifier: Notifier,
) -> None:
    async for number in signals:
        if not stopping.is_set():
            log.info("stopping", signal=signal.Signals(number).name)
            stopping.set()
            work.cancel()
            await notifier.stopping()


async def _end_at_deadline(stopping: trio.Event, processes: TrackedProcesses) -> None:
    await stopping.wait()
    await trio.sleep(STOP_S)
    left = [" ".join(child.argv) for child in processes.active]
    log.error("not stopped in time, ending anyway", after_s=STOP_S, children_left=left)
    await trio.sleep(LAST_WORDS_S)
    os._exit(1)


async def run_daemon(
    loaded: LoadedConfig,
    *,
    metrics: Metrics | None = None,
    task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED,
) -> None:
    """Run until SIGTERM or SIGINT; `started` once each job stands or has failed once, and so is
    systemd told, by the environment's NOTIFY_SOCKET.

    `metrics` is for a config with `monitoring`. Raises ConfigErrors, DaemonRunning or Refused when
    it cannot start.
    """
    refuse_unbuilt(loaded)
    stopping = trio.Event()
    notifier = Notifier(os.environ)
    _raise_fd_limit()
    with trio.open_signal_receiver(signal.SIGTERM, signal.SIGINT) as signals:
        async with (
            open_plant(loaded, metrics, environ=os.environ) as plant,
            open_control_listener(str(loaded.config.global_.control.sockpath)) as listener,
            trio.open_nursery() as guards,
        ):
            supervisor = Supervisor(plant.jobs, clock=plant.world.clock, policy=RestartPolicy())
            routes = control_routes(
                supervisor,
                plant.processes,
                started=plant.world.clock.now(),
                internal=("_control", "_prometheus") if metrics is not None else ("_control",),
            )
            if metrics is not None:
                metrics.show_jobs(supervisor.status)
                routes = metrics.timed(routes)
            async with trio.open_nursery() as work:
                guards.start_soon(_stop_on_signal, signals, work.cancel_scope, stopping, notifier)
                guards.start_soon(_end_at_deadline, stopping, plant.processes)
                guards.start_soon(notifier.watch)
                log.info("starting", version=__version__, config=str(loaded.path))
                if not plant.jobs:
                    log.warning("the config has no jobs: there is nothing to do")
                for note in loaded.notes:
                    log.info("config note", note=str(note))
                await work.start(serve_http, [listener], routes)
                if metrics is not None:
                    for entry in loaded.config.global_.monitoring:
                        serve = partial(serve_metrics, freebind=entry.listen_freebind)
                        await work.start(serve, entry.listen, metrics.page)
                await work.start(supervisor.run)
                # what was made up to here stays to the end: spare the collector from walking it
                gc.freeze()
                await notifier.ready(f"up, jobs: {len(plant.jobs)}; `zrepl-trio status` shows them")
                task_status.started()
            guards.cancel_scope.cancel()
    log.info("stopped")
