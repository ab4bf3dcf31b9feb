"""Hooks: which edges run, in which order, whatever fails."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import pytest
import trio

from tests.replication.notation import path
from zrepl_trio.snapshots.hooks import Edge, HookFailed, run_around, shown
from zrepl_trio.zfs.filter import FilesystemFilter
from zrepl_trio.zfs.names import DatasetPath

A = path("tank/a")
ALL = FilesystemFilter.of({"<": True})


class FakeHook:
    """Writes down what it is asked; fails at the edges in `fails`."""

    def __init__(
        self,
        name: str,
        calls: list[str],
        *,
        fails: tuple[Edge, ...] = (),
        fatal: bool = False,
        filesystems: FilesystemFilter = ALL,
    ) -> None:
        self.name = name
        self.filesystems = filesystems
        self.err_is_fatal = fatal
        self._calls = calls
        self._fails = fails
        self.hangs = False
        self.told: list[str] = []

    async def run(self, edge: Edge, filesystems: Sequence[DatasetPath], snapshot: str) -> None:
        assert snapshot == "s"
        self.told.append(" ".join(path.removeprefix("tank/") for path in filesystems))
        self._calls.append(f"{edge.value[:3]}{self.name}".replace("pos", "post"))
        await trio.lowlevel.checkpoint()
        if self.hangs and edge is Edge.PRE:
            await trio.sleep_forever()
        if edge in self._fails:
            raise HookFailed("no")


PRE, POST = (Edge.PRE,), (Edge.POST,)
FATAL = "skipped due to a fatal error"


@pytest.mark.parametrize(
    ("first", "second", "snapshot_fails", "order", "states"),
    [
        ({}, {}, False, "pre1 pre2 snap post2 post1", "ok ok ok ok ok"),
        ({}, {}, True, "pre1 pre2 snap post2 post1", "ok ok error ok ok"),
        (
            {"fails": PRE},
            {},
            False,
            "pre1 pre2 snap post2",
            "error ok ok ok skipped due to its pre-edge's error",
        ),
        (
            {},
            {"fails": PRE, "fatal": True},
            False,
            "pre1 pre2 post1",  # zrepl leaves the first one's post edge out
            f"ok error {FATAL} skipped due to its pre-edge's error ok",
        ),
        (
            {"fails": PRE, "fatal": True},
            {},
            False,
            "pre1",
            f"error {FATAL} {FATAL} {FATAL} skipped due to its pre-edge's error",
        ),
        (
            {"fails": POST, "fatal": True},
            {},
            False,
            "pre1 pre2 snap post2 post1",
            "ok ok ok ok error",
        ),
    ],
)
async def test_edges_run_in_zrepls_order_and_every_lock_is_taken_off(
    first: dict[str, object],
    second: dict[str, object],
    order: str,
    states: str,
    *,
    snapshot_fails: bool,
) -> None:
    calls: list[str] = []

    async def take(paths: Sequence[DatasetPath]) -> Mapping[DatasetPath, str]:
        calls.append("snap")
        await trio.lowlevel.checkpoint()
        return dict.fromkeys(paths, "out of space") if snapshot_fails else {}

    hooks = [FakeHook("1", calls, **first), FakeHook("2", calls, **second)]  # type: ignore[arg-type]
    steps = await run_around(hooks, [A], "s", take)
    assert " ".join(calls) == order
    assert " ".join(step.state.value for step in steps) == states


async def test_only_those_that_mean_the_filesystem_run() -> None:
    calls: list[str] = []
    other = FilesystemFilter.of({"tank/b": True})

    async def take(paths: Sequence[DatasetPath]) -> Mapping[DatasetPath, str]:
        calls.append("snap")
        return {}

    hooks = [FakeHook("1", calls, filesystems=other), FakeHook("2", calls)]
    await run_around(hooks, [A], "s", take)
    assert calls == ["pre2", "snap", "post2"]


@pytest.mark.parametrize("hangs_in", ["snapshot", "pre"])
async def test_a_daemon_that_stops_takes_every_lock_off(
    autojump_clock: trio.abc.Clock, hangs_in: str
) -> None:
    calls: list[str] = []
    hooks = [FakeHook("1", calls), FakeHook("2", calls)]
    hooks[1].hangs = hangs_in == "pre"

    async def take(paths: Sequence[DatasetPath]) -> Mapping[DatasetPath, str]:
        await trio.sleep_forever()
        raise AssertionError

    with trio.move_on_after(1):
        await run_around(hooks, [A], "s", take)
    # the second may have done its work when it was cut off
    assert calls == ["pre1", "pre2", "post2", "post1"]


B, C = path("tank/b"), path("tank/c")


async def taken_together(hooks: list[FakeHook]) -> tuple[str, list[str]]:
    """Whose snapshots were taken, and every step, of three filesystems at once."""
    taken: list[str] = []

    async def take(paths: Sequence[DatasetPath]) -> Mapping[DatasetPath, str]:
        taken.extend(path.removeprefix("tank/") for path in paths)
        return {C: "out of space"} if C in paths else {}

    steps = await run_around(hooks, [A, B, C], "s", take)
    return " ".join(taken), [f"{' '.join(step.filesystems)} {step}" for step in steps]


async def test_around_several_each_hook_runs_once_for_those_that_it_means() -> None:
    calls: list[str] = []
    two = FakeHook("2", calls, filesystems=FilesystemFilter.of({"tank/b": True, "tank/c": True}))
    none = FakeHook("3", calls, filesystems=FilesystemFilter.of({"tank/d": True}))
    taken, steps = await taken_together([one := FakeHook("1", calls), two, none])
    assert calls == ["pre1", "pre2", "post2", "post1"]
    assert (one.told, two.told) == (["a b c"] * 2, ["b c"] * 2)
    assert taken == "a b c"
    assert steps == [
        "tank/a tank/b tank/c pre_snapshot 1: ok",
        "tank/b tank/c pre_snapshot 2: ok",
        "tank/a snapshot: ok",
        "tank/b snapshot: ok",
        "tank/c snapshot: error: out of space",
        "tank/b tank/c post_snapshot 2: ok",
        "tank/a tank/b tank/c post_snapshot 1: ok",
    ]


async def test_a_fatal_error_leaves_out_only_those_that_the_hook_means() -> None:
    calls: list[str] = []
    only_b = FilesystemFilter.of({"tank/b": True})
    last = FakeHook("3", calls)
    hooks = [
        FakeHook("1", calls, fails=PRE, fatal=True, filesystems=only_b),
        FakeHook("2", calls, filesystems=only_b),
        last,
    ]
    taken, steps = await taken_together(hooks)
    assert calls == ["pre1", "pre3", "post3"]
    assert last.told == ["a c", "a c"]
    assert taken == "a c"
    assert f"tank/b pre_snapshot 2: {FATAL}" in steps
    assert f"tank/b snapshot: {FATAL}" in steps
    assert f"tank/b post_snapshot 2: {FATAL}" in steps


def test_a_few_filesystems_are_named_in_full() -> None:
    assert shown([A]) == "tank/a"
    four = [path(f"tank/{each}") for each in range(4)]
    assert shown(four) == "tank/0, tank/1, tank/2, tank/3"
