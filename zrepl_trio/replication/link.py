"""Whether both sides answer, and waiting until they do."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable

import trio

from zrepl_trio.endpoint.protocol import Endpoint, PingsData
from zrepl_trio.errors import RemoteProtocolError, ZreplError, leaves
from zrepl_trio.replication.classify import ErrorClass, classify, main_error
from zrepl_trio.replication.policy import ANSWER_S

__all__ = ["link_error", "wait_for_link"]

_MESSAGE = "are you there?"
_FIRST_PAUSE_S = 1.0
_LONGEST_PAUSE_S = 30.0


async def link_error(
    endpoints: Iterable[Endpoint], *, answer_s: float = ANSWER_S, data: bool = True
) -> ZreplError | str | None:
    """Why some side does not answer a ping, None when all do. `data`: on a connection of that kind
    too, which has to be made for it and costs a log-in over ssh."""
    for endpoint in endpoints:
        error = await _ping_error(endpoint.ping, answer_s)
        if error is None and data and isinstance(endpoint, PingsData):
            error = await _ping_error(endpoint.ping_data, answer_s)
        if error is not None:
            return error
    return None


async def _ping_error(
    ping: Callable[[str], Awaitable[str]], answer_s: float
) -> ZreplError | str | None:
    error: ZreplError | str | None = f"no answer to a ping within {answer_s:.0f} s"
    with trio.move_on_after(answer_s):
        try:
            echo = await ping(_MESSAGE)
            error = None
            if echo != _MESSAGE:
                error = RemoteProtocolError(f"the peer answered a ping with {echo[:80]!r}")
        except* ZreplError as group:
            error = main_error(leaves(group))
    return error


async def wait_for_link(
    endpoints: Iterable[Endpoint], timeout_s: float, *, answer_s: float = ANSWER_S
) -> ZreplError | str | None:
    """Wait up to `timeout_s` until all sides answer; why they don't, if they don't.

    The pause between two tries doubles from 1 s to 30 s. An error that waiting can't mend ends
    the wait at once.
    """
    sides = tuple(endpoints)
    error: ZreplError | str | None = f"no answer within {timeout_s:.0f} s"
    pause = _FIRST_PAUSE_S
    with trio.move_on_after(timeout_s):
        while (error := await link_error(sides, answer_s=answer_s)) is not None:
            if isinstance(error, ZreplError) and classify(error) is not ErrorClass.RECONNECT:
                break
            await trio.sleep(pause)
            pause = min(2 * pause, _LONGEST_PAUSE_S)
    return error
