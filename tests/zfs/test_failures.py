"""What recorded failures of real OpenZFS become."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from zrepl_trio.errors import (
    BadResumeToken,
    DatasetBusy,
    DatasetExists,
    DatasetNotFound,
    NoSpace,
    ReceiveInterrupted,
    ReceiveRefused,
    ZfsError,
)
from zrepl_trio.zfs.failures import failure, missing_program, unexpected_output

GOLDEN: dict[str, dict[str, Any]] = json.loads(
    (Path(__file__).parents[1] / "golden/zfs/commands.json").read_text()
)

MEANINGS: dict[type[ZfsError], str] = {
    DatasetNotFound: """
        list.missing list.missing-pool list.missing-pool-child list.missing-snapshot
        list.missing-bookmark list.versions-missing list.versions-missing-pool get.missing
        get.missing-pool get.missing-snapshot get.missing-bookmark set.missing-dataset
        create.parent-missing create.pool-missing snapshot.dataset-missing snapshot.pool-missing
        bookmark.snapshot-missing bookmark.dataset-missing bookmark.of-missing-bookmark
        hold.missing-snapshot hold.missing-dataset holds.missing-snapshot holds.missing-dataset
        release.missing-snapshot release.missing-dataset destroy.missing-snapshot
        destroy.comma-all-missing destroy.missing-dataset-snapshot destroy.missing-bookmark
        destroy.missing-dataset rollback.missing-snapshot rollback.missing-dataset
        send.missing-snapshot send.missing-dataset send.missing-pool send.missing-from
        send.missing-from-bookmark send.dry-missing-from-bookmark recv.parent-missing
        recv.pool-missing recv.abort-missing""",
    DatasetExists: "create.exists snapshot.exists bookmark.exists snapshot.several-one-exists",
    DatasetBusy: """
        destroy.held destroy.comma-one-held destroy.has-clone destroy.busy destroy.being-sent
        destroy.has-children rollback.r-held recv.busy-abort unmount.busy""",
    ReceiveRefused: """
        recv.exists recv.F-full-over-snapshots recv.modified recv.incremental-no-snapshots
        recv.incremental-without-target recv.full-onto-empty recv.full-over-partial
        recv.incremental-over-partial recv.busy-incremental recv.busy-full
        recv.resume-with-old-token recv.resume-nothing-there recv.resume-onto-placeholder
        recv.diverged-newer-snapshot-with-changes recv.F-raw-onto-unencrypted-placeholder
        recv.F-plain-onto-encrypted-placeholder""",
    ReceiveInterrupted: "recv.cut-s recv.cut-incremental-s recv.corrupt-s recv.resume-cut-again",
    NoSpace: "recv.quota-s recv.out-of-space-s",
    BadResumeToken: """
        send.token-bad send.token-corrupt send.token-bad-dry send.token-snapshot-gone
        send.token-snapshot-replaced send.token-dataset-gone""",
    ZfsError: """
        recv.cut-no-s recv.garbage-s recv.empty-s recv.cut-in-header-s recv.cut-after-begin-s
        recv.corrupt-no-s send.from-later set.read-only-property hold.twice
        release.missing-tag recv.o-bad-value send.encrypted-no-key""",
}
CASES = [(f"zfs.{name}", meaning) for meaning, names in MEANINGS.items() for name in names.split()]


@pytest.mark.parametrize(("name", "meaning"), CASES, ids=[name for name, _ in CASES])
def test_recorded_failures(name: str, meaning: type[ZfsError]) -> None:
    record = GOLDEN[name]
    assert record["rc"] != 0
    error = failure(record["argv"], record["rc"], record["stderr"], dataset="pool/the dataset")
    assert type(error) is meaning
    text = str(error)
    assert text.startswith("pool/the dataset: `zfs ")
    assert "\n" not in text
    assert "usage:" not in text
    # zfs's own words are in it
    first = " ".join(record["stderr"].splitlines()[0].split())
    assert first in text
    assert (error.argv, error.status) == (tuple(record["argv"]), record["rc"])
    assert (error.stderr, error.dataset) == (record["stderr"], "pool/the dataset")


def test_the_token_comes_with_the_interruption() -> None:
    record = GOLDEN["zfs.recv.cut-s"]
    error = failure(record["argv"], 1, record["stderr"], dataset="d")
    assert isinstance(error, ReceiveInterrupted)
    assert error.token == GOLDEN["zfs.send.token"]["argv"][3]
    assert error.token not in str(error)
    assert "resumes" in str(error)


@pytest.mark.parametrize(
    ("stderr", "meaning"),
    [
        # OpenZFS before 2.3 says it so
        ("cannot destroy snapshot tank/a@1: dataset is busy\n", DatasetBusy),
        ("cannot receive incremental stream: out of space\n", NoSpace),
        ("cannot receive: No space left on device\n", NoSpace),
        ("cannot open 'x': no such pool or dataset\n", DatasetNotFound),
    ],
)
def test_words_of_other_releases(stderr: str, meaning: type[ZfsError]) -> None:
    assert type(failure(["zfs", "x"], 1, stderr, dataset="d")) is meaning


@pytest.mark.parametrize(
    ("stderr", "meaning", "advice"),
    [
        # as OpenZFS 2.3 says it
        (
            (
                "cannot open 'd/sink': pool I/O is currently suspended\n"
                "cannot receive new filesystem stream: unable to restore to destination"
            ),
            ZfsError,
            "`zpool clear` has it go on",
        ),
        ("cannot receive incremental stream: pool is read-only", ZfsError, "import it without"),
        ("cannot hold: pool is read-only", ZfsError, "guarantee_nothing"),
        (
            "cannot receive new filesystem stream: inherited key must be loaded",
            ZfsError,
            "zfs load-key",
        ),
        (
            "cannot create 'd/ph': encryption root's key is not loaded or provided",
            ZfsError,
            "zfs load-key",
        ),
        (
            "warning: cannot send 's/e@1': dataset key must be loaded",
            ZfsError,
            "`send.encrypted: true`",
        ),
        (
            "cannot receive: cannot perform raw receive on top of existing unencrypted dataset",
            ReceiveRefused,
            "`send.encrypted: false`",
        ),
        (
            "cannot receive incremental stream: IV set guid mismatch. See the 'zfs receive' man page",
            ReceiveRefused,
            "`send.encrypted: false`",
        ),
        ("cannot unmount '/r': pool or dataset is busy", DatasetBusy, "fuser"),
        (
            "cannot hold snapshot 'd@1': dataset does not exist",
            DatasetNotFound,
            "the next attempt plans without it",
        ),
    ],
)
def test_what_can_be_done_is_said(stderr: str, meaning: type[ZfsError], advice: str) -> None:
    error = failure(["zfs", "x"], 1, f"{stderr}\n", dataset="d")
    assert type(error) is meaning
    assert advice in str(error)


def test_a_signal_and_silence_are_said() -> None:
    killed = failure(["zfs", "send", "tank/a@1"], -9, "", dataset="tank/a")
    assert str(killed) == "tank/a: `zfs send` was killed by signal 9"
    silent = failure(["zfs", "send", "tank/a b@1"], 1, "", dataset="tank/a b")
    assert str(silent) == "tank/a b: `zfs send 'tank/a b@1'` failed with status 1 and said nothing"


def test_endless_words_are_cut() -> None:
    error = failure(["zfs", "list"], 1, "x" * 100_000, dataset="d")
    assert len(str(error)) < 3000


def test_programs_that_do_not_start() -> None:
    error = missing_program(["zfs", "list"], FileNotFoundError(2, "No such file"), dataset="d")
    assert "`zfs`" in str(error)
    assert "PATH" in str(error)
    denied = missing_program(["zfs"], PermissionError(13, "Permission denied"))
    assert str(denied) == "cannot run `zfs`: Permission denied"


def test_unexpected_output_names_the_command() -> None:
    error = unexpected_output(["zfs", "list", "a b"], "nonsense", dataset="a b")
    assert str(error) == "`zfs list 'a b'` printed something unexpected: nonsense"
