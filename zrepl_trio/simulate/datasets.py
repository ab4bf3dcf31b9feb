"""Which datasets the hosts of a simulation have at first, and what is written to them. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from zrepl_trio.errors import UsageRefused
from zrepl_trio.simulate.hosts import SimulatedHost
from zrepl_trio.simulate.workload import DEFAULT, Workload, WorkloadSpec
from zrepl_trio.zfs.names import DatasetPath, InvalidName

__all__ = ["Initial", "initial_datasets"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Initial:
    """A dataset that is there at first; `workload` None: nothing is written to it."""

    path: DatasetPath
    workload: Workload | None = None
    encrypted: bool = False


def initial_datasets(
    hosts: Sequence[SimulatedHost], specs: Sequence[WorkloadSpec]
) -> dict[str, list[Initial]]:
    """By host: the datasets that filters name, those that `specs` name, and the roots of what is
    received. UsageRefused for a spec that no job has to do with, and for a job that has no dataset."""
    found = {host.name: _named(host) for host in hosts}
    for spec in specs:
        if spec.dataset is not None:
            host = _host_of(spec, hosts)
            found[host.name].setdefault(_path(spec.dataset), DEFAULT)
        elif spec.host is not None and all(spec.host != host.name for host in hosts):
            raise _unknown_host(spec, hosts)
    result = {}
    for host in hosts:
        workloads = found[host.name]
        for spec in sorted(
            specs, key=lambda spec: (spec.dataset is not None, spec.host is not None)
        ):
            for path in workloads:
                if spec.host in {None, host.name} and spec.dataset in {None, path}:
                    workloads[path] = spec.on(workloads[path])
        _check_jobs(host, workloads)
        roots = [DatasetPath.parse(job.root_fs) for job in host.receiving]
        result[host.name] = [
            *(Initial(path=root) for root in dict.fromkeys(roots)),
            *(
                Initial(path=path, workload=workload, encrypted=_encrypted(host, path))
                for path, workload in sorted(_with_parents(host, workloads).items())
            ),
        ]
    return result


def _named(host: SimulatedHost) -> dict[DatasetPath, Workload]:
    """What the filters name and admit, replicas aside: these are not written to."""
    found: dict[DatasetPath, Workload] = {}
    for job in host.sending:
        for pattern, admitted in job.filesystems.entries:
            name = pattern.removesuffix("<")
            if admitted and name and job.filesystems.admits(name):
                path = DatasetPath.parse(name)
                if not _is_replica(host, path):
                    found[path] = DEFAULT
    return found


def _with_parents(
    host: SimulatedHost, workloads: Mapping[DatasetPath, Workload]
) -> dict[DatasetPath, Workload | None]:
    """Also what is above them and must be encrypted, although nothing is written to it."""
    found: dict[DatasetPath, Workload | None] = dict(workloads)
    for path in workloads:
        for above in path.ancestors():
            if _encrypted(host, above):
                found.setdefault(above, None)
    return found


def _is_replica(host: SimulatedHost, path: DatasetPath) -> bool:
    roots = (DatasetPath.parse(job.root_fs) for job in host.receiving)
    return any(path == root or path.is_below(root) for root in roots)


def _encrypted(host: SimulatedHost, path: DatasetPath) -> bool:
    """Whether a job demands that it is."""
    return any(
        job.send.encrypted
        for job in host.sending
        if job.type != "snap" and job.filesystems.admits(path)
    )


def _admitted(host: SimulatedHost, path: str) -> bool:
    return any(job.filesystems.admits(path) for job in host.sending)


def _host_of(spec: WorkloadSpec, hosts: Sequence[SimulatedHost]) -> SimulatedHost:
    assert spec.dataset is not None
    path = _path(spec.dataset)
    chosen = [host for host in hosts if spec.host in {None, host.name}]
    if not chosen:
        raise _unknown_host(spec, hosts)
    having = [host for host in chosen if _admitted(host, path) and not _is_replica(host, path)]
    if not having:
        where = f"on {spec.host}" if spec.host else "on any host"
        raise UsageRefused(
            f"--workload: no job {where} snapshots or sends {path}: see its `filesystems`, and "
            f"`zrepl-trio test filesystems --all`"
        )
    if len(having) > 1:
        names = " or ".join(f"{host.name}:{path}" for host in having)
        raise UsageRefused(f"--workload: {path} is on several hosts: say {names}")
    return having[0]


def _check_jobs(host: SimulatedHost, workloads: Iterable[DatasetPath]) -> None:
    for job in host.sending:
        admitted = [path for path in workloads if job.filesystems.admits(path)]
        replicas = any(
            _is_replica(host, DatasetPath.parse(pattern.removesuffix("<")))
            for pattern, yes in job.filesystems.entries
            if yes and pattern != "<"
        )
        if not admitted and not replicas:
            raise UsageRefused(
                f"{host.path}: the filter of job {job.name!r} names no dataset by itself: name some that "
                f"it admits, as in --workload '{host.name}:POOL/DATASET writes=100MiB'"
            )


def _path(text: str) -> DatasetPath:
    try:
        return DatasetPath.parse(text)
    except InvalidName as error:
        raise UsageRefused(f"--workload: {error}") from None


def _unknown_host(spec: WorkloadSpec, hosts: Sequence[SimulatedHost]) -> UsageRefused:
    return UsageRefused(
        f"--workload: there is no host {spec.host!r}; the hosts are "
        + ", ".join(host.name for host in hosts)
    )
