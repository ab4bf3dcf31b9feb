"""`zfs-abstraction`: what it prints and how it ends, in memory and through the emulated zfs."""

from __future__ import annotations

import json
import random
import subprocess
import sys
from pathlib import Path

import pytest

from tests.zfs.test_memory import TestClock
from zrepl_trio.cli.exitcodes import ExitCode
from zrepl_trio.cli.zfs_abstraction import list_all, release_all, release_stale
from zrepl_trio.endpoint.abstractions import cursor_name
from zrepl_trio.endpoint.housekeeping import hold_step
from zrepl_trio.endpoint.inventory import Selection
from zrepl_trio.errors import DatasetBusy, ZfsError
from zrepl_trio.zfs.memory import MemoryZfs
from zrepl_trio.zfs.names import DatasetPath

A, B = DatasetPath("tank/a"), DatasetPath("tank/b")
OLD = 'step-hold "zrepl_STEP_J_j" on tank/a@1'
NEW = 'step-hold "zrepl_STEP_J_j" on tank/a@2'
OTHER = 'step-hold "zrepl_STEP_J_j" on tank/b@1'


@pytest.fixture
async def zfs() -> MemoryZfs:
    """An old hold and one of an unfinished step on tank/a, one on tank/b."""
    zfs = MemoryZfs(rng=random.Random(0), clock=TestClock(), pools=["tank"])
    for dataset, names in ((A, "12"), (B, "1")):
        zfs.add_filesystem(dataset)
        for name in names:
            await zfs.snapshot(dataset, name)
            await hold_step(zfs, dataset, name, "j")
    return zfs


def break_(zfs: MemoryZfs, call: str, error: ZfsError) -> None:
    async def fail(made: str, dataset: str) -> None:
        if (made, dataset) == (call, B):
            raise error

    zfs.before = fail


async def test_a_list_has_a_line_each(zfs: MemoryZfs, capsys: pytest.CaptureFixture[str]) -> None:
    assert await list_all(zfs, Selection(), concurrency=2, as_json=False) is ExitCode.DONE
    assert capsys.readouterr() == (f"{OLD}\n{NEW}\n{OTHER}\n", "")


async def test_a_json_list_has_an_object_each_with_a_blank_line_behind(
    zfs: MemoryZfs, capsys: pytest.CaptureFixture[str]
) -> None:
    await list_all(zfs, Selection(), concurrency=1, as_json=True)
    *objects, rest = capsys.readouterr().out.split("\n\n")
    assert [json.loads(each)["String"] for each in objects] == [OLD, NEW, OTHER]
    assert rest == ""
    assert objects[0].startswith('{\n  "Type": "step-hold",\n')


async def test_what_cannot_be_listed_is_named_and_status_1(
    zfs: MemoryZfs, capsys: pytest.CaptureFixture[str]
) -> None:
    break_(zfs, "versions", ZfsError("I/O error"))
    assert await list_all(zfs, Selection(), concurrency=1, as_json=False) is ExitCode.FAILED
    assert capsys.readouterr() == (f"{OLD}\n{NEW}\n", "tank/b: I/O error\n")


@pytest.mark.parametrize(("as_json", "out"), [(False, f"would destroy {OLD}\n"), (True, None)])
async def test_a_dry_run_says_what_and_does_nothing(
    zfs: MemoryZfs, capsys: pytest.CaptureFixture[str], as_json: bool, out: str | None
) -> None:
    code = await release_stale(zfs, Selection(), concurrency=1, as_json=as_json, dry_run=True)
    said = capsys.readouterr().out
    assert code is ExitCode.DONE
    assert said == out or [each["String"] for each in json.loads(said)] == [OLD]
    assert len(await zfs.holds(A, ["1", "2"])) == 2


async def test_the_step_under_way_keeps_its_hold_and_its_base(
    zfs: MemoryZfs, capsys: pytest.CaptureFixture[str]
) -> None:
    first = (await zfs.versions(A))[0]
    await zfs.bookmark(A, first, cursor_name(A, first.guid, "j"))
    code = await release_stale(zfs, Selection(), concurrency=1, as_json=False, dry_run=False)
    assert code is ExitCode.DONE
    assert capsys.readouterr() == (f"destroy {OLD} ... OK\n", "")
    assert [hold.snapshot for hold in await zfs.holds(A, ["1", "2"])] == ["2"]
    assert [v.relative[:13] for v in await zfs.versions(A)] == ["#zrepl_CURSOR", "@1", "@2"]


async def test_nothing_stale_is_released_when_something_cannot_be_listed(
    zfs: MemoryZfs, capsys: pytest.CaptureFixture[str]
) -> None:
    break_(zfs, "holds", ZfsError("tank/b: I/O error"))
    code = await release_stale(zfs, Selection(), concurrency=1, as_json=False, dry_run=False)
    assert code is ExitCode.FAILED
    said = capsys.readouterr()
    assert said.out == ""
    assert said.err.startswith("tank/b: I/O error\nzrepl-trio: nothing was released: ")
    assert len(await zfs.holds(A, ["1", "2"])) == 2


@pytest.mark.parametrize("as_json", [False, True])
async def test_what_cannot_be_released_is_named_and_status_1(
    zfs: MemoryZfs, capsys: pytest.CaptureFixture[str], as_json: bool
) -> None:
    break_(zfs, "release", DatasetBusy("tank/b: busy"))
    code = await release_all(zfs, Selection(), concurrency=1, as_json=as_json, dry_run=False)
    assert code is ExitCode.FAILED
    said = capsys.readouterr()
    assert said.err == "zrepl-trio: 1 of 3 could not be destroyed\n"
    if as_json:
        results = json.loads("[" + said.out.replace("\n}\n{", "\n},\n{") + "]")
        assert [(each["Abstraction"]["String"], each["DestroyErr"]) for each in results] == [
            (OLD, ""),
            (NEW, ""),
            (OTHER, "tank/b: busy"),
        ]
    else:
        failed = f"destroy {OTHER} ... failed:\ntank/b: busy\n"
        assert said.out == f"destroy {OLD} ... OK\ndestroy {NEW} ... OK\n{failed}"


async def test_everything_else_goes_when_something_cannot_be_listed(
    zfs: MemoryZfs, capsys: pytest.CaptureFixture[str]
) -> None:
    break_(zfs, "versions", ZfsError("tank/b: I/O error"))
    code = await release_all(zfs, Selection(), concurrency=1, as_json=False, dry_run=False)
    assert code is ExitCode.FAILED
    assert capsys.readouterr().out.count(" OK\n") == 2


SCRIPT = """
set -e
zpool create tank
for n in 1 2 3; do zfs snapshot tank@$n; done
zfs hold keep tank@1
zfs hold zrepl_STEP_J_j tank@1 tank@2
zfs create -o zrepl:placeholder=on tank/r
$Z zfs-abstraction create step -t tank@3 -j other
$Z zfs-abstraction release-stale -p 2
$Z zfs-abstraction release-all --job other --fs 'tank<:ok'
$Z zfs-abstraction list
zfs holds -H tank@1 | cut -f 2
$Z test placeholder --all
"""


@pytest.mark.slow
@pytest.mark.timeout(180)
def test_from_the_shell_on_emulated_pools(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "zrepl_trio", "sandbox", str(tmp_path), "--"]
    script = SCRIPT.replace("$Z", f"'{sys.executable}' -m zrepl_trio")
    done = subprocess.run(
        [*command, "sh", "-c", script], capture_output=True, text=True, check=False
    )
    hold = 'step-hold "zrepl_STEP_J_{}" on tank@{}'.format
    assert done.stderr == ""
    assert done.stdout.splitlines() == [
        hold("other", 3),
        f"destroy {hold('j', 1)} ... OK",
        f"destroy {hold('other', 3)} ... OK",
        hold("j", 2),
        "keep",
        "IS_PLACEHOLDER\tDATASET\tzrepl:placeholder",
        "no\ttank\t",
        "yes\ttank/r\ton",
    ]
