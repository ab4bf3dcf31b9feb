"""Children that hang in the kernel for good: nothing more is started beside them."""

from __future__ import annotations

from collections.abc import Sequence

from zrepl_trio.errors import DatasetBlocked
from zrepl_trio.process import Processes

__all__ = ["check_not_blocked", "check_not_running"]


def check_not_blocked(processes: Processes, dataset: str) -> None:
    """DatasetBlocked while an earlier child on that dataset ignores SIGKILL."""
    for child in processes.stuck:
        if dataset and child.dataset == dataset:
            raise DatasetBlocked(
                f"{dataset}: an earlier `{' '.join(child.argv[:2])}` (pid {child.pid}) ignores"
                " SIGKILL, so it hangs in the kernel; look for pool errors with `zpool status`"
                " and in the kernel's log",
                dataset=dataset,
                argv=child.argv,
            )


def check_not_running(processes: Processes, program: Sequence[str]) -> None:
    """A listing that hangs for good is not started once more at each run."""
    for child in processes.stuck:
        if child.argv == tuple(program):
            raise DatasetBlocked(
                f"`{' '.join(program[:2])}` (pid {child.pid}) ignores SIGKILL, so it hangs in the "
                "kernel, and is not started again; look for pool errors with `zpool status` and in "
                "the kernel's log",
                argv=child.argv,
            )
