"""What `CliZfs` does beyond the conformance suite: odd zfs programs, batches, blocked datasets."""

from __future__ import annotations

import errno
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path

import pytest
import trio

from tests.support.resources import cancel_at_each_step, nothing_left_behind
from zrepl_trio.bulk import wait_readable
from zrepl_trio.children import open_processes
from zrepl_trio.errors import DatasetBlocked, SourceFailed, ZfsError
from zrepl_trio.process import Child, Completed, StuckChild
from zrepl_trio.zfs import argv
from zrepl_trio.zfs.cli import CliZfs
from zrepl_trio.zfs.filter import Extent
from zrepl_trio.zfs.limits import ZfsLimits
from zrepl_trio.zfs.model import FilesystemVersion, ReceiveArgs, SendArgs, VersionKind
from zrepl_trio.zfs.names import DatasetPath

TANK = DatasetPath.parse("tank/a")
TO = FilesystemVersion(kind=VersionKind.SNAPSHOT, name="1", guid=1, createtxg=1, creation=1)
DESTROY_USAGE = b"destroy [-dnpRrv] <filesystem|volume>@<snap>[%<snap>][,...]"


@asynccontextmanager
async def zfs_that(
    tmp_path: Path,
    script: str,
    limits: ZfsLimits = ZfsLimits(),  # noqa: B008 - frozen
) -> AsyncIterator[CliZfs]:
    """A `CliZfs` whose zfs is that shell script."""
    program = tmp_path / "zfs"
    program.write_text(f"#!/bin/sh\n{script}\n")
    program.chmod(0o755)
    with nothing_left_behind():
        async with open_processes() as processes:
            yield CliZfs(processes, zfs=str(program), limits=limits)


# -- odd programs ----------------------------------------------------------------------------


async def test_missing_zfs_is_one_clear_error() -> None:
    async with open_processes() as processes:
        zfs = CliZfs(processes, zfs="no-such-zfs")
        for call in (
            zfs.features,
            lambda: zfs.datasets([TANK]),
            lambda: zfs.versions(TANK),
            lambda: zfs.dataset(TANK),
            lambda: zfs.snapshot(TANK, "1"),
            lambda: zfs.destroy_snapshots(TANK, ["1", "2"]),
        ):
            with pytest.raises(ZfsError, match="cannot run `no-such-zfs`: it is not in PATH"):
                await call()
        with pytest.raises(ZfsError, match="not in PATH"):
            async with zfs.open_send(SendArgs(dataset=TANK, to=TO)):
                pass
        with pytest.raises(ZfsError, match="not in PATH"):
            async with zfs.open_receive(ReceiveArgs(dataset=TANK, snapshot="1")):
                pass


@pytest.mark.parametrize(
    ("script", "said"),
    [
        ("echo nonsense", "printed something unexpected"),
        ("printf 'tank/a@1\\t1\\t1\\t1\\t'", "ends inside a row"),
        ("exit 3", "failed with status 3 and said nothing"),
        ("echo 'cannot open: something new' >&2; exit 1", "something new"),
        ("kill -9 $$", "killed by signal 9"),
        ("printf 'tank/b@1\\t1\\t1\\t1\\t0\\n'", "another dataset"),
    ],
)
async def test_odd_output_is_a_clear_error(tmp_path: Path, script: str, said: str) -> None:
    async with zfs_that(tmp_path, script) as zfs:
        with pytest.raises(ZfsError, match=said) as caught:
            await zfs.versions(TANK)
        assert "tank/a" in str(caught.value)


async def test_endless_output_is_read_as_it_comes_and_stopped(tmp_path: Path) -> None:
    async with zfs_that(tmp_path, "yes x | tr -d '\\n'") as zfs:
        with trio.fail_after(20), pytest.raises(ZfsError, match="row of more than"):
            await zfs.versions(TANK)


async def test_a_zfs_that_hangs_is_given_up_and_named(tmp_path: Path) -> None:
    async with zfs_that(tmp_path, "exec sleep 1000", ZfsLimits(command_s=0.2)) as zfs:
        for call in (lambda: zfs.versions(TANK), lambda: zfs.hold(TANK, ["1"], "t")):
            with pytest.raises(
                ZfsError, match=r"0\.2 s and was killed .*if it ignores that"
            ) as caught:
                await call()
            assert "tank/a: `zfs " in str(caught.value)


STALLING = ZfsLimits(stream_s=0.2)
STALLED = r"tank/a: `\S*zfs (send|recv) .*` did nothing for 0\.2 s and was killed"


async def test_a_send_that_gives_nothing_is_given_up(tmp_path: Path) -> None:
    async with zfs_that(tmp_path, "echo data; exec sleep 1000", STALLING) as zfs:
        for copies in (True, False):
            async with zfs.open_send(SendArgs(dataset=TANK, to=TO)) as send:
                assert await send.reader.receive_some(100) == b"data\n"
                with pytest.raises(SourceFailed, match=STALLED):
                    await (send.reader.receive_some(1) if copies else wait_readable(send.reader))


async def test_a_receive_that_takes_nothing_is_given_up(tmp_path: Path) -> None:
    async with (
        zfs_that(tmp_path, "exec sleep 1000", STALLING) as zfs,
        zfs.open_receive(ReceiveArgs(dataset=TANK, snapshot="1")) as receive,
    ):
        with pytest.raises(ZfsError, match=STALLED):
            await receive.writer.send_all(bytes(10_000_000))
        with pytest.raises(ZfsError, match=STALLED):
            await receive.writer.wait_send_all_might_not_block()
        with pytest.raises(ZfsError, match=STALLED), trio.fail_after(0.1):
            await receive.finish()  # no second wait


async def test_what_does_not_end_after_its_stream_is_given_up(tmp_path: Path) -> None:
    async with zfs_that(tmp_path, "exec >&-; cat; exec sleep 1000", STALLING) as zfs:
        async with zfs.open_send(SendArgs(dataset=TANK, to=TO)) as send:
            assert await send.reader.receive_some(1) == b""
            with pytest.raises(ZfsError, match=STALLED):
                await send.finish()
        async with zfs.open_receive(ReceiveArgs(dataset=TANK, snapshot="1")) as receive:
            await receive.writer.send_all(b"data")
            with pytest.raises(ZfsError, match=STALLED):
                await receive.finish()


async def test_endless_stderr_is_bounded(tmp_path: Path) -> None:
    async with zfs_that(tmp_path, "yes complaint | head -c 3000000 >&2; exit 1") as zfs:
        with pytest.raises(ZfsError) as caught:
            await zfs.snapshot(TANK, "1")
        assert len(caught.value.stderr) <= 32 * 1024
        assert len(str(caught.value)) < 3000


async def test_failed_send_after_its_data_is_no_clean_end(tmp_path: Path) -> None:
    async with (
        zfs_that(tmp_path, "echo data; echo 'I/O error' >&2; exit 1") as zfs,
        zfs.open_send(SendArgs(dataset=TANK, to=TO)) as send,
    ):
        assert await send.reader.receive_some(100) == b"data\n"
        assert await send.reader.receive_some(100) == b""
        with pytest.raises(ZfsError, match=r"tank/a: .*I/O error"):
            await send.finish()


async def test_receive_that_gives_up_says_why(tmp_path: Path) -> None:
    async with (
        zfs_that(tmp_path, "head -c 10 >/dev/null; echo 'out of space' >&2; exit 1") as zfs,
        zfs.open_receive(ReceiveArgs(dataset=TANK, snapshot="1")) as receive,
    ):
        with pytest.raises(trio.BrokenResourceError):
            await receive.writer.send_all(b"x" * 10_000_000)
        with pytest.raises(ZfsError, match=r"tank/a: .*out of space"):
            await receive.finish()


async def test_a_receive_left_alone_gets_its_eof_and_the_time_to_act_on_it(tmp_path: Path) -> None:
    saved = tmp_path / "saved"
    script = f"trap '' TERM; cat >/dev/null; sleep 0.3; echo state > {saved}"
    async with (
        zfs_that(tmp_path, script) as zfs,
        zfs.open_receive(ReceiveArgs(dataset=TANK, snapshot="1")) as receive,
    ):
        await receive.writer.send_all(b"x")
    assert saved.read_text() == "state\n"


async def test_cancelling_leaves_nothing(tmp_path: Path) -> None:
    async with zfs_that(tmp_path, "cat; sleep 100") as zfs:

        async def operation() -> None:
            async with zfs.open_send(SendArgs(dataset=TANK, to=TO)) as send:
                await send.reader.receive_some(1)

        with trio.move_on_after(0.2):
            await zfs.versions(TANK)
        with trio.move_on_after(0.2):
            await operation()


async def test_cancel_at_each_step_of_a_listing(tmp_path: Path) -> None:
    script = "printf 'tank/a@1\\t1\\t1\\t1\\t0\\n'; printf 'tank/a@2\\t2\\t2\\t2\\t0\\n'"
    async with zfs_that(tmp_path, script) as zfs:
        await cancel_at_each_step(lambda: zfs.versions(TANK))


# -- scripted processes ----------------------------------------------------------------------

Answer = Callable[[Sequence[str]], Completed]


def done(words: Sequence[str], status: int = 0, stderr: str = "", stdout: bytes = b"") -> Completed:
    return Completed(argv=tuple(words), status=status, stdout=stdout, stderr=stderr.encode())


class Scripted:
    """`Processes` that answer from a function and keep what was run."""

    def __init__(self, answer: Answer, stuck: tuple[StuckChild, ...] = ()) -> None:
        self._answer = answer
        self.stuck = stuck
        self.ran: list[str] = []

    async def run(
        self,
        argv: Sequence[str],
        *,
        env: Mapping[str, str] | None = None,
        dataset: str = "",
        stdin: bytes = b"",
    ) -> Completed:
        del env, dataset, stdin
        await trio.lowlevel.checkpoint()
        if list(argv[1:]) == ["destroy"]:
            return done(argv, 2, stdout=DESTROY_USAGE)
        if argv[1] in {"version", "send", "receive", "load-key"} and len(argv) == 2:
            return done(argv, 2)
        self.ran.append(" ".join(argv[1:]).replace("tank/a", "FS"))
        return self._answer(argv)

    def open(self, argv: Sequence[str], **_: object) -> AbstractAsyncContextManager[Child]:
        raise AssertionError(f"not expected: {argv}")


def snapshots_of(words: Sequence[str]) -> list[str]:
    return words[-1].partition("@")[2].split(",")


def held(*names: str) -> Answer:
    """A zfs that destroys all or none, where those are held."""

    def answer(words: Sequence[str]) -> Completed:
        refused = [name for name in snapshots_of(words) if name in names]
        said = "".join(f"cannot destroy snapshot tank/a@{n}: dataset is busy\n" for n in refused)
        return done(words, 1 if refused else 0, said)

    return answer


async def test_destroying_is_one_command() -> None:
    processes = Scripted(held())
    results = await CliZfs(processes).destroy_snapshots(TANK, ["c", "a", "b"])
    assert [(r.name, r.error) for r in results] == [("c", ""), ("a", ""), ("b", "")]
    assert processes.ran == ["destroy FS@a,b,c"]


async def test_destroying_one_asks_for_no_features() -> None:
    processes = Scripted(held())
    await CliZfs(processes).destroy_snapshots(TANK, ["a"])
    assert processes.ran == ["destroy FS@a"]


async def test_those_in_the_way_are_left_out_and_tried_alone() -> None:
    processes = Scripted(held("b", "d"))
    results = await CliZfs(processes).destroy_snapshots(TANK, ["d", "c", "b", "a"])
    assert [bool(r.error) for r in results] == [True, False, True, False]
    assert processes.ran == [
        "destroy FS@a,b,c,d",
        "destroy FS@a,c",
        "destroy FS@b",
        "destroy FS@d",
    ]


async def test_unreadable_refusals_mean_one_by_one() -> None:
    def answer(words: Sequence[str]) -> Completed:
        bad = snapshots_of(words) != ["a"]
        return done(words, 1 if bad else 0, "something else\n" if bad else "")

    processes = Scripted(answer)
    results = await CliZfs(processes).destroy_snapshots(TANK, ["a", "b"])
    assert [bool(r.error) for r in results] == [False, True]
    assert processes.ran == ["destroy FS@a,b", "destroy FS@a", "destroy FS@b"]


async def test_refused_again_means_one_by_one() -> None:
    answers = iter(
        ["cannot destroy snapshot tank/a@a: dataset is busy\n", "something else\n", "", "", ""]
    )

    def answer(words: Sequence[str]) -> Completed:
        said = next(answers)
        return done(words, 1 if said else 0, said)

    processes = Scripted(answer)
    results = await CliZfs(processes).destroy_snapshots(TANK, ["a", "b", "c"])
    assert [r.error for r in results] == ["", "", ""]
    assert processes.ran == [
        "destroy FS@a,b,c",
        "destroy FS@b,c",
        "destroy FS@a",
        "destroy FS@b",
        "destroy FS@c",
    ]


async def test_a_batch_that_is_too_long_is_halved() -> None:
    def answer(words: Sequence[str]) -> Completed:
        if len(snapshots_of(words)) > 2:
            raise OSError(errno.E2BIG, "Argument list too long")
        return done(words)

    processes = Scripted(answer)
    results = await CliZfs(processes).destroy_snapshots(TANK, list("abcde"))
    assert [r.error for r in results] == [""] * 5
    assert processes.ran == [
        "destroy FS@a,b,c,d,e",
        "destroy FS@a,b",
        "destroy FS@c,d,e",
        "destroy FS@c",
        "destroy FS@d,e",
    ]


async def test_thousands_of_snapshots_take_few_commands() -> None:
    names = [f"zrepl_20260101_{n:06}_000" for n in range(10_000)]
    processes = Scripted(held())
    results = await CliZfs(processes).destroy_snapshots(TANK, names)
    assert [r.name for r in results] == names
    assert len(processes.ran) < 6


async def test_without_the_comma_form_it_is_one_by_one() -> None:
    processes = Scripted(held())
    zfs = CliZfs(processes)
    processes_destroy = processes.run

    async def run(argv: Sequence[str], **options: object) -> Completed:
        if list(argv[1:]) == ["destroy"]:
            return done(argv, 2)
        return await processes_destroy(argv)

    processes.run = run  # type: ignore[method-assign]
    await zfs.destroy_snapshots(TANK, ["b", "a"])
    assert processes.ran == ["destroy FS@b", "destroy FS@a"]


async def test_holding_goes_on_without_those_that_have_the_tag() -> None:
    tagged = {"b"}

    def answer(words: Sequence[str]) -> Completed:
        names = [word.partition("@")[2] for word in words[3:]]
        refused = [name for name in names if name in tagged]
        if not refused:
            tagged.update(names)
        said = "".join(
            f"cannot hold snapshot 'tank/a@{n}': tag already exists on this dataset\n"
            for n in refused
        )
        return done(words, 1 if refused else 0, said)

    processes = Scripted(answer)
    await CliZfs(processes).hold(TANK, ["a", "b", "c"], "tag")
    assert tagged == {"a", "b", "c"}
    assert processes.ran == ["hold tag FS@a FS@b FS@c", "hold tag FS@a FS@c"]


async def test_holding_many_takes_few_commands() -> None:
    processes = Scripted(done)
    await CliZfs(processes).hold(TANK, [f"s{n:05}" for n in range(10_000)], "tag")
    assert len(processes.ran) < 4


# -- blocked datasets ------------------------------------------------------------------------


async def test_a_stuck_child_blocks_its_dataset_alone() -> None:
    stuck = StuckChild(pid=4711, argv=("zfs", "recv", "tank/a@1"), dataset=TANK)
    processes = Scripted(done, (stuck,))
    zfs = CliZfs(processes)
    for call in (
        lambda: zfs.versions(TANK),
        lambda: zfs.snapshot(TANK, "1"),
        lambda: zfs.hold(TANK, ["1"], "tag"),
        lambda: zfs.holds(TANK, ["1"]),
        lambda: zfs.properties(TANK, ["guid"]),
        lambda: zfs.destroy_snapshots(TANK, ["1"]),
        lambda: zfs.abort_receive(TANK),
        lambda: zfs.rename(TANK, DatasetPath.parse("tank/b")),
        lambda: zfs.rename(DatasetPath.parse("tank/b"), TANK),
    ):
        with pytest.raises(DatasetBlocked, match=r"tank/a: .*4711.*SIGKILL"):
            await call()
    with pytest.raises(DatasetBlocked):
        async with zfs.open_send(SendArgs(dataset=TANK, to=TO)):
            pass
    with pytest.raises(DatasetBlocked):
        async with zfs.open_receive(ReceiveArgs(dataset=TANK, snapshot="1")):
            pass
    assert processes.ran == []
    await zfs.snapshot(DatasetPath.parse("tank/b"), "1")
    assert processes.ran == ["snapshot tank/b@1"]


@pytest.mark.parametrize(
    "script",
    [
        "echo \"cannot open 'tank/a': dataset does not exist\" >&2; exit 2",
        "echo \"cannot open 'other': dataset does not exist\" >&2; exit 1",
        "printf \"cannot open 'tank/a': dataset does not exist\\nand more\\n\" >&2; exit 1",
        "exit 1",
    ],
)
async def test_a_listing_fails_by_all_but_what_is_missing(tmp_path: Path, script: str) -> None:
    extent = Extent(subtrees=(TANK,))
    async with zfs_that(tmp_path, script) as zfs:
        with pytest.raises(ZfsError):
            await zfs.datasets_in(extent)
    missing = "echo \"cannot open 'tank/a': dataset does not exist\" >&2; exit 1"
    async with zfs_that(tmp_path, missing) as zfs:
        assert await zfs.datasets_in(extent) == []


async def test_many_datasets_are_listed_by_several_commands(tmp_path: Path) -> None:
    many = tuple(DatasetPath.parse(f"tank/{number:0200}") for number in range(600))
    counts = tmp_path / "counts"
    async with zfs_that(tmp_path, f"echo $# >> {counts}") as zfs:
        assert await zfs.datasets_in(Extent(alone=many)) == []
    words = len(argv.list_briefly((), below=False)) - 1
    first, second = (int(line) - words for line in counts.read_text().split())
    assert first + second == len(many)


async def test_a_listing_that_is_stuck_is_not_started_again() -> None:
    listing = ("zfs", *argv.list_datasets(None)[1:])
    processes = Scripted(done, (StuckChild(pid=4711, argv=listing, dataset=""),))
    with pytest.raises(DatasetBlocked, match=r"pid 4711\) ignores SIGKILL"):
        await CliZfs(processes).datasets()
