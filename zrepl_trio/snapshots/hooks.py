"""What runs around a snapshot: pre edges in order, the snapshot, post edges in reverse.

Behaviour reference 1.12, with its bugs mended: the post edge of each pre edge that went well runs,
also after a fatal error, a failed snapshot, and when the daemon stops in between; every edge has its
time limit.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from enum import Enum
from typing import Protocol

import structlog
import trio

from zrepl_trio.errors import ZreplError
from zrepl_trio.zfs.filter import FilesystemFilter
from zrepl_trio.zfs.names import DatasetPath

__all__ = ["Edge", "Hook", "HookFailed", "Step", "StepState", "run_around"]

log = structlog.get_logger()


class Edge(Enum):
    """The value is what a program is told, and what the report says."""

    PRE = "pre_snapshot"
    POST = "post_snapshot"


class HookFailed(ZreplError):
    """The edge did not do what it is there for; the text names the hook and says why."""


class Hook(Protocol):
    """One configured hook."""

    @property
    def name(self) -> str: ...

    @property
    def filesystems(self) -> FilesystemFilter: ...

    @property
    def err_is_fatal(self) -> bool: ...

    async def run(self, edge: Edge, filesystem: DatasetPath, snapshot: str) -> None:
        """HookFailed, within the hook's own time limit. What it started has ended then."""


class StepState(Enum):
    """How it went; zrepl's words."""

    OK = "ok"
    ERROR = "error"
    SKIPPED_PRE = "skipped due to its pre-edge's error"
    SKIPPED_FATAL = "skipped due to a fatal error"


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """One edge, or the snapshot (`edge` None)."""

    name: str
    edge: Edge | None
    state: StepState
    error: str = ""

    def __str__(self) -> str:
        what = f"{self.edge.value} {self.name}" if self.edge is not None else "snapshot"
        return f"{what}: {self.state.value}" + (f": {self.error}" if self.error else "")


async def run_around(
    hooks: Sequence[Hook],
    filesystem: DatasetPath,
    snapshot: str,
    take: Callable[[], Awaitable[None]],
) -> list[Step]:
    """Run the hooks that mean the filesystem, and `take` among them; what became of each. Raises
    nothing of theirs that is a ZreplError. When cancelled, the post edges that are due still run."""
    meant = [hook for hook in hooks if hook.filesystems.admits(filesystem)]
    steps: list[Step] = []
    due: list[Hook] = []
    failed_pre: set[int] = set()
    fatal = False
    try:
        for number, hook in enumerate(meant):
            if fatal:
                steps.append(Step(name=hook.name, edge=Edge.PRE, state=StepState.SKIPPED_FATAL))
                continue
            # from its start on: it may have taken a lock by the time it is cancelled
            due.append(hook)
            step = await _edge(hook, Edge.PRE, filesystem, snapshot)
            steps.append(step)
            if step.state is StepState.ERROR:
                due.remove(hook)
                failed_pre.add(number)
                fatal = hook.err_is_fatal
        steps.append(await _snapshot(take, fatal=fatal))
    finally:
        with trio.CancelScope(shield=True):  # each edge has its limit
            for number in reversed(range(len(meant))):
                hook = meant[number]
                if hook in due:
                    steps.append(await _edge(hook, Edge.POST, filesystem, snapshot))
                    continue
                state = StepState.SKIPPED_PRE if number in failed_pre else StepState.SKIPPED_FATAL
                steps.append(Step(name=hook.name, edge=Edge.POST, state=state))
    return steps


async def _snapshot(take: Callable[[], Awaitable[None]], *, fatal: bool) -> Step:
    if fatal:
        return Step(name="", edge=None, state=StepState.SKIPPED_FATAL)
    try:
        await take()
    except ZreplError as error:
        return Step(name="", edge=None, state=StepState.ERROR, error=str(error))
    return Step(name="", edge=None, state=StepState.OK)


async def _edge(hook: Hook, edge: Edge, filesystem: DatasetPath, snapshot: str) -> Step:
    try:
        await hook.run(edge, filesystem, snapshot)
    except HookFailed as error:
        log.error(  # noqa: TRY400 - the hook's words say it all
            "hook failed",
            hook=hook.name,
            edge=edge.value,
            filesystem=str(filesystem),
            err=str(error),
        )
        return Step(name=hook.name, edge=edge, state=StepState.ERROR, error=str(error))
    return Step(name=hook.name, edge=edge, state=StepState.OK)
