"""Which serving job a `connect` section leads to, among the configs that were given. Pure.

A config names its peer by an address, and the peer's config does not have that. So a job is joined to
the one that can be meant: of the other side's kind, by the same transport and port, and, where several
are, of a host with that name. As whom it connects is not in its config either (a key of ssh or TLS says
it, or its address): where the serving job knows several, it is the one with the host's name.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from zrepl_trio.config.model import PullJob, SinkJob, SourceJob
from zrepl_trio.config.transport import (
    Connect,
    LocalConnect,
    LocalServe,
    Serve,
    SshStdinserverConnect,
    StdinserverServe,
    TcpConnect,
    TcpServe,
    TlsConnect,
    TlsServe,
)
from zrepl_trio.errors import Refused
from zrepl_trio.simulate.hosts import ActiveSection, PassiveSection, SimulatedHost

__all__ = ["JOIN_WORDS", "Join", "JoinSpec", "join_all", "parse_join"]

JOIN_WORDS = "HOST/JOB=HOST/JOB[:IDENTITY], such as backup-srv/pull=app-srv/source:backup"


@dataclass(frozen=True, slots=True, kw_only=True)
class Join:
    """The active job `job` of `host` connects to `peer_job` of `peer`, which knows it as `identity`."""

    host: str
    job: str
    peer: str
    peer_job: str
    identity: str

    @property
    def hosts(self) -> frozenset[str]:
        """Both ends; one alone for a link within a host."""
        return frozenset({self.host, self.peer})

    def __str__(self) -> str:
        return f"{self.host}/{self.job} to {self.peer}/{self.peer_job} as {self.identity}"


@dataclass(frozen=True, slots=True, kw_only=True)
class JoinSpec:
    """What one --join says; `identity` None: the only one, or that with the host's name."""

    host: str
    job: str
    peer: str
    peer_job: str
    identity: str | None


def parse_join(text: str) -> JoinSpec:
    """Refused, with what is accepted, for what is none."""
    match = re.fullmatch(r"([^/=:]+)/([^=]+)=([^/=:]+)/([^:]+)(?::(.+))?", text)
    if match is None:
        raise Refused(f"--join {text!r} cannot be read (accepted: {JOIN_WORDS})")
    host, job, peer, peer_job, identity = match.groups()
    return JoinSpec(host=host, job=job, peer=peer, peer_job=peer_job, identity=identity)


def join_all(hosts: Sequence[SimulatedHost], given: Sequence[JoinSpec] = ()) -> list[Join]:
    """A Join for every active job, in the order of hosts and jobs. Refused, with what to do, for one
    whose peer is missing or in doubt, and for a `given` one that fits nothing."""
    left = {(spec.host, spec.job): spec for spec in given}
    joins = []
    for host in hosts:
        for job in host.active:
            spec = left.pop((host.name, job.name), None)
            joins.append(_join(host, job, hosts, spec))
    for spec in left.values():
        raise Refused(
            f"--join: there is no active job {spec.job!r} of a host {spec.host!r}; there are "
            + (", ".join(f"{join.host}/{join.job}" for join in joins) or "none")
        )
    return joins


def _join(
    host: SimulatedHost,
    job: ActiveSection,
    hosts: Sequence[SimulatedHost],
    spec: JoinSpec | None,
) -> Join:
    kind = SourceJob if isinstance(job, PullJob) else SinkJob
    found = [
        (peer, section)
        for peer in hosts
        for section in peer.passive
        if isinstance(section, kind)
        and _may_lead_to(job.connect, section.serve, same_host=peer is host)
    ]
    if spec is not None:
        chosen = [
            (peer, section)
            for peer, section in found
            if (peer.name, section.name) == (spec.peer, spec.peer_job)
        ]
        if not chosen:
            raise Refused(
                f"--join: {host.name}/{job.name} connects by {job.connect.type} and cannot lead to "
                f"{spec.peer}/{spec.peer_job}; what it can: {_listed(found)}"
            )
        found = chosen
    else:
        found = _narrowed(host, job, found)
    if not found:
        raise Refused(_missing(host, job, hosts))
    if len(found) > 1:
        raise Refused(
            f"{host.name}: job {job.name!r} may lead to any of {_listed(found)}: say to which with "
            f"--join {host.name}/{job.name}={found[0][0].name}/{found[0][1].name}"
        )
    ((peer, section),) = found
    identity = spec.identity if spec is not None and spec.identity else None
    return Join(
        host=host.name,
        job=job.name,
        peer=peer.name,
        peer_job=section.name,
        identity=_identity(host, job, peer, section, identity),
    )


def _may_lead_to(connect: Connect, serve: Serve, *, same_host: bool) -> bool:
    match connect, serve:
        case LocalConnect(), LocalServe():
            return same_host and connect.listener_name == serve.listener_name
        case SshStdinserverConnect(), StdinserverServe():
            return True
        case TcpConnect(address=address), TcpServe(listen=listen):
            return address.port == listen.port
        case TlsConnect(address=address), TlsServe(listen=listen):
            return address.port == listen.port
        case _:
            return False


_Found = list[tuple[SimulatedHost, PassiveSection]]


def _narrowed(host: SimulatedHost, job: ActiveSection, found: _Found) -> _Found:
    """Of several, those on a host with the name that the job connects to; else those elsewhere."""
    if len(found) < 2:
        return found
    if isinstance(job.connect, LocalConnect):
        return found[:1]
    target = _target(job)
    named = [each for each in found if _same_name(each[0].name, target)]
    if len(named) == 1:
        return named
    ours = [
        each
        for each in named or found
        if any(_same_name(name, host.name) for name in _identities(each[1]))
    ]
    return ours if len(ours) == 1 else named or found


def _target(job: ActiveSection) -> str:
    match job.connect:
        case SshStdinserverConnect(host=name):
            return name
        case LocalConnect(listener_name=name):
            return name
        case TcpConnect(address=address) | TlsConnect(address=address):
            return address.host


def _same_name(one: str, other: str) -> bool:
    """Whether both mean one host: `app-srv` and `app-srv.example.com` do."""
    return one == other or one.partition(".")[0] == other.partition(".")[0]


def _identities(section: PassiveSection) -> tuple[str, ...]:
    match section.serve:
        case StdinserverServe(client_identities=names) | TlsServe(client_cns=names):
            return names
        case TcpServe(clients=clients):
            return tuple(clients.values())
        case _:
            return ()


def _identity(
    host: SimulatedHost,
    job: ActiveSection,
    peer: SimulatedHost,
    section: PassiveSection,
    given: str | None,
) -> str:
    if isinstance(job.connect, LocalConnect):
        return job.connect.client_identity
    known = _identities(section)
    # the address that takes the star's place is not in a config
    known = tuple(name.replace("*", host.name) for name in known)
    if given is not None:
        if given not in known:
            raise Refused(
                f"--join: {peer.name}/{section.name} knows no {given!r}, but {', '.join(known)}"
            )
        return given
    named = [name for name in known if _same_name(name, host.name)]
    if len(named) == 1 or len(known) == 1:
        return (named or list(known))[0]
    raise Refused(
        f"{host.name}: job {job.name!r} may be any of {', '.join(known)} to {peer.name}/{section.name}: "
        f"say which with --join {host.name}/{job.name}={peer.name}/{section.name}:{known[0]}, or give "
        "the host that name, as in NAME=FILE"
    )


def _listed(found: _Found) -> str:
    return ", ".join(f"{peer.name}/{section.name}" for peer, section in found) or "nothing"


def _missing(host: SimulatedHost, job: ActiveSection, hosts: Sequence[SimulatedHost]) -> str:
    wanted = "source" if isinstance(job, PullJob) else "sink"
    target = _target(job)
    if isinstance(job.connect, LocalConnect):
        return (
            f"{host.path}: job {job.name!r} connects to the local listener {target!r}, which no "
            f"{wanted} job of the same config serves"
        )
    port = "" if isinstance(job.connect, SshStdinserverConnect) else f":{job.connect.address.port}"
    given = ", ".join(each.path for each in hosts)
    return (
        f"{host.path}: job {job.name!r} connects to {target}{port} by {job.connect.type}, but none of "
        f"the configs given ({given}) has a {wanted} job that serves that: give the config of {target} "
        "with --peer FILE"
    )
