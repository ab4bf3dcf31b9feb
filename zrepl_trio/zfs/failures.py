"""What a failed zfs command means: one table from zfs's own words to our errors.

Pure. `LC_ALL=C` is assumed; the words are those of OpenZFS 2.1 to 2.4.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Collection, Sequence
from dataclasses import dataclass

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

__all__ = [
    "GONE_SINCE",
    "RESUME_TOKEN",
    "failure",
    "idle_too_long",
    "is_unforceable",
    "misses_only",
    "missing_program",
    "unexpected_output",
]

GONE_SINCE = "the next attempt plans without it"
"""In the text of an error, also of one that came over the wire: what was planned is not there any more."""

RESUME_TOKEN = re.compile(
    r"A resuming stream can be generated on the sending system by running:\s+zfs send -t (\S+)"
)
"""How `zfs recv -s` ends when it kept what it had."""


@dataclass(frozen=True, slots=True)
class _Row:
    pattern: re.Pattern[str]
    error: type[ZfsError]
    advice: str


def _row(pattern: str, error: type[ZfsError], advice: str) -> _Row:
    return _Row(re.compile(pattern, re.MULTILINE), error, advice)


# First match wins: a full pool also prints the resume token, and what helps is room, not a retry.
_TABLE = (
    # Before all else: what zfs says besides is only what follows from it.
    _row(
        r"pool I/O is currently suspended$",
        ZfsError,
        "zfs has suspended the pool after errors of its devices, which `zpool status` names: once they "
        "work again, `zpool clear` has it go on",
    ),
    _row(
        r"out of space\.?$|quota exceeded|No space left on device|"
        r"^cannot receive .*: space limit exceeded",
        NoSpace,
        "free space or raise the quota there; the next run goes on from where this one stopped",
    ),
    # Before the rows about missing datasets, which zfs also mentions here.
    _row(
        r"^cannot receive.*: (invalid backup stream|invalid stream .*|failed to read from stream|"
        r"incomplete stream|checksum mismatch)$",
        ZfsError,
        "the stream ended early or was damaged; nothing of it was kept",
    ),
    _row(
        r"resume token is corrupt|"
        r"^cannot resume send: .*(no longer exists|is no longer the same snapshot)",
        BadResumeToken,
        "drop the partly received state on the receiver with `zfs recv -A`",
    ),
    _row(
        r"pool is read-only$",
        ZfsError,
        "the pool was imported with `-o readonly=on`: export it, and import it without; to send from one "
        "that stays so, nothing may be held (`replication.protection: guarantee_nothing`)",
    ),
    _row(
        r"(inherited key must be loaded|encryption root's key is not loaded or provided)$",
        ZfsError,
        "run `zfs load-key` for its `encryptionroot`; a replica that was sent raw needs no key, as long as "
        "all is sent so (`send.encrypted: true`)",
    ),
    _row(
        r"dataset key must be loaded$",
        ZfsError,
        "run `zfs load-key` for its `encryptionroot`, or have it sent raw (`send.encrypted: true`)",
    ),
    _row(
        r"cannot perform raw receive on top of existing unencrypted dataset|IV set guid",
        ReceiveRefused,
        "the replica was not sent raw, and goes on only that way (`send.encrypted: false`); to have it "
        "raw, rename or destroy it, so that it is sent anew",
    ),
    _row(
        r"zfs receive -F cannot be used to destroy an encrypted filesystem",
        ReceiveRefused,
        "a placeholder steps aside for it at the next run; anything else is to be renamed or destroyed "
        "by hand",
    ),
    _row(
        r"contains partially-complete state from",
        ReceiveRefused,
        "another receive runs, or resume it with its receive_resume_token, or drop it with"
        " `zfs recv -A`",
    ),
    _row(
        r"Resuming recv on existing destination",
        ReceiveRefused,
        "zrepl unmarks a placeholder before it is filled: mark it again with "
        "`zfs set zrepl:placeholder=on`, or drop the partial state with `zfs recv -A`",
    ),
    _row(
        r"has been modified\s+since most recent snapshot",
        ReceiveRefused,
        "roll the replica back to its newest snapshot (`zfs rollback`; what was written is lost), or have "
        "the job do it or keep it as a copy (`conflict_resolution.divergence`), and keep it unmounted or "
        "read-only",
    ),
    _row(
        r"most recent snapshot of .* does not\s+match incremental source|"
        r"destination has snapshots|"
        r"must destroy them to overwrite it|"
        r"must specify -F to overwrite|"
        r"^cannot receive .*: destination .*(exists|does not exist)|"
        r"^cannot receive .*: .*destination snapshot .* already exists|"
        r"^cannot receive .*: incremental send stream requires -F",
        ReceiveRefused,
        "compare the snapshots of both sides; nothing was overwritten",
    ),
    _row(
        r"kernel modules must be upgraded to receive this stream",
        ReceiveRefused,
        "zfs also says so of a resumed stream that does not set in where the receiver stopped, and"
        " of a bad name; get the receive_resume_token again",
    ),
    _row(
        r"^cannot unmount .*: pool or dataset is busy$",
        DatasetBusy,
        "a process has files open there: `fuser -vm` with the mountpoint shows which",
    ),
    _row(
        r"dataset is busy$|pool or dataset is busy|being held\. Run|has dependent clones|"
        r"^cannot destroy .*: (filesystem|volume|snapshot) has (children|dependent clones)|"
        r"dataset is locked|it's in use|target is busy",
        DatasetBusy,
        "`zfs holds -r` shows holds; a running send or receive also keeps it",
    ),
    _row(
        r"dataset already exists$|bookmark exists$|pool already exists$",
        DatasetExists,
        "",
    ),
    _row(
        r"^cannot hold snapshot .*: dataset does not exist$",
        DatasetNotFound,
        f"it was destroyed since it was listed; {GONE_SINCE}",
    ),
    _row(
        r"dataset does not exist$|no such pool|snapshot does not exist|parent does not exist|"
        r"^warning: cannot send .*: (No such process|incremental source .* does not exist)$|"
        r"^could not find any snapshots to destroy|^bookmark '[^']+' does not exist|"
        r"^cannot open '[^']*': no such pool or dataset",
        DatasetNotFound,
        "",
    ),
)

_INTERRUPTED = "the stream ended early; what arrived is kept and the next run resumes it"


def failure(argv: Sequence[str], status: int, stderr: str, *, dataset: str) -> ZfsError:
    """The error that says what happened to `dataset`; `status` negative for a signal."""
    words = _summary(stderr)
    what = " ".join(argv[:2])
    if status < 0:
        how = f"`{what}` was killed by signal {-status}"
    elif words:
        how = f"`{what}` failed"
    else:
        how = f"`{shlex.join(argv)}` failed with status {status} and said nothing"
    text = f"{dataset}: {how}" if dataset else how
    if words:
        text += f": {words}"
    for row in _TABLE:
        if row.pattern.search(stderr):
            return row.error(
                _with_advice(text, row.advice),
                argv=argv,
                status=status,
                stderr=stderr,
                dataset=dataset,
            )
    token = RESUME_TOKEN.search(stderr)
    if token is not None:
        return ReceiveInterrupted(
            _with_advice(text, _INTERRUPTED),
            token=token[1],
            argv=argv,
            status=status,
            stderr=stderr,
            dataset=dataset,
        )
    return ZfsError(text, argv=argv, status=status, stderr=stderr, dataset=dataset)


_MISSING = re.compile(r"cannot open '([^']*)': (?:dataset does not exist|no such pool or dataset)")


def misses_only(status: int, stderr: str, datasets: Collection[str]) -> bool:
    """Whether a listing failed for nothing but that some of `datasets` are not there: then the rest
    of its output is whole."""
    said = [_MISSING.fullmatch(line) for line in stderr.splitlines()]
    return status == 1 and bool(said) and all(found and found[1] in datasets for found in said)


def is_unforceable(error: Exception) -> bool:
    """Whether zfs would not receive over what is there, even by force: see `endpoint.room`."""
    return "zfs receive -F cannot be used to destroy an encrypted filesystem" in str(error)


def idle_too_long(argv: Sequence[str], limit_s: float, *, dataset: str = "") -> ZfsError:
    """The command did nothing for so long that it was given up."""
    return ZfsError(
        f"{dataset or 'zfs'}: `{shlex.join(argv)}` did nothing for {limit_s:g} s and was killed "
        "(`zrepl-trio status` shows it if it ignores that); look for pool errors with `zpool status` and in the "
        "kernel's log, or raise the limit (`global.zfs` in the config) if the pool is only slow",
        argv=argv,
        dataset=dataset,
    )


def missing_program(argv: Sequence[str], reason: OSError, *, dataset: str = "") -> ZfsError:
    """The error for a program that cannot be started at all."""
    why = "is not in PATH" if isinstance(reason, FileNotFoundError) else f"{reason.strerror}"
    return ZfsError(
        f"cannot run `{argv[0]}`: it {why}; install OpenZFS's commands or mend the daemon's PATH"
        if isinstance(reason, FileNotFoundError)
        else f"cannot run `{argv[0]}`: {why}",
        argv=argv,
        dataset=dataset,
    )


def unexpected_output(argv: Sequence[str], problem: str, *, dataset: str = "") -> ZfsError:
    """The error for output that is not what zfs prints."""
    return ZfsError(
        f"`{shlex.join(argv)}` printed something unexpected: {problem}",
        argv=argv,
        dataset=dataset,
    )


def _summary(stderr: str) -> str:
    """zfs's words on one line, without the resume token's instructions and without usage."""
    text = RESUME_TOKEN.sub("", stderr)
    text = re.sub(r"^Partially received snapshot is saved\.$", "", text, flags=re.MULTILINE)
    text = re.split(r"^usage:", text, maxsplit=1, flags=re.MULTILINE)[0]
    lines = [" ".join(line.split()) for line in text.splitlines()]
    joined = "; ".join(line for line in lines if line)
    # zfs breaks these two sentences over two lines.
    joined = joined.replace("modified; since", "modified since").replace("not; match", "not match")
    return joined if len(joined) <= 2000 else joined[:2000] + "…"


def _with_advice(text: str, advice: str) -> str:
    return f"{text} ({advice})" if advice else text
