"""Programs as hooks: what they are told, what becomes of what they print, and how they end."""

from __future__ import annotations

import os
import tempfile
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import psutil
import pytest
import structlog
import trio

from tests.replication.notation import path
from tests.support.docs import block
from tests.support.resources import cancel_at_each_step, nothing_left_behind, until
from zrepl_trio.children import open_processes
from zrepl_trio.config.environment import DEFAULT_TUNING
from zrepl_trio.snapshots.command_hook import CommandHook
from zrepl_trio.snapshots.hooks import Edge, HookFailed
from zrepl_trio.zfs.filter import FilesystemFilter
from zrepl_trio.zfs.names import DatasetPath

A, B = path("tank/a"), path("tank/b")
ALL = FilesystemFilter.of({"<": True})


@asynccontextmanager
async def command(
    tmp_path: Path, script: str, timeout_s: float = 30.0, **options: Any
) -> AsyncIterator[CommandHook]:
    program = tmp_path / "hook"
    program.write_text(f"#!/bin/sh\n{script}\n")
    program.chmod(0o755)
    with nothing_left_behind():
        async with open_processes() as processes:
            yield CommandHook(
                processes,
                path=str(program),
                timeout_s=timeout_s,
                filesystems=ALL,
                err_is_fatal=False,
                **options,
            )


async def test_a_program_is_told_what_it_is_about(tmp_path: Path) -> None:
    out = tmp_path / "out"
    os.environ["ZREPL_TRIO_TEST_HOOK"] = "ours"
    try:
        async with command(tmp_path, f'echo "$#"; env > {out}; echo warned >&2', 30.9) as hook:
            with structlog.testing.capture_logs() as log:
                await hook.run(Edge.PRE, [A], "zrepl_1")
    finally:
        del os.environ["ZREPL_TRIO_TEST_HOOK"]
    told = dict(line.split("=", 1) for line in out.read_text().splitlines())
    outside = os.environ.keys()
    ours = {name for name in told if name.startswith("ZREPL")} - outside
    assert {name: told[name] for name in ours} == {
        "ZREPL_HOOKTYPE": "pre_snapshot",
        "ZREPL_FS": "tank/a",
        "ZREPL_SNAPNAME": "zrepl_1",
        "ZREPL_DRYRUN": "",
        "ZREPL_TIMEOUT": "30",
        "ZREPL_TRIO_TEST_HOOK": "ours",  # and gone from our own by now
    }
    said = [
        (line["log_level"], line.get("stdout", line.get("stderr")))
        for line in log
        if line["event"] != "command ended"
    ]
    assert said == [("info", "0"), ("warning", "warned")]


async def test_the_documented_program_runs(tmp_path: Path) -> None:
    text = block("program", "docs/hooks.md").removeprefix("#!/bin/sh\n")
    async with command(tmp_path, text) as hook:
        with structlog.testing.capture_logs() as log:
            await hook.run(Edge.PRE, [A], "zrepl_1")
            await hook.run(Edge.POST, [A], "zrepl_1")
    assert [line["stdout"] for line in log if "stdout" in line] == [
        "before tank/a@zrepl_1",
        "after tank/a@zrepl_1",
    ]


async def test_a_program_for_several_is_told_each_in_a_line(tmp_path: Path) -> None:
    out = tmp_path / "out"
    async with command(tmp_path, f'printf "%s" "$ZREPL_FS" > {out}') as hook:
        await hook.run(Edge.PRE, [A, B], "s")
    assert out.read_text() == "tank/a\ntank/b"


MANY = [path(f"tank/{'x' * 150}{number}") for number in range(1000)]


@pytest.fixture
def temporary(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Where temporary files go; none must be left."""
    directory = tmp_path / "temporary"
    directory.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(directory))
    yield directory
    assert list(directory.iterdir()) == []


@pytest.mark.parametrize("filesystems", [[A], MANY])
async def test_a_program_for_all_is_told_them_by_a_file(
    tmp_path: Path, temporary: Path, filesystems: list[DatasetPath]
) -> None:
    out = tmp_path / "out"
    script = f'cat "$ZREPL_FS_FILE" > {out}; stat -c %a "${{ZREPL_FS_FILE%/*}}"; echo "${{ZREPL_FS-unset}}"'
    async with command(tmp_path, script, lists=True) as hook:
        with structlog.testing.capture_logs() as log:
            await hook.run(Edge.PRE, filesystems, "s")
    assert out.read_text().splitlines() == filesystems
    alone = "tank/a" if filesystems == [A] else "unset"
    assert [line["stdout"] for line in log if "stdout" in line] == ["700", alone]


async def test_a_program_for_one_has_no_file(tmp_path: Path) -> None:
    async with command(tmp_path, "echo ${ZREPL_FS_FILE-unset}") as hook:
        with structlog.testing.capture_logs() as log:
            await hook.run(Edge.PRE, [A], "s")
    assert [line["stdout"] for line in log if "stdout" in line] == ["unset"]


async def test_the_file_is_gone_however_the_program_ends(tmp_path: Path, temporary: Path) -> None:
    async with command(tmp_path, "exit 1", lists=True) as hook:
        with pytest.raises(HookFailed, match="ended with status 1"):
            await hook.run(Edge.PRE, [A], "s")
    async with command(tmp_path, 'rm -r "${ZREPL_FS_FILE%/*}"', lists=True) as hook:
        await hook.run(Edge.PRE, [A], "s")
    async with command(tmp_path, "sleep 1000", lists=True) as hook, trio.open_nursery() as nursery:
        nursery.start_soon(hook.run, Edge.PRE, MANY, "s")
        await until(lambda: len(list(temporary.iterdir())) == 1)
        nursery.cancel_scope.cancel()


async def test_where_the_file_cannot_be_a_few_are_told_without(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "absent"))
    async with command(tmp_path, 'echo "$ZREPL_FS"', lists=True) as hook:
        with structlog.testing.capture_logs() as log:
            await hook.run(Edge.PRE, [A, B], "s")
        assert [line["stdout"] for line in log if "stdout" in line] == ["tank/a", "tank/b"]
        assert [line["event"] for line in log if "err" in line] == ["hook without ZREPL_FS_FILE"]
        with pytest.raises(
            HookFailed, match=r"the file that lists the filesystems .* No such file"
        ):
            await hook.run(Edge.PRE, MANY, "s")


async def test_an_environment_that_is_too_long_is_told(tmp_path: Path) -> None:
    environment = {"X": "x" * 200_000}
    async with command(tmp_path, "", environ=lambda: environment) as hook:
        with pytest.raises(HookFailed, match="environment is too long; 200003 bytes of it are the"):
            await hook.run(Edge.PRE, [A], "s")


@pytest.mark.parametrize(
    ("script", "says"),
    [
        ("echo 'no database' >&2; exit 3", r"ended with status 3: no database"),
        ("kill -9 $$", r"was killed by SIGKILL"),
    ],
)
async def test_a_program_that_fails_says_how(tmp_path: Path, script: str, says: str) -> None:
    async with command(tmp_path, script) as hook:
        with pytest.raises(HookFailed, match=says):
            await hook.run(Edge.POST, [A], "s")


def remove(program: Path) -> None:
    program.unlink()


def make_directory(program: Path) -> None:
    program.unlink()
    program.mkdir()


def take_away_the_right(program: Path) -> None:
    program.chmod(0o644)


def name_no_interpreter(program: Path) -> None:
    program.write_text("echo\n")


def name_a_missing_interpreter(program: Path) -> None:
    program.write_text("#!/nonexistent/sh\n")


@pytest.mark.parametrize(
    ("spoil", "says"),
    [
        (remove, "No such file"),
        (make_directory, "Permission denied"),
        (take_away_the_right, "Permission denied"),
        (name_no_interpreter, "Exec format error"),
        (name_a_missing_interpreter, "No such file"),
    ],
)
async def test_a_program_that_cannot_be_run_is_told(
    tmp_path: Path, spoil: Callable[[Path], None], says: str
) -> None:
    async with command(tmp_path, "") as hook:
        spoil(tmp_path / "hook")
        with pytest.raises(HookFailed, match=f"{tmp_path}/hook cannot be run: {says}"):
            await hook.run(Edge.PRE, [A], "s")


async def test_a_program_that_hangs_is_killed_with_its_children(tmp_path: Path) -> None:
    pids = tmp_path / "pids"
    script = f"sleep 1000 & echo $! > {pids}; trap '' TERM; wait; sleep 1000"
    async with command(tmp_path, script, 0.5) as hook:
        with pytest.raises(HookFailed, match=r"did not end within 0\.5 s and was killed"):
            await hook.run(Edge.PRE, [A], "s")
    await until(lambda: gone(int(pids.read_text())))


def gone(pid: int) -> bool:
    try:
        return psutil.Process(pid).status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True


async def test_what_a_program_leaves_running_is_not_waited_for(tmp_path: Path) -> None:
    pids = tmp_path / "pids"
    async with command(tmp_path, f"sleep 1000 & echo $! > {pids}; echo done") as hook:
        with trio.fail_after(20):
            await hook.run(Edge.PRE, [A], "s")
    psutil.Process(int(pids.read_text())).kill()


async def test_no_more_of_the_output_is_logged_than_is_wanted(tmp_path: Path) -> None:
    async with command(tmp_path, "echo 1234567890; echo more", most_logged_bytes=4) as hook:
        with structlog.testing.capture_logs() as log:
            await hook.run(Edge.PRE, [A], "s")
    assert [line["stdout"] for line in log if "stdout" in line] == ["1234"]
    assert [line["most_bytes"] for line in log if "more output" in line["event"]] == [4]


async def test_a_long_line_is_whole_in_the_log(tmp_path: Path) -> None:
    async with command(tmp_path, "head -c 12003 /dev/zero | tr '\\0' x; echo; echo end") as hook:
        with structlog.testing.capture_logs() as log:
            await hook.run(Edge.PRE, [A], "s")
    said = [line["stdout"] for line in log if "stdout" in line]
    assert "".join(said) == "x" * 12003 + "end"
    assert "" not in said


async def test_what_it_said_last_is_in_the_log_when_its_time_is_over(tmp_path: Path) -> None:
    said = tmp_path / "said"
    script = f"printf 'begun\\nwaiting for a lock'; touch {said}; sleep 1000"
    async with command(tmp_path, script, 2.0) as hook:
        with structlog.testing.capture_logs() as log, pytest.raises(HookFailed):
            await hook.run(Edge.PRE, [A], "s")
    assert said.exists()
    assert [line["stdout"] for line in log if "stdout" in line] == ["begun", "waiting for a lock"]


class Turns(trio.abc.Instrument):
    """The most entries that were logged in a row, without a turn for others."""

    def __init__(self, log: list[structlog.typing.EventDict]) -> None:
        self._log = log
        self._before = 0
        self.most = 0

    def before_task_step(self, task: trio.lowlevel.Task) -> None:
        del task
        self._before = len(self._log)

    def after_task_step(self, task: trio.lowlevel.Task) -> None:
        del task
        self.most = max(self.most, len(self._log) - self._before)


async def test_many_short_lines_neither_hold_up_others_nor_fill_the_log(tmp_path: Path) -> None:
    async with command(tmp_path, 'yes "" | head -c 10000000') as hook:
        with structlog.testing.capture_logs() as log:
            turns = Turns(log)
            trio.lowlevel.add_instrument(turns)
            await hook.run(Edge.PRE, [path(f"tank/{each}") for each in range(1000)], "s")
            trio.lowlevel.remove_instrument(turns)
    assert sum("stdout" in line for line in log) == 1000
    assert sum("more output" in line["event"] for line in log) == 1
    assert turns.most <= 2
    expected = "tank/0, tank/1, tank/2 and 997 more of 1000 filesystems"
    assert {line["filesystem"] for line in log if "filesystem" in line} == {expected}


@pytest.mark.slow
@pytest.mark.parametrize(
    "script",
    [
        "yes output | head -c 100000000; yes error | head -c 3000000 >&2",
        "head -c 100000000 /dev/zero; head -c 100000000 /dev/zero >&2",  # all in one line
    ],
)
async def test_endless_output_neither_blocks_nor_fills_the_log(tmp_path: Path, script: str) -> None:
    async with command(tmp_path, script) as hook:
        with structlog.testing.capture_logs() as log:
            await hook.run(Edge.PRE, [A], "s")
    logged = sum(len(line.get("stdout", "")) for line in log)
    assert 0 < logged <= DEFAULT_TUNING.hook_log_bytes + 10
    assert sum("more output" in line["event"] for line in log) == 1
    warned = sum(len(line.get("stderr", "")) for line in log)
    assert 0 < warned <= 32 * 1024


@pytest.mark.slow
async def test_a_program_that_is_cancelled_anywhere_leaves_nothing(tmp_path: Path) -> None:
    async with command(tmp_path, "echo begun; sleep 0.05; echo done") as hook:
        await cancel_at_each_step(lambda: hook.run(Edge.PRE, [A], "s"))
