"""The daemon as a process: how it starts, refuses to, answers and ends."""

from __future__ import annotations

import inspect
import os
import resource
import signal
import socket
import stat
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import replace
from functools import partial
from pathlib import Path

import psutil
import pytest
import trio
import trio.testing

from tests.support.hosts import PULL_JOB, SOURCE_JOB, make_host, marked_processes, scratch
from tests.support.resources import until
from zrepl_trio import daemon
from zrepl_trio.children import open_processes
from zrepl_trio.cli.exitcodes import ExitCode
from zrepl_trio.clock import SystemClock
from zrepl_trio.demo.host import Host, HostCommandFailed
from zrepl_trio.jobs.tracked import TrackedProcesses
from zrepl_trio.logs.outlets import FLUSH_S
from zrepl_trio.process import Processes
from zrepl_trio.rpc import shutdown
from zrepl_trio.transport import ssh
from zrepl_trio.zfs import streams

pytestmark = pytest.mark.slow


@pytest.fixture
def directory() -> Iterator[Path]:
    with scratch() as path:
        yield path
        assert marked_processes(path) == []


@pytest.fixture
def host(directory: Path) -> Host:
    return make_host(directory, "h", SOURCE_JOB + PULL_JOB)


async def ended(process: trio.Process) -> int:
    with trio.fail_after(20):
        return await process.wait()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
async def test_it_ends_on_a_signal_with_0_and_leaves_nothing(host: Host, number: int) -> None:
    async with host.daemon() as process:
        assert stat.S_IMODE(host.runtime.stat().st_mode) == 0o700
        assert stat.S_IMODE(host.control.stat().st_mode) == 0o600
        process.send_signal(number)
        assert await ended(process) == 0
    left = [path for path in host.runtime.rglob("*") if not path.is_dir()]
    assert left == []


async def test_systemd_is_told_when_it_is_up_alive_and_stopping(host: Host) -> None:
    path = host.directory / "notify"
    env = {**host.env, "NOTIFY_SOCKET": str(path), "WATCHDOG_USEC": "200000"}
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as told:
        told.bind(str(path))

        async def until_told(text: str) -> str:
            with trio.fail_after(20):
                while True:
                    await trio.lowlevel.wait_readable(told)
                    message = told.recv(1000).decode()
                    if text in message.split("\n"):
                        return message

        async with replace(host, env=env).daemon() as process:
            assert "STATUS=up, jobs: 2" in await until_told("READY=1")
            assert "serving" in await host.cli("status")
            for _ in range(3):
                await until_told("WATCHDOG=1")
            process.send_signal(signal.SIGTERM)
            await until_told("STOPPING=1")
            assert await ended(process) == 0


async def test_a_log_that_nobody_reads_holds_up_neither_work_nor_the_end(host: Host) -> None:
    reading, writing = os.pipe()
    os.set_blocking(writing, False)
    with suppress(BlockingIOError):
        while True:
            os.write(writing, bytes(4096))
    os.set_blocking(writing, True)
    argv = [*host.python, "-m", "zrepl_trio", "--config", str(host.config), "run"]
    async with trio.open_nursery() as nursery:
        run = partial(
            trio.run_process, argv, env=dict(host.env), stdout=writing, stderr=writing, check=False
        )
        process: trio.Process = await nursery.start(run)
        await until(host.control.exists, within_s=20)
        assert "serving" in await host.cli("status")
        process.send_signal(signal.SIGTERM)
        assert await ended(process) == 0
    os.close(reading)
    os.close(writing)


async def test_status_shows_both_jobs(host: Host) -> None:
    async with host.daemon():
        shown = await host.cli("status")
        assert "source  source  serving, 0 connections" in shown
        assert "pull  pull  waiting, runs on `signal wakeup` only" in shown
        assert '"Jobs"' in await host.cli("status", "--json")
        version = await host.cli("version")
        assert version.splitlines()[1].startswith("daemon: zrepl-trio ")


async def test_a_config_without_jobs_runs_and_says_so(directory: Path) -> None:
    host = make_host(directory, "h", "  []\n")
    argv = [*host.python, "-m", "zrepl_trio", "--config", str(host.config), "run"]
    with host.log.open("wb") as log:
        async with trio.open_nursery() as nursery:
            run = partial(trio.run_process, argv, env=dict(host.env), stdout=log, check=True)
            process: trio.Process = await nursery.start(run)
            await until(lambda: "the config has no jobs" in host.log_end(), within_s=20)
            await until(host.control.exists)
            assert "its config has no jobs" in await host.cli("status")
            process.send_signal(signal.SIGTERM)


async def test_zrepls_variables_that_have_no_effect_are_warned_of(host: Host) -> None:
    env = {**host.env, "ZREPL_ZFS_DEBUG": "1", "ZREPL_REPLICATION_MAX_ATTEMPTS": "2"}
    async with replace(host, env=env).daemon():
        warned = [line for line in host.log_end(100).splitlines() if "in the environment" in line]
    assert len(warned) == 1
    assert "ZREPL_ZFS_DEBUG is set in the environment, and has no effect here" in warned[0]
    wrong = replace(host, env={**host.env, "ZREPL_REPLICATION_MAX_ATTEMPTS": "many"})
    with pytest.raises(HostCommandFailed, match="ZREPL_REPLICATION_MAX_ATTEMPTS='many'"):
        await wrong.cli("run", "--once")


async def test_a_second_daemon_is_refused_and_the_first_does_not_notice(host: Host) -> None:
    async with host.daemon() as process:
        with pytest.raises(HostCommandFailed, match=f"another daemon .process {process.pid}."):
            await host.cli("run")
        await host.status()
        assert process.poll() is None


async def test_a_killed_daemon_s_leftovers_are_replaced(host: Host) -> None:
    async with host.daemon() as process:
        process.kill()
        await ended(process)
    assert host.control.exists()
    async with host.daemon():
        assert (await host.status()).job("source").phase == "serving"


async def test_a_job_whose_lock_another_process_has_fails_alone(directory: Path) -> None:
    first = make_host(directory, "a", SOURCE_JOB)
    second = make_host(directory, "b", SOURCE_JOB + PULL_JOB)
    # The same runtime directory by another control socket: the job's lock is what is left.
    config = second.config.read_text().replace(str(second.runtime), str(first.runtime))
    second.config.write_text(config.replace("run/control", "run/control2"))
    (second.directory / "run").symlink_to(first.runtime)
    async with first.daemon() as process:
        second_control = first.runtime / "control2"
        host = Host(name="b", directory=second.directory, env=second.env)
        async with trio.open_nursery() as nursery:
            argv = [*host.python, "-m", "zrepl_trio", "--config", str(host.config), "run"]
            run = partial(
                trio.run_process, argv, env=dict(host.env), capture_stdout=True, check=False
            )
            nursery.start_soon(run)
            await until(second_control.exists)
            shown = await host.cli("status")
            assert f"already run by process {process.pid}" in shown
            assert "pull  pull  waiting" in shown
            nursery.cancel_scope.cancel()


async def test_a_directory_that_others_may_enter_is_refused_with_the_mend(host: Host) -> None:
    host.runtime.mkdir(mode=0o755)
    host.runtime.chmod(0o755)
    with pytest.raises(HostCommandFailed, match=f"chmod 0700 {host.runtime}"):
        await host.cli("run")


async def test_it_takes_all_the_open_files_it_may_have(host: Host) -> None:
    async with host.daemon() as process:
        soft, hard = psutil.Process(process.pid).rlimit(resource.RLIMIT_NOFILE)
        assert soft == hard


async def test_silent_clients_of_the_control_socket_hurt_nobody(host: Host) -> None:
    crowd = []
    async with host.daemon() as process:
        for _ in range(80):
            client = socket.socket(socket.AF_UNIX)
            client.connect(str(host.control))
            crowd.append(client)
        await host.status()
        process.send_signal(signal.SIGTERM)
        assert await ended(process) == 0
    for client in crowd:
        client.close()


async def test_a_link_that_cannot_be_made_is_told_at_once_with_sshs_words(directory: Path) -> None:
    programs = directory / "bin"
    programs.mkdir()
    ssh = programs / "ssh"
    ssh.write_text("#!/bin/sh\necho 'Bad yes/no argument: compress me' >&2\nexit 255\n")
    ssh.chmod(0o755)
    host = make_host(directory, "h", PULL_JOB, path=(programs,))
    async with host.daemon():
        with pytest.raises(HostCommandFailed, match="compress me"):
            await host.cli("signal", "wakeup", "pull", "--wait")
        assert "could not connect" in await host.cli("status")
        assert "compress me" in await host.cli("status")
    with pytest.raises(HostCommandFailed, match=r"connect-failed after .*compress me"):
        await host.cli("run", "--once")


async def exit_status(host: Host, *arguments: str) -> int:
    argv = [*host.python, "-m", "zrepl_trio", "--config", str(host.config), *arguments]
    done = await trio.run_process(
        argv, env=dict(host.env), capture_stdout=True, capture_stderr=True, check=False
    )
    return done.returncode


async def test_commands_tell_by_their_status_and_status_runs_no_zfs(directory: Path) -> None:
    programs = directory / "bin"
    programs.mkdir()
    called = directory / "called"
    for name in ("zfs", "zpool", "ssh"):
        program = programs / name
        program.write_text(f"#!/bin/sh\necho {name} >> {called}\nexit 255\n")
        program.chmod(0o755)
    host = make_host(directory, "h", SOURCE_JOB + PULL_JOB, path=(programs,))
    async with host.daemon():
        assert await exit_status(host, "status") == ExitCode.DONE
        assert await exit_status(host, "status", "--json") == ExitCode.DONE
        assert not called.exists()
        wait = ("signal", "wakeup", "pull", "--wait")
        assert await exit_status(host, *wait) == ExitCode.NOT_CONNECTED
        assert called.read_text() == "ssh\n"
        assert await exit_status(host, "signal", "wakeup", "source") == ExitCode.FAILED
        assert await exit_status(host, "signal", "reset", "pull") == ExitCode.FAILED
        assert await exit_status(host, "run") == ExitCode.ALREADY_RUNNING
        assert await exit_status(host, "run", "--once") == ExitCode.ALREADY_RUNNING
    assert await exit_status(host, *wait) == ExitCode.NOT_CONNECTED
    assert await exit_status(host, "status") == ExitCode.NOT_CONNECTED


async def test_a_run_can_be_reset(directory: Path) -> None:
    programs = directory / "bin"
    programs.mkdir()
    ssh = programs / "ssh"
    ssh.write_text("#!/bin/sh\nexec sleep 1000\n")
    ssh.chmod(0o755)
    host = make_host(directory, "h", PULL_JOB, path=(programs,))
    async with host.daemon() as process:
        await host.signal("pull", "wakeup")
        await until(
            lambda: any(c.name() == "sleep" for c in psutil.Process(process.pid).children())
        )
        await host.cli("signal", "reset", "pull")
        told = await host.end_of_run("pull")
        assert told.invocation is not None
        assert told.invocation.outcome == "cancelled"
        assert psutil.Process(process.pid).children() == []
        # And it can be woken again; stopping the daemon ends that run too.
        await host.signal("pull", "wakeup")
        await until(lambda: bool(psutil.Process(process.pid).children()))
        process.send_signal(signal.SIGTERM)
        assert await ended(process) == 0


async def test_a_source_that_cannot_listen_is_told_and_recovers(host: Host) -> None:
    host.runtime.mkdir(mode=0o700)
    host.sockdir.mkdir(mode=0o755)
    host.sockdir.chmod(0o755)
    async with host.daemon():
        shown = await host.cli("status")
        assert "source  source  failed, tried again in" in shown
        assert f"chmod 0700 {host.sockdir}" in shown
        assert "pull  pull  waiting" in shown
        os.chmod(host.sockdir, 0o700)
        with trio.fail_after(10):
            while (await host.status()).job("source").phase != "serving":  # noqa: ASYNC110
                await trio.sleep(0.05)


def test_a_stop_has_time_for_the_slowest_orderly_end() -> None:
    kill_s = inspect.signature(Processes.open).parameters["kill_s"].default
    receive = streams.RECEIVE_GRACE_S + streams.RECEIVE_GRACE_S + kill_s
    connection = (
        shutdown.SHUTDOWN_LIMIT_S + shutdown.CLOSE_LIMIT_S + ssh._LINGER_S + 2 * ssh._TERM_S
    )
    assert receive + connection < daemon.STOP_S < daemon.STOP_S + daemon.LAST_WORDS_S + FLUSH_S < 90


async def test_a_stop_that_takes_too_long_is_ended_and_says_what_is_left(
    monkeypatch: pytest.MonkeyPatch, autojump_clock: trio.testing.MockClock
) -> None:
    """What ignores SIGKILL cannot be made to order, so the end itself is watched here."""
    ends: list[tuple[float, int]] = []
    monkeypatch.setattr(os, "_exit", lambda code: ends.append((trio.current_time(), code)))
    stopping = trio.Event()
    async with open_processes() as opened, trio.open_nursery() as nursery:
        processes = TrackedProcesses(opened, SystemClock())
        nursery.start_soon(daemon._end_at_deadline, stopping, processes)
        await trio.sleep(1000)
        assert ends == []
        stopping.set()
    assert ends == [(1000 + daemon.STOP_S + daemon.LAST_WORDS_S, 1)]
