"""What steps will send, asked by dry runs, a few at a time."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence

import structlog
import trio

from zrepl_trio.endpoint.model import Protection
from zrepl_trio.endpoint.protocol import Endpoint
from zrepl_trio.errors import ZreplError, leaves
from zrepl_trio.replication.classify import main_error
from zrepl_trio.replication.plan import FilesystemPlan
from zrepl_trio.replication.ranges import joinable
from zrepl_trio.replication.step import send_request
from zrepl_trio.zfs.names import DatasetPath

__all__ = ["Sizes"]

log = structlog.get_logger()


class Sizes:
    """The sizes of the steps of `plans`, as far as `sender` has been asked, and knows them.

    Each dry run tells of one step, or of all neighbours of it where the sender moves ranges. `tell` is
    told of the sizes of steps, and the index of the first, as they become known. A size that can't be had is no error: the step itself will
    meet whatever is wrong, and there it counts.
    """

    def __init__(
        self,
        sender: Endpoint,
        plans: Mapping[DatasetPath, FilesystemPlan],
        protection: Protection,
        *,
        tell: Callable[[DatasetPath, int, Sequence[int | None]], None] = lambda *_: None,
    ) -> None:
        self._sender = sender
        self._plans = plans
        self._protection = protection
        self._tell = tell
        self._known: dict[DatasetPath, dict[int, int | None]] = {}
        self._asking: dict[DatasetPath, trio.Lock] = {}

    def of(self, path: DatasetPath, index: int) -> int | None:
        """Bytes of that step; None: not known."""
        return self._known.get(path, {}).get(index)

    async def ask(self, path: DatasetPath, index: int) -> None:
        """Have that step asked for, if it was not yet, and what goes with it."""
        async with self._asking.setdefault(path, trio.Lock()):
            known = self._known.setdefault(path, {})
            if index in known:
                return
            plan = self._plans[path]
            count = joinable(plan.steps, index) if self._sender.moves_ranges else 1
            request = send_request(
                plan.filesystem, plan.steps[index : index + count], self._protection
            )
            sizes: list[int | None] = [None] * count
            try:
                if request.between:
                    sizes = await self._sender.range_sizes(request)
                else:
                    sizes = [await self._sender.send_dry(request)]
            except* ZreplError as group:
                error = main_error(leaves(group))
                log.debug("size is unknown", filesystem=str(path), err=str(error))
            known.update(enumerate(sizes, index))
        self._tell(path, index, sizes)

    async def ask_all(
        self,
        *,
        at_once: int,
        wanted: Callable[[DatasetPath, int], bool] = lambda _path, _index: True,
    ) -> None:
        """Ask for all that is not known, by so many dry runs at a time; a step is left out if it is
        not `wanted` any more when its turn comes."""
        todo = self._unknown(wanted)

        async def work() -> None:
            for path, index in todo:  # shared: each worker takes the next one
                await self.ask(path, index)

        async with trio.open_nursery() as nursery:
            for _ in range(at_once):
                nursery.start_soon(work)

    def _unknown(
        self, wanted: Callable[[DatasetPath, int], bool]
    ) -> Iterator[tuple[DatasetPath, int]]:
        for path, plan in self._plans.items():
            for index in range(len(plan.steps)):
                if index not in self._known.get(path, {}) and wanted(path, index):
                    yield path, index
