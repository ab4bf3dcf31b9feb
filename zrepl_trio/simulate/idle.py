"""What was asked for on the command line and changes nothing in a simulation. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime, timedelta, tzinfo

from zrepl_trio.simulate.datasets import Initial
from zrepl_trio.simulate.outages import Outage
from zrepl_trio.simulate.workload import WorkloadSpec

__all__ = ["idle_outages", "idle_workloads"]


def idle_outages(
    outages: Sequence[Outage], start: datetime, lasts_s: int, zone: tzinfo
) -> Iterator[str]:
    """A note for each that never comes between `start` and `lasts_s` seconds later."""
    end = start + timedelta(seconds=lasts_s)
    for outage in outages:
        if not outage.windows(start, end, zone):
            yield (
                f"--outage {outage.text!r} is of no effect: it never comes from {start:%Y-%m-%d %H:%M} to "
                f"{end:%Y-%m-%d %H:%M} UTC"
            )


def idle_workloads(
    specs: Sequence[WorkloadSpec], initial: Mapping[str, Sequence[Initial]]
) -> Iterator[str]:
    """A note for each `*` that is for no dataset: `initial` has those of each host."""
    written = {
        host for host, datasets in initial.items() if any(each.workload for each in datasets)
    }
    for spec in specs:
        if spec.dataset is None and not written & ({spec.host} if spec.host else written):
            where = f"host {spec.host}" if spec.host else "any host"
            yield f"--workload {spec.text!r} is of no effect: nothing is written on {where}"
