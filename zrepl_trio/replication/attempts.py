"""A replication run: up to three attempts, with a wait for the link between them."""

from __future__ import annotations

from collections.abc import Callable

import structlog
import trio

from zrepl_trio.clock import WallClock
from zrepl_trio.endpoint.protocol import Endpoint
from zrepl_trio.replication.classify import ErrorClass
from zrepl_trio.replication.execute import Attempt, AttemptResult, Memory, settle
from zrepl_trio.replication.link import wait_for_link
from zrepl_trio.replication.planning import DecodeToken
from zrepl_trio.replication.policy import ReplicationOptions
from zrepl_trio.replication.progress import Progress
from zrepl_trio.replication.report import Outcome, Report

__all__ = ["RETRY_PAUSE_S", "replicate"]

log = structlog.get_logger()

RETRY_PAUSE_S = 2.0
"""A breath before the next attempt on a good link: a killed `zfs recv` may still be saving its
state, and keeps the dataset busy meanwhile."""

_STOPPING_S = 5.0
"""How long a run that is stopped has each side do what was put off; the next one does the rest."""


async def replicate(
    sender: Endpoint,
    receiver: Endpoint,
    options: ReplicationOptions,
    *,
    report: Callable[[Report], None],
    clock: WallClock,
    decode_token: DecodeToken,
) -> Report:
    """Bring the receiver up to date with the sender; the final report, its outcome included.

    `report` is called with each new picture (immutable; at most two a second while bytes move).
    `decode_token` asks a zfs of this host. Nothing that zfs, the peer or the link does is
    raised; cancelling leaves a state that the next run goes on from.
    """
    progress = Progress(clock=clock, publish=report, monotonic=trio.current_time)
    settled = False
    try:
        outcome = await _attempts(sender, receiver, options, progress, decode_token)
        await settle(sender, receiver)
        settled = True
    finally:
        if not settled:
            with trio.CancelScope(shield=True):
                await settle(sender, receiver, limit_s=_STOPPING_S)
    return progress.finished(outcome)


async def _attempts(
    sender: Endpoint,
    receiver: Endpoint,
    options: ReplicationOptions,
    progress: Progress,
    decode_token: DecodeToken,
) -> Outcome:
    memory = Memory()
    number = 0
    while True:
        number += 1
        result = await Attempt(
            sender,
            receiver,
            options,
            memory=memory,
            progress=progress,
            decode_token=decode_token,
        ).run()
        if not result.classes:
            return Outcome.DONE
        if number >= options.attempts or not await _worth_another(
            result, sender, receiver, options, progress
        ):
            return _outcome(result)


async def _worth_another(
    result: AttemptResult,
    sender: Endpoint,
    receiver: Endpoint,
    options: ReplicationOptions,
    progress: Progress,
) -> bool:
    if ErrorClass.RECONNECT in result.classes:
        if options.reconnect_s <= 0:
            return False
        log.info("waiting for the link", at_most_s=options.reconnect_s)
        progress.waiting(options.reconnect_s, result.link or "a transfer was cut")
        error = await wait_for_link(
            [sender, receiver], options.reconnect_s, answer_s=options.answer_s
        )
        if error is not None:
            log.error("the link did not come back", err=str(error))
        return error is None
    if ErrorClass.RETRY in result.classes:
        await trio.sleep(RETRY_PAUSE_S)
        return True
    return False


def _outcome(result: AttemptResult) -> Outcome:
    if result.planned:
        return Outcome.FILESYSTEMS_FAILED
    return Outcome.NOT_CONNECTED if result.unreachable else Outcome.PLANNING_FAILED
