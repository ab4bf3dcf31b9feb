"""One attempt: plan all filesystems, then run their steps.

As many tasks as there may be steps at once take them from one queue, this one first: with one at a time,
as zrepl does it, no other is started. A failed step ends its filesystem only, unless the link itself turns out
to be gone: then nothing new is begun.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field, replace

import structlog
import trio

from zrepl_trio.endpoint.model import ResolveRequest, SendRequest
from zrepl_trio.endpoint.protocol import Endpoint, NotSupported, Resolves
from zrepl_trio.errors import Refused, TransportError, ZreplError, leaves, with_notes
from zrepl_trio.replication.classify import (
    ErrorClass,
    classify,
    main_error,
    says_modified,
    spoils_token,
)
from zrepl_trio.replication.estimates import Sizes
from zrepl_trio.replication.link import link_error
from zrepl_trio.replication.plan import FilesystemPlan, Refusal, limited_to
from zrepl_trio.replication.planning import DecodeToken, plan_all
from zrepl_trio.replication.policy import DivergencePolicy, ReplicationOptions
from zrepl_trio.replication.progress import Progress
from zrepl_trio.replication.queue import Entry, StepQueue
from zrepl_trio.replication.ranges import FIRST_BUDGET, Budget, joinable, next_budget, reach
from zrepl_trio.replication.report import BlockedOn
from zrepl_trio.replication.saved import until_saved
from zrepl_trio.replication.step import receive_step, send_request
from zrepl_trio.values import valueclass
from zrepl_trio.zfs.names import DatasetPath

__all__ = ["ESTIMATED_AFTER_S", "Attempt", "AttemptResult", "Memory", "settle"]

log = structlog.get_logger()

SETTLE_S = 5.0
"""How long what was put off waits at most for the step after it, in seconds."""

ESTIMATED_AFTER_S = 10.0
"""How long a run goes on before it asks for the sizes of what is left, in seconds."""

_SETTLING_S = 60.0
"""How long a run waits for a side to do it; a pool that is slow takes that for some hundred cursors."""


@dataclass(slots=True)
class Memory:
    """What later attempts of a run know of earlier ones.

    `targets`: the guid each filesystem was first to arrive at. `unconfirmed`: steps that the
    receiver has but the sender could not be told of. `spoiled`: filesystems whose partly
    received state the sender would not resume. `modified`: those whose replica zfs called so.
    `cut`: those whose stream broke off with the link, by which a zrepl received.
    """

    targets: dict[DatasetPath, int] = field(default_factory=dict)
    unconfirmed: dict[DatasetPath, SendRequest] = field(default_factory=dict)
    spoiled: set[DatasetPath] = field(default_factory=set)
    modified: set[DatasetPath] = field(default_factory=set)
    cut: set[DatasetPath] = field(default_factory=set)


@valueclass(frozen=True, slots=True, kw_only=True)
class AttemptResult:
    """How an attempt went: the reactions its errors ask for, none when all went well.

    `unreachable` is set when it could not even be planned because the link failed, `planned`
    tells whether filesystems were tried at all, `link` is the last thing the link said.
    """

    classes: frozenset[ErrorClass]
    planned: bool
    unreachable: bool = False
    link: str = ""


@valueclass(frozen=True, slots=True)
class _Ended:
    """A stream of so many `steps` has ended; with an error, so many of them arrived."""

    path: DatasetPath
    steps: int
    error: ZreplError | None
    what: str = ""


class Attempt:
    """One attempt; `run` it once."""

    def __init__(
        self,
        sender: Endpoint,
        receiver: Endpoint,
        options: ReplicationOptions,
        *,
        memory: Memory,
        progress: Progress,
        decode_token: DecodeToken,
    ) -> None:
        self._sender = sender
        self._receiver = receiver
        self._options = options
        self._memory = memory
        self._progress = progress
        self._decode_token = decode_token
        self._plans: dict[DatasetPath, FilesystemPlan] = {}
        self._sizes = Sizes(sender, self._plans, options.protection, tell=progress.expected)
        self._budgets: dict[DatasetPath, Budget] = {}
        self._classes: set[ErrorClass] = set()
        self._link = ""
        self._dropped_with_rename: set[DatasetPath] = set()
        self._settling = False
        self._unsettled_since: float | None = None
        self._asking = trio.Lock()  # whether the link is gone: nothing is begun meanwhile
        self._gone: ZreplError | str | None = None
        self._idle = trio.lowlevel.ParkingLot()  # of those who wait for a step to be free

    async def run(self) -> AttemptResult:
        """Plan and work. Whatever concerns ZFS, the peer or the link ends up in the result and
        the report."""
        self._progress.begin_attempt()
        failed: ZreplError | None = None
        try:
            await self._plan()
        except* ZreplError as group:
            failed = main_error(leaves(group))
        if failed is not None:
            text = with_notes(failed)
            self._progress.planning_failed(text, classify(failed))
            log.error("planning failed", err=text)
            return AttemptResult(
                classes=frozenset({classify(failed)}),
                planned=False,
                unreachable=isinstance(failed, TransportError),
                link=text,
            )
        await self._confirm_earlier()
        await self._resolve()
        await self._work()
        self._progress.attempt_finished()
        return AttemptResult(classes=frozenset(self._classes), planned=True, link=self._link)

    async def _plan(self) -> None:
        if self._memory.cut:
            await until_saved(self._receiver, self._memory.cut)
            self._memory.cut.clear()
        planned = await plan_all(
            self._sender,
            self._receiver,
            options=self._options,
            decode_token=self._decode_token,
            without_token=self._memory.spoiled,
            modified=self._memory.modified,
        )
        self._memory.spoiled.clear()
        self._memory.modified.clear()
        plans = list(planned.plans)
        for index, plan in enumerate(plans):
            path = plan.filesystem.path
            if not isinstance(plan, FilesystemPlan):
                say = log.info if plan.later else log.error
                say("filesystem cannot be planned", filesystem=str(path), err=plan.text)
                self._classes.add(ErrorClass.RETRY if plan.later else ErrorClass.PERMANENT)
                continue
            if plan.note:
                log.warning(plan.note, filesystem=str(path))
            if plan.confirm is not None:
                self._memory.unconfirmed.setdefault(path, plan.confirm)
            if path in self._memory.targets:
                plan = plans[index] = limited_to(plan, self._memory.targets[path])
            elif plan.steps:
                self._memory.targets[path] = plan.steps[-1].to.guid
            self._plans[path] = plan
        if all(isinstance(plan, Refusal) and not plan.offered for plan in plans):
            log.warning("there is no filesystem to replicate: does the sender's filter admit any?")
        self._progress.planned(plans)

    async def _confirm_earlier(self) -> None:
        """Tell the sender again of steps it could not be told of in an earlier attempt."""
        gone: ZreplError | None = None
        for path, request in list(self._memory.unconfirmed.items()):
            try:
                if gone is not None:
                    raise gone
                await self._confirm(request)
            except* ZreplError as group:
                error = main_error(leaves(group))
                if path in self._plans:
                    if self._plans.pop(path).rename is not None:
                        self._dropped_with_rename.add(path)
                    self._failed(path, error, _UNCONFIRMED)
                if classify(error) is ErrorClass.RECONNECT:
                    gone = error

    async def _resolve(self) -> None:
        """Have the receiver rename what follows the sender's names, and settle the conflicts that the
        job's policy covers, parents first."""
        not_renamed = self._dropped_with_rename
        for path, plan in list(self._plans.items()):
            try:
                for other in {plan.after, *path.ancestors()} & not_renamed:
                    raise Refused(f"{path}: on the receiver, {other} has to get its new name first")
                if plan.rename is not None:
                    await self._ask(plan.rename)
                if plan.resolve is not None:
                    await self._ask(replace(plan.resolve, stamp=self._progress.stamp()))
            except* ZreplError as group:
                if plan.rename is not None:
                    not_renamed.add(path)
                del self._plans[path]
                self._failed(path, main_error(leaves(group)))

    async def _ask(self, request: ResolveRequest) -> None:
        path = request.filesystem
        way = request.way.value
        log.warning("the replica is to be made to fit", filesystem=str(path), way=way)
        if not isinstance(self._receiver, Resolves):
            raise NotSupported(f"{path}: the receiver cannot {way} by request; do it there")
        done = await self._receiver.resolve(request)
        log.warning("the replica was made to fit", filesystem=str(path), done=done)

    async def _confirm(self, request: SendRequest) -> None:
        self._memory.unconfirmed[request.filesystem] = request
        await self._sender.send_completed(request)
        del self._memory.unconfirmed[request.filesystem]

    async def _work(self) -> None:
        queue = StepQueue(
            [
                Entry(
                    path=path,
                    targets=tuple(step.to.creation for step in plan.steps),
                    present=plan.present,
                    exists=plan.exists,
                    parents=plan.parents,
                )
                for path, plan in self._plans.items()
            ],
            slots=self._options.steps,
        )
        for path in queue.unfinished:
            if queue.waits_for_parent(path):
                self._progress.blocked(path, BlockedOn.PARENT)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._progress.keep_fresh)
            nursery.start_soon(self._look_after, nursery)
            for _ in range(min(self._options.steps, len(queue.unfinished)) - 1):
                nursery.start_soon(self._take_steps, queue)
            await self._take_steps(queue)
            nursery.cancel_scope.cancel()  # only what is done beside the steps is left
        if self._gone is not None:
            self._link = with_notes(self._gone)
            for path in queue.unfinished:
                self._progress.step_failed(
                    path,
                    f"not tried in this attempt, since the link is down: {self._link}",
                    ErrorClass.RECONNECT,
                )

    async def _take_steps(self, queue: StepQueue) -> None:
        """Run one step after the other, until none is left nor running."""
        while True:
            asking = self._asking.locked()
            may_begin = self._gone is None and not asking
            if may_begin and (path := queue.take()) is not None:
                await self._hear(queue, await self._run_step(path))
                self._idle.unpark_all()
            elif queue.running or asking:
                await self._idle.park()
            else:
                return

    async def _hear(self, queue: StepQueue, result: _Ended) -> None:
        self._unsettled_since = trio.current_time()
        if result.steps:
            self._progress.steps_done(result.path, result.steps)
        if result.error is None:
            freed = queue.done(result.path, result.steps)
        else:
            self._failed(result.path, result.error, result.what)
            freed = queue.failed(result.path)
        for child in freed:
            self._progress.blocked(child, BlockedOn.STEP_QUEUE)
        for orphan, parents in queue.orphans().items():
            names = ", ".join(parents)
            self._progress.step_failed(
                orphan, f"parent(s) failed during initial replication: [{names}]"
            )
        if result.error is not None and classify(result.error) is ErrorClass.RECONNECT:
            async with self._asking:
                if self._gone is None:
                    self._gone = await link_error(
                        [self._sender, self._receiver], answer_s=self._options.answer_s
                    )

    async def _look_after(self, nursery: trio.Nursery) -> None:
        """Beside the steps, of a run that lasts: what was put off is done, and sizes are asked for."""
        estimate_at = trio.current_time() + ESTIMATED_AFTER_S
        while True:
            since = self._unsettled_since
            settle_at = (trio.current_time() if since is None else since) + SETTLE_S
            await trio.sleep_until(min(settle_at, estimate_at))
            now = trio.current_time()
            if now >= estimate_at:
                estimate_at = math.inf
                nursery.start_soon(self._estimate_sizes)
            since = self._unsettled_since
            if since is not None and now >= since + SETTLE_S:
                self._unsettled_since = None
                nursery.start_soon(self._settle)

    async def _settle(self) -> None:
        """Beside the steps, which do not wait for it."""
        if not self._settling:
            self._settling = True
            try:
                await settle(self._sender, self._receiver)
            finally:
                self._settling = False

    async def _run_step(self, path: DatasetPath) -> _Ended:
        plan = self._plans[path]
        index = self._progress.filesystem(path).current
        reached = await self._reach(path, index)
        steps = plan.steps[index : index + reached]
        request = send_request(plan.filesystem, steps, self._options.protection)
        saves_first = self._receiver.moves_ranges  # ours, before it lists
        moved = 0
        began = trio.current_time()

        def count(size: int) -> None:
            nonlocal moved
            moved += size
            self._progress.moved(path, size)

        error: ZreplError | None = None
        self._progress.range_started(path, reached)
        try:
            await receive_step(
                self._sender,
                self._receiver,
                request,
                source_guid=plan.filesystem.dataset_guid,
                on_progress=count,
            )
            await self._confirm(request)
        except* ZreplError as group:
            error = main_error(leaves(group))
        what = ""
        if error is None:
            self._budgets[path] = next_budget(
                self._budgets.get(path, FIRST_BUDGET),
                steps=reached,
                size=moved,
                seconds=trio.current_time() - began,
            )
        else:
            if request.resume_token and spoils_token(error, moved=moved):
                self._memory.spoiled.add(path)
            if says_modified(error):
                self._memory.modified.add(path)
            if moved and isinstance(error, TransportError) and not saves_first:
                self._memory.cut.add(path)
            arrived = path in self._memory.unconfirmed
            reached = 0 if arrived else await self._arrived(request)
            what = _UNCONFIRMED if arrived else ""
        return _Ended(path, reached, error, what)

    async def _reach(self, path: DatasetPath, index: int) -> int:
        """How many steps from that one on go in the next stream."""
        count = joinable(self._plans[path].steps, index)
        if count == 1 or not (self._sender.moves_ranges and self._receiver.moves_ranges):
            return 1
        budget = self._budgets.get(path, FIRST_BUDGET)
        await self._sizes.ask(path, index)
        return reach([self._sizes.of(path, index + n) for n in range(count)], budget)

    async def _arrived(self, request: SendRequest) -> int:
        """After a range that failed: how many of its snapshots the receiver has nonetheless. The
        sender's cursor follows there, since the next increment will start from it."""
        if not request.between:
            return 0
        arrived = 0
        try:
            there = await self._receiver.list_versions(request.filesystem)
            guids = {version.guid for version in there if version.is_snapshot}
            # not `to`: if that is there, too, the receiver may have found fault with it
            count = sum(version.guid in guids for version in request.between)
            # were one missing before another, planning would have to look
            if count and request.between[count - 1].guid in guids:
                *between, to = request.between[:count]
                await self._confirm(replace(request, between=tuple(between), to=to))
                arrived = count
        except* ZreplError as group:
            log.warning(
                "what arrived of several snapshots is seen to in the next attempt",
                filesystem=str(request.filesystem),
                err=str(main_error(leaves(group))),
            )
        return arrived

    def _failed(self, path: DatasetPath, error: ZreplError, what: str = "") -> None:
        text = f"{what}{with_notes(error)}"
        # the next attempt does otherwise, whatever class the error has by itself
        wiser = path in self._memory.spoiled or self._settles(path, error)
        reaction = ErrorClass.RETRY if wiser else classify(error)
        self._classes.add(reaction)
        self._progress.step_failed(path, text, reaction)
        log.error("step failed", filesystem=str(path), err=text)

    def _settles(self, path: DatasetPath, error: ZreplError) -> bool:
        """Whether the job's policy has an answer to this error."""
        policy = self._options.overrides.get(path, self._options.divergence)
        return says_modified(error) and policy is not DivergencePolicy.FAIL

    async def _estimate_sizes(self) -> None:
        """Ask what the steps will take, beside the steps themselves, of which only ranges wait for
        it. A run that is over soon needs nobody to tell when it will be, and each filesystem costs a dry run."""

        def wanted(path: DatasetPath, index: int) -> bool:
            shown = self._progress.filesystem(path)
            return shown.current <= index and shown.error is None

        await self._sizes.ask_all(at_once=self._options.size_estimates, wanted=wanted)


async def settle(*sides: Endpoint, limit_s: float = _SETTLING_S) -> None:
    """Have both sides do what they put off, for `limit_s` each; a side that can't be told does it by itself."""
    for side in sides:
        try:
            with trio.move_on_after(limit_s):
                await side.settle()
        except* ZreplError as group:
            log.debug("not settled", err=str(main_error(leaves(group))))


_UNCONFIRMED = "the receiver has it, but the sender could not be told: "
