"""The real child processes: statuses, stderr, the graceful end, the unkillable, and nothing left."""

from __future__ import annotations

import errno
import fcntl
import gc
import os
import signal
import sys
import warnings
from collections.abc import Awaitable, Callable, Iterator

import psutil
import pytest
import structlog
import structlog.testing
import trio
import trio.testing

from tests.support.resources import (
    cancel_at_each_step,
    nothing_left_behind,
    open_fds,
    until,
)
from zrepl_trio.bulk import raw_fd
from zrepl_trio.children import STDERR_TAIL_BYTES, RingBuffer, argument_bytes, open_processes
from zrepl_trio.process import Processes, Redirect
from zrepl_trio.zfs.batches import POINTER_BYTES

PYTHON = [sys.executable, "-I", "-S", "-c"]
IGNORES_SIGTERM = [
    *PYTHON,
    "import signal,os;signal.signal(15,signal.SIG_IGN);os.write(1,b'up');signal.pause()",
]


@pytest.fixture(autouse=True)
def nothing_left() -> Iterator[None]:
    with nothing_left_behind():
        yield


def running(pid: int) -> bool:
    """Whether it still runs; a zombie, of whomever, doesn't."""
    try:
        return bool(psutil.Process(pid).status() != psutil.STATUS_ZOMBIE)
    except psutil.NoSuchProcess:
        return False


def test_ring_buffer_keeps_the_last_bytes() -> None:
    ring = RingBuffer(4)
    for piece in (b"ab", b"", b"cde", b"fghijkl"):
        ring.add(piece)
    assert bytes(ring) == b"ijkl"
    ring.add(b"m")
    assert bytes(ring) == b"jklm"


@pytest.mark.parametrize(
    ("script", "status"),
    [("exit 0", 0), ("exit 3", 3), ("kill -9 $$", -9), ("kill -TERM $$", -15)],
)
async def test_run_tells_how_it_ended(script: str, status: int) -> None:
    async with open_processes() as processes:
        done = await processes.run(["sh", "-c", f"echo out; echo err >&2; {script}"])
    assert done.argv[0] == "sh"
    assert (done.status, done.stdout, done.stderr) == (status, b"out\n", b"err\n")


async def test_run_feeds_stdin_larger_than_a_pipe() -> None:
    data = os.urandom(300_000)
    async with open_processes() as processes:
        done = await processes.run(["cat"], stdin=data)
        assert done.stdout == data
        assert (await processes.run(["true"], stdin=data)).status == 0
        assert (await processes.run(["cat"])).stdout == b""


async def test_environment_is_ours_with_lc_all_or_exactly_what_was_given() -> None:
    async with open_processes() as processes:
        ours = await processes.run(["env"])
        empty = await processes.run(["/usr/bin/env"], env={"A": "1"})
    assert b"LC_ALL=C\n" in ours.stdout
    assert b"PATH=" in ours.stdout
    assert empty.stdout == b"A=1\n"


async def test_what_cannot_start_raises_and_leaves_nothing() -> None:
    async with open_processes() as processes:
        with pytest.raises(FileNotFoundError):
            await processes.run(["/nonexistent/zfs"])
        with pytest.raises(PermissionError):
            async with processes.open(["/etc/passwd"], stdin=Redirect.PIPE, stdout=Redirect.PIPE):
                raise AssertionError


@pytest.mark.parametrize("variable", ["", "x" * 100_000])
async def test_a_child_takes_as_many_arguments_as_is_said(
    monkeypatch: pytest.MonkeyPatch, variable: str
) -> None:
    without = argument_bytes()
    monkeypatch.setenv("ZREPL_TEST", variable)
    room = argument_bytes()
    assert len(variable) <= without - room <= len(variable) + 100
    name = "tank/data@zrepl_20240514_211623_000"
    names = [name] * (room // (len(name) + 1 + POINTER_BYTES))
    async with open_processes() as processes:
        assert (await processes.run(["true", *names])).status == 0


@pytest.mark.parametrize("told", [-1, 2**62])
def test_a_limit_that_the_system_does_not_tell_is_the_least_or_the_kernels_own(
    monkeypatch: pytest.MonkeyPatch, told: int
) -> None:
    monkeypatch.setattr("os.sysconf", lambda _name: told)
    assert argument_bytes() < (128 * 1024 if told < 0 else 6 * 1024 * 1024)
    assert argument_bytes() > 100_000


async def test_stderr_flood_never_blocks_and_keeps_the_tail() -> None:
    script = "import sys\nfor i in range(200000): print(i, file=sys.stderr)\nprint('done')"
    async with open_processes() as processes:
        done = await processes.run([*PYTHON, script])
    assert done.stdout == b"done\n"
    assert len(done.stderr) == STDERR_TAIL_BYTES
    assert done.stderr.endswith(b"\n199999\n")


async def test_wait_does_not_wait_for_a_grandchild_that_holds_stderr() -> None:
    async with open_processes() as processes:
        with trio.fail_after(10):
            async with processes.open(
                ["sh", "-c", "echo last words >&2; sleep 100 & exit 7"]
            ) as child:
                assert await child.wait() == 7
                assert child.stderr_tail == b"last words\n"
                os.killpg(child.pid, signal.SIGKILL)


async def test_streams_are_non_blocking_pipes_of_the_size_asked() -> None:
    async with (
        open_processes() as processes,
        processes.open(
            ["cat"], stdin=Redirect.PIPE, stdout=Redirect.PIPE, pipe_size=256 * 1024
        ) as child,
    ):
        for fd in (raw_fd(child.stdin), raw_fd(child.stdout)):
            assert fd is not None
            assert not os.get_blocking(fd)
            assert not os.get_inheritable(fd)
            assert fcntl.fcntl(fd, fcntl.F_GETPIPE_SZ) == 256 * 1024
        await child.stdin.send_all(b"through")
        await child.stdin.aclose()
        assert await child.stdout.receive_some() == b"through"
        assert await child.stdout.receive_some() == b""
        assert await child.wait() == 0


async def test_children_lead_their_own_session() -> None:
    async with open_processes() as processes, processes.open(["sleep", "9"], grace_s=0) as child:
        assert os.getsid(child.pid) == child.pid != os.getsid(0)


async def test_closing_stdin_lets_a_child_end_by_itself_before_any_signal() -> None:
    sent: list[int] = []

    def kill(pgid: int, number: int) -> None:
        sent.append(number)
        os.killpg(pgid, number)

    async with open_processes(kill_group=kill) as processes:
        async with processes.open(["sh", "-c", "cat; exit 5"], stdin=Redirect.PIPE) as child:
            pass
        assert await child.wait() == 5
    assert sent == []


async def test_sigterm_reaches_grandchildren_too() -> None:
    async with open_processes() as processes:
        async with processes.open(
            ["sh", "-c", "sleep 1000 & echo $!; wait"], stdout=Redirect.PIPE, grace_s=0.05
        ) as child:
            grandchild = int(await child.stdout.receive_some())
        assert await child.wait() == -signal.SIGTERM
        await until(lambda: not running(grandchild))


async def test_a_child_that_ignores_sigterm_is_killed() -> None:
    async with open_processes() as processes:
        async with processes.open(IGNORES_SIGTERM, stdout=Redirect.PIPE, grace_s=0.05) as child:
            assert await child.stdout.receive_some() == b"up"
        assert await child.wait() == -signal.SIGKILL
        assert processes.stuck == ()


async def test_the_bodys_error_comes_out_as_it_is() -> None:
    async with open_processes() as processes:
        with pytest.raises(ValueError, match=r"^mine$"):
            async with processes.open(["sleep", "9"], grace_s=0):
                raise ValueError("mine")


async def test_an_unkillable_child_is_listed_until_it_ends_and_blocks_nobody() -> None:
    def no_kill(pgid: int, number: int) -> None:
        del pgid, number

    async with open_processes(kill_group=no_kill) as processes:
        with trio.fail_after(5), structlog.testing.capture_logs() as entries:
            async with processes.open(
                ["sleep", "1000"], dataset="pool/a", grace_s=0.01, kill_s=0.01
            ) as child:
                pass
        (stuck,) = processes.stuck
        assert (stuck.pid, stuck.argv, stuck.dataset) == (child.pid, ("sleep", "1000"), "pool/a")
        assert [each["event"] for each in entries] == ["command ignores SIGKILL"]
        os.kill(child.pid, signal.SIGKILL)
        await until(lambda: not processes.stuck)
        assert not running(child.pid)


async def test_an_unkillable_child_does_not_hold_up_the_exit() -> None:
    def no_kill(pgid: int, number: int) -> None:
        raise PermissionError(pgid, number)

    with trio.fail_after(5):
        async with open_processes(kill_group=no_kill) as processes:
            async with processes.open(["sleep", "1000"], grace_s=0.01, kill_s=0.01) as child:
                pid = child.pid
            assert [stuck.pid for stuck in processes.stuck] == [pid]
    assert running(pid)
    os.kill(pid, signal.SIGKILL)
    os.waitpid(pid, 0)  # noqa: ASYNC222 - dead already
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ResourceWarning)
        del child, processes
        gc.collect()


BURNS = f"""exec '{sys.executable}' -ISc 'import time
while time.process_time() < 0.1: pass'"""


async def test_each_childs_usage_is_its_own_and_its_childrens() -> None:
    async with open_processes() as processes:
        done = {}

        async def run(name: str, script: str) -> None:
            done[name] = await processes.run(["sh", "-c", script])

        async with trio.open_nursery() as nursery:
            nursery.start_soon(run, "child", BURNS)
            nursery.start_soon(run, "grandchild", f"({BURNS}); exit 3")
            for number in range(5):
                nursery.start_soon(run, f"idle {number}", "exit 0")
    for name, each in done.items():
        assert each.usage is not None
        assert min(each.usage.user_s, each.usage.system_s) >= 0
        spent_s = each.usage.user_s + each.usage.system_s
        assert (0 < spent_s < 0.1) if name.startswith("idle") else (0.1 <= spent_s < 1), name


async def test_usage_is_known_from_the_end_on_whoever_waited() -> None:
    async with open_processes() as processes:
        async with processes.open(["cat"], stdin=Redirect.PIPE) as child:
            running = child.usage
        ended = child.usage
        assert await child.wait() == 0
        assert (running, child.usage) == (None, ended)
        assert ended is not None


async def test_several_tasks_may_wait_and_give_up() -> None:
    async with (
        open_processes() as processes,
        processes.open(["sh", "-c", "cat; exit 6"], stdin=Redirect.PIPE) as child,
    ):
        statuses = []

        async def wait() -> None:
            statuses.append(await child.wait())

        before = open_fds()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(wait)
            async with trio.open_nursery() as impatient:
                impatient.start_soon(wait)
                impatient.start_soon(wait)
                await trio.testing.wait_all_tasks_blocked()
                impatient.cancel_scope.cancel()
            nursery.start_soon(wait)
            await trio.testing.wait_all_tasks_blocked()
            await child.stdin.aclose()
        assert statuses == [6, 6]
        assert child.usage is not None
        assert open_fds().keys() < before.keys()


@pytest.mark.parametrize("error", [OSError(errno.ENOSYS, "no such call"), AttributeError()])
async def test_without_pidfds_the_usage_is_unknown(
    error: Exception, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(pid: int) -> int:
        raise error

    monkeypatch.setattr(os, "pidfd_open", refuse)
    async with (
        open_processes() as processes,
        processes.open(["sh", "-c", "cat; exit 3"], stdin=Redirect.PIPE) as child,
    ):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(child.wait)
            nursery.start_soon(child.wait)
            await trio.testing.wait_all_tasks_blocked()
            await child.stdin.aclose()
        assert (await child.wait(), child.usage) == (3, None)


async def test_the_usage_of_what_somebody_else_reaped_is_unknown() -> None:
    async with open_processes() as processes, processes.open(["true"]) as child:
        os.waitpid(child.pid, 0)  # noqa: ASYNC222 - ends at once
        await child.wait()
        assert child.usage is None


async def run_and_feed(processes: Processes) -> None:
    assert (await processes.run(["cat"], stdin=b"x" * 100_000)).status == 0


async def open_and_talk(processes: Processes) -> None:
    async with processes.open(["cat"], stdin=Redirect.PIPE, stdout=Redirect.PIPE) as child:
        await child.stdin.send_all(b"x" * 1000)
        await child.stdout.receive_some()
        await child.stdin.aclose()
        assert await child.wait() == 0


async def wait_by_two(processes: Processes) -> None:
    async with (
        processes.open(["cat"], stdin=Redirect.PIPE) as child,
        trio.open_nursery() as nursery,
    ):
        nursery.start_soon(child.wait)
        nursery.start_soon(child.wait)
        await child.stdin.aclose()


@pytest.mark.parametrize("operation", [run_and_feed, open_and_talk, wait_by_two])
async def test_cancel_at_each_step_leaves_nothing(
    operation: Callable[[Processes], Awaitable[None]],
) -> None:
    async def once() -> None:
        async with open_processes() as processes:
            await operation(processes)
            assert processes.stuck == ()

    assert await cancel_at_each_step(once) > 10


async def test_cancelling_everything_at_once_still_ends_each_child_with_grace() -> None:
    pids = []
    with trio.CancelScope() as scope:
        async with (
            open_processes() as processes,
            processes.open(
                ["sh", "-c", "echo ready; cat; echo saved >&2; exit 4"],
                stdin=Redirect.PIPE,
                stdout=Redirect.PIPE,
            ) as child,
        ):
            pids.append(child.pid)
            assert await child.stdout.receive_some() == b"ready\n"
            scope.cancel()
            await trio.sleep_forever()
    assert await child.wait() == 4
    assert not running(pids[0])


async def test_each_command_is_logged_with_how_it_ended() -> None:
    with structlog.testing.capture_logs() as entries:
        async with open_processes() as processes:
            await processes.run(["/bin/sh", "-c", "exit 3"])
            await processes.run(["true", *["x" * 100] * 100])
            async with processes.open(IGNORES_SIGTERM, stdout=Redirect.PIPE, grace_s=0) as child:
                await child.stdout.receive_some()
            with pytest.raises(FileNotFoundError):
                await processes.run(["/no/such/program"])
    told = [each for each in entries if each["event"] == "command ended"]
    assert [each["log_level"] for each in told] == ["debug"] * 3
    assert [each["status"] for each in told] == [3, 0, -signal.SIGKILL]
    assert told[0]["command"] == "/bin/sh -c 'exit 3'"
    assert len(told[1]["command"]) == 2001
    assert all(0 <= each["seconds"] < 30 for each in told)
