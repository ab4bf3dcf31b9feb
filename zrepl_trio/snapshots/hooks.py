"""What runs around a snapshot: pre edges in order, the snapshot, post edges in reverse.

Behaviour reference 1.12, with its bugs mended: the post edge of each pre edge that went well runs,
also after a fatal error, a failed snapshot, and when the daemon stops in between; every edge has its
time limit. Snapshots may be taken of several filesystems at once: then each hook runs once, for those that
it means.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from enum import Enum
from typing import Protocol

import structlog
import trio

from zrepl_trio.errors import ZreplError
from zrepl_trio.values import valueclass
from zrepl_trio.zfs.filter import FilesystemFilter
from zrepl_trio.zfs.names import DatasetPath

__all__ = ["Edge", "Hook", "HookFailed", "Step", "StepState", "Take", "run_around", "shown"]

log = structlog.get_logger()


class Edge(Enum):
    """The value is what a program is told, and what the report says."""

    PRE = "pre_snapshot"
    POST = "post_snapshot"


class HookFailed(ZreplError):
    """The edge did not do what it is there for; the text names the hook and says why."""


_SHOWN = 3


def shown(filesystems: Sequence[DatasetPath]) -> str:
    """Which ones, for a line of the log: thousands would make each line as long as all their names."""
    if len(filesystems) <= _SHOWN + 1:
        return ", ".join(filesystems)
    first = ", ".join(filesystems[:_SHOWN])
    return f"{first} and {len(filesystems) - _SHOWN} more of {len(filesystems)} filesystems"


class Hook(Protocol):
    """One configured hook."""

    @property
    def name(self) -> str: ...

    @property
    def filesystems(self) -> FilesystemFilter: ...

    @property
    def err_is_fatal(self) -> bool: ...

    async def run(self, edge: Edge, filesystems: Sequence[DatasetPath], snapshot: str) -> None:
        """For those, which it means, one at least. HookFailed, within the hook's own time limit. What it started has ended then."""


class StepState(Enum):
    """How it went; zrepl's words."""

    OK = "ok"
    ERROR = "error"
    SKIPPED_PRE = "skipped due to its pre-edge's error"
    SKIPPED_FATAL = "skipped due to a fatal error"


@valueclass(frozen=True, slots=True, kw_only=True)
class Step:
    """One edge, for those filesystems, or the snapshot of one (`edge` None)."""

    name: str
    edge: Edge | None
    filesystems: tuple[DatasetPath, ...]
    state: StepState
    error: str = ""

    def __str__(self) -> str:
        what = "snapshot" if self.edge is None else self.edge.value
        if self.error:
            return f"{what}: {self.state.value}: {self.error}"
        named = f" {self.name}" if self.name else ""  # an error's text has it
        return f"{what}{named}: {self.state.value}"


Take = Callable[[Sequence[DatasetPath]], Awaitable[Mapping[DatasetPath, str]]]
"""Takes the snapshots of those; what went wrong by filesystem, in words. Raises no ZreplError."""


async def run_around(
    hooks: Sequence[Hook], filesystems: Sequence[DatasetPath], snapshot: str, take: Take
) -> list[Step]:
    """Run the hooks that mean any of the filesystems, and `take` among them; what became of each. A fatal
    error leaves out those filesystems that its hook means. When cancelled, the post edges that are due
    still run."""
    meant = [(hook, _meant(hook, filesystems)) for hook in hooks]
    meant = [(hook, paths) for hook, paths in meant if paths]
    if not meant:
        wrong = await take(filesystems) if filesystems else {}
        return [_snapshot(path, taken=True, error=wrong.get(path)) for path in filesystems]
    left = list(filesystems)
    steps: list[Step] = []
    due: dict[int, tuple[DatasetPath, ...]] = {}
    failed_pre: set[int] = set()
    try:
        for number, (hook, all_of_them) in enumerate(meant):
            paths = tuple(path for path in all_of_them if path in left)
            if not paths:
                steps.append(_skipped(hook, Edge.PRE, all_of_them, StepState.SKIPPED_FATAL))
                continue
            # from its start on: it may have taken a lock by the time it is cancelled
            due[number] = paths
            step = await _edge(hook, Edge.PRE, paths, snapshot)
            steps.append(step)
            if step.state is StepState.ERROR:
                del due[number]
                failed_pre.add(number)
                if hook.err_is_fatal:
                    left = [path for path in left if path not in paths]
        wrong = await take(left) if left else {}
        steps += [
            _snapshot(path, taken=path in left, error=wrong.get(path)) for path in filesystems
        ]
    finally:
        with trio.CancelScope(shield=True):  # each edge has its limit
            for number, (hook, paths) in reversed(list(enumerate(meant))):
                if number in due:
                    steps.append(await _edge(hook, Edge.POST, due[number], snapshot))
                    continue
                failed = number in failed_pre
                state = StepState.SKIPPED_PRE if failed else StepState.SKIPPED_FATAL
                steps.append(_skipped(hook, Edge.POST, paths, state))
    return steps


def _meant(hook: Hook, filesystems: Sequence[DatasetPath]) -> tuple[DatasetPath, ...]:
    return tuple(path for path in filesystems if hook.filesystems.admits(path))


def _skipped(hook: Hook, edge: Edge, paths: tuple[DatasetPath, ...], state: StepState) -> Step:
    return Step(name=hook.name, edge=edge, filesystems=paths, state=state)


def _snapshot(path: DatasetPath, *, taken: bool, error: str | None) -> Step:
    state = StepState.SKIPPED_FATAL
    if taken:
        state = StepState.OK if error is None else StepState.ERROR
    return Step(name="", edge=None, filesystems=(path,), state=state, error=error or "")


async def _edge(hook: Hook, edge: Edge, paths: tuple[DatasetPath, ...], snapshot: str) -> Step:
    state, text = StepState.OK, ""
    try:
        await hook.run(edge, paths, snapshot)
    except HookFailed as error:
        state, text = StepState.ERROR, str(error)
        log.error(  # noqa: TRY400 - the hook's words say it all
            "hook failed", hook=hook.name, edge=edge.value, filesystem=shown(paths), err=text
        )
    return Step(name=hook.name, edge=edge, filesystems=paths, state=state, error=text)
