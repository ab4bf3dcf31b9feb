"""Waiting until a zrepl that receives has saved what came before the link was cut."""

from __future__ import annotations

from collections.abc import Collection

import structlog
import trio

from zrepl_trio.endpoint.protocol import Endpoint
from zrepl_trio.errors import ZreplError
from zrepl_trio.zfs.names import DatasetPath

__all__ = ["SAVE_S", "until_saved"]

log = structlog.get_logger()

SAVE_S = 15.0
"""How long a zrepl is given: it notices a silent link after 10 s (wire reference 9), and then ends
its `zfs recv`."""

_PAUSE_S = 1.0


async def until_saved(receiver: Endpoint, cut: Collection[DatasetPath]) -> None:
    """Return when the receiver lists a partly received state of each of `cut`, or after SAVE_S.

    Ours waits by itself before it lists; a zrepl lists at once, while its `zfs recv` still runs, and the
    stream would be sent again from its start. What the receiver fails to answer is for the
    planning to find.
    """
    missing = set(cut)
    with trio.move_on_after(SAVE_S):
        while missing:
            answered = False
            try:
                listed = await receiver.list_filesystems()
                missing -= {each.path for each in listed if each.resume_token}
                answered = True
            except* ZreplError:
                pass
            if not answered:
                return
            if missing:
                await trio.sleep(_PAUSE_S)
    if missing:
        names = sorted(str(path) for path in missing)
        log.info("the receiver saved nothing of what was cut", filesystems=names)
