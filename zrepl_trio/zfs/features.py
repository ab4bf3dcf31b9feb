"""What the installed zfs can do, by zrepl's means: the usage that commands print without arguments."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence

from zrepl_trio.process import Completed
from zrepl_trio.zfs import argv
from zrepl_trio.zfs.model import Features
from zrepl_trio.zfs.parse import parse_zfs_version

__all__ = ["detect_features", "features_from_usage"]

Run = Callable[[Sequence[str]], Awaitable[Completed]]


def features_from_usage(
    *, version: str, send: str, receive: str, destroy: str, load_key: str
) -> Features:
    """The features, from what `zfs version` and the four usages print."""
    return Features(
        version=parse_zfs_version(version),
        encryption="load-key" in load_key and "keylocation" in load_key,
        resumable_send="receive_resume_token" in send,
        resumable_receive="-A <filesystem|volume>" in receive,
        comma_destroy="<filesystem|volume>@<snap>[%<snap>][,...]" in destroy,
    )


async def detect_features(run: Run) -> Features:
    """Ask zfs; `run` raises when the program can't be started, and gives any exit status."""

    async def said(words: argv.Argv) -> str:
        done = await run(words)
        return (done.stdout + done.stderr).decode("utf-8", "replace")

    return features_from_usage(
        version=await said(argv.version()),
        send=await said(argv.usage("send")),
        receive=await said(argv.usage("receive")),
        destroy=await said(argv.usage("destroy")),
        load_key=await said(argv.usage("load-key")),
    )
