"""Which of several failures of one receive is the cause, and which only its consequence.

When the link breaks, `zfs recv` ends early too and says that it could not read its stream; when
`zfs recv` dies, the mover of the bytes sees a broken pipe. Reported is what failed first.
"""

from __future__ import annotations

from zrepl_trio.errors import ReceiveInterrupted, ZfsError, ZreplError
from zrepl_trio.zfs.names import DatasetPath

__all__ = ["cause"]


def cause(
    target: DatasetPath,
    *,
    stream: ZreplError | None,
    sink_broken: bool,
    receive: ZfsError | None,
) -> ZreplError | None:
    """The error to raise, None when all went well.

    `stream` is what the link or the sender failed with, `sink_broken` that `zfs recv` took no
    more bytes, `receive` how it ended.
    """
    if stream is not None:
        if isinstance(receive, ReceiveInterrupted):
            stream.add_note(f"{target}: what arrived is kept, the next run resumes it")
        return stream
    if receive is not None:
        return receive
    if sink_broken:
        return ZfsError(
            f"{target}: `zfs recv` ended before the end of the stream and called it a success; "
            "the next run compares both sides anew",
            dataset=target,
        )
    return None
